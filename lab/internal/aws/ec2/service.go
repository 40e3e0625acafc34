// Package ec2 is EC2's API on the model of the cloud: one action, one file.
package ec2

import (
	"log/slog"

	"github.com/weft-cni/weft/lab/internal/aws/calllog"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
	"github.com/weft-cni/weft/lab/internal/aws/throttle"
)

// New makes the service. limiter may be nil: then nothing is throttled.
func New(c *cloud.Cloud, log *calllog.Log, logger *slog.Logger, limiter *throttle.Limiter) *query.Service {
	s := &query.Service{
		Name: "ec2", Version: "2016-11-15", XMLNS: "http://ec2.amazonaws.com/doc/2016-11-15/",
		Cloud: c, Log: log, Logger: logger, Dialect: query.EC2Dialect(), EC2: true, Actions: actions(),
	}
	if limiter != nil {
		s.Throttle = func(call *query.Call) bool {
			return limiter.Take(call.Action, unfiltered(call.Params), c.Now())
		}
	}
	return s
}

// actions is the list of all that there are.
func actions() []query.Action {
	return []query.Action{
		assignPrivateIPAddresses(),
		attachNetworkInterface(),
		authorizeSecurityGroupIngress(),
		createNetworkInterface(),
		createRoute(),
		createTags(),
		deleteNetworkInterface(),
		deleteRoute(),
		deleteTags(),
		describeAvailabilityZones(),
		describeInstances(),
		describeInstanceTypes(),
		describeNetworkInterfaces(),
		describeRouteTables(),
		describeSecurityGroups(),
		describeSubnets(),
		describeTags(),
		describeVPCs(),
		detachNetworkInterface(),
		modifyInstanceMetadataOptions(),
		modifyNetworkInterfaceAttribute(),
		replaceRoute(),
		revokeSecurityGroupIngress(),
		terminateInstances(),
		unassignPrivateIPAddresses(),
	}
}

// unfiltered is a describe that AWS counts as expensive: without filters, ids and pages.
func unfiltered(p *query.Params) bool {
	for _, name := range p.Names() {
		switch name {
		case "Action", "Version", "DryRun":
		default:
			return false
		}
	}
	return true
}

// done is the answer of what only succeeds or fails.
type done struct {
	Return bool `xml:"return"`
}
