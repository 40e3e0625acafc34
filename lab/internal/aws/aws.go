// Package aws is AWS as the lab has it: one account in one region, behind AWS's own names and protocols.
package aws

import (
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/weft-cni/weft/lab/internal/aws/calllog"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/ec2"
	"github.com/weft-cni/weft/lab/internal/aws/eks"
	"github.com/weft-cni/weft/lab/internal/aws/fault"
	"github.com/weft-cni/weft/lab/internal/aws/iam"
	"github.com/weft-cni/weft/lab/internal/aws/oidc"
	"github.com/weft-cni/weft/lab/internal/aws/query"
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

	faults   *fault.Table
	services map[string]http.Handler
	// actions of the services that faults can hit.
	actions map[string][]string
}

const keptCalls = 100_000

// New puts the endpoints before a cloud.
func New(c *cloud.Cloud, logger *slog.Logger) *Emulator {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	e := &Emulator{
		Cloud: c, Calls: calllog.New(keptCalls), Limiter: throttle.NewLimiter(),
		faults: &fault.Table{}, services: map[string]http.Handler{}, actions: map[string][]string{},
	}
	for _, s := range []*query.Service{ec2.New(c, e.Calls, logger, e.Limiter), sts.New(c, e.Calls, logger), iam.New(c, e.Calls, logger)} {
		s.Faults = e.faults
		e.services[s.Name] = s.Handler()
		for _, a := range s.Actions {
			e.actions[s.Name] = append(e.actions[s.Name], a.Name)
		}
		slices.Sort(e.actions[s.Name])
	}
	e.services["eks"] = eks.New(c, e.Calls, logger).Handler()
	e.services["oidc.eks"] = oidc.Handler(c)
	return e
}

// SetFault arms a fault for an action of ec2, sts or iam and returns its id.
func (e *Emulator) SetFault(f fault.Fault) (int, error) {
	known := e.actions[f.Service]
	if known == nil {
		return 0, fmt.Errorf("fault: service %q: expected one of %s", f.Service, strings.Join(slices.Sorted(maps.Keys(e.actions)), ", "))
	}
	if !slices.Contains(known, f.Action) {
		return 0, fmt.Errorf("fault: %s has no action %q here: expected one of %s", f.Service, f.Action, strings.Join(known, ", "))
	}
	return e.faults.Set(f)
}

// Faults that are armed, and what they did.
func (e *Emulator) Faults() []fault.Status { return e.faults.List() }

// ReleaseFault lets the calls go on that a fault holds, or every fault's if id is 0, and returns how many.
func (e *Emulator) ReleaseFault(id int) (int, error) { return e.faults.Release(id) }

// ClearFault removes a fault, or all if id is 0, and returns how many.
func (e *Emulator) ClearFault(id int) (int, error) { return e.faults.Clear(id) }

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
