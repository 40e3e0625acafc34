// Package aws is AWS as the lab has it: one account in one region, behind AWS's own names and protocols.
package aws

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/weft-cni/weft/lab/internal/aws/calllog"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/ec2"
	"github.com/weft-cni/weft/lab/internal/aws/eks"
	"github.com/weft-cni/weft/lab/internal/aws/iam"
	"github.com/weft-cni/weft/lab/internal/aws/oidc"
	"github.com/weft-cni/weft/lab/internal/aws/sts"
	"github.com/weft-cni/weft/lab/internal/aws/throttle"
)

// Emulator is all of AWS's endpoints on one cloud.
type Emulator struct {
	Cloud *cloud.Cloud
	// Calls remembers what was asked.
	Calls *calllog.Log
	// Limiter throttles EC2; it is on.
	Limiter *throttle.Limiter

	services map[string]http.Handler
}

const keptCalls = 100_000

// New puts the endpoints before a cloud.
func New(c *cloud.Cloud, logger *slog.Logger) *Emulator {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	e := &Emulator{Cloud: c, Calls: calllog.New(keptCalls), Limiter: throttle.NewLimiter()}
	e.services = map[string]http.Handler{
		"ec2":      ec2.New(c, e.Calls, logger, e.Limiter).Handler(),
		"sts":      sts.New(c, e.Calls, logger).Handler(),
		"iam":      iam.New(c, e.Calls, logger).Handler(),
		"eks":      eks.New(c, e.Calls, logger).Handler(),
		"oidc.eks": oidc.Handler(c),
	}
	return e
}

// ServeHTTP hands a request to the service that its host names.
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	name, ok := ServiceOf(strings.ToLower(host), e.Cloud.Region())
	service := e.services[name]
	if !ok || service == nil {
		http.Error(w, fmt.Sprintf("the lab has no AWS endpoint %s: it has ec2, eks, iam, oidc.eks and sts in %s", host, e.Cloud.Region()), http.StatusNotFound)
		return
	}
	service.ServeHTTP(w, r)
}

// ServiceOf takes the service out of an endpoint's name: ec2.<region>.amazonaws.com, sts.amazonaws.com,
// ec2.<region>.api.aws.
func ServiceOf(host, region string) (string, bool) {
	for _, suffix := range []string{"." + region + ".amazonaws.com", "." + region + ".api.aws", ".amazonaws.com"} {
		if name, ok := strings.CutSuffix(host, suffix); ok {
			// A global name has no region: iam, and sts as it once was.
			if suffix == ".amazonaws.com" && name != "iam" && name != "sts" {
				return "", false
			}
			return name, true
		}
	}
	return "", false
}

// CertificateNames are the names that the endpoints' certificate needs.
func CertificateNames(region string) []string {
	return []string{
		"*.amazonaws.com", "*." + region + ".amazonaws.com", "oidc.eks." + region + ".amazonaws.com", "*." + region + ".api.aws",
	}
}
