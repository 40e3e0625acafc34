package operator

import (
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/ec2"
	"github.com/weft-cni/weft/internal/ipam"
)

// Reasons of AddressesAssigned beside EC2's codes.
const (
	reasonAssigned     = "Assigned"
	reasonInProgress   = "InProgress"
	reasonNoInstance   = "InstanceNotFound"
	reasonNotReady     = "InstanceNotRunning"
	reasonFailed       = "Failed"
	reasonNoAnswer     = "NoAnswer"
	reasonReleasing    = "Releasing"
	maxConditionLength = 1024
)

// outcome is how far a node's assignment came.
type outcome struct {
	plan      ipam.Plan
	available int
	demand    int
	limits    ipam.Limits
	subnet    string // of the primary ENI
	typeName  string
	waiting   bool // an attachment is on its way
	foreign   int  // addresses of the primary ENI that are another CNI's
	err       error
}

// condition says it in AddressesAssigned.
func condition(o outcome) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionAddressesAssigned, Status: metav1.ConditionTrue, Reason: reasonAssigned,
		Message: fmt.Sprintf("%d addresses are assigned, the node can hold %d", o.available, o.plan.Capacity)}
	switch {
	case o.err != nil:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, reasonOf(o.err), o.err.Error()
	case o.waiting:
		c.Status, c.Reason = metav1.ConditionUnknown, reasonInProgress
		c.Message = fmt.Sprintf("%d addresses are assigned, an interface is being attached", o.available)
	case o.plan.Shortfall > 0 && o.plan.Reason == ipam.InstanceLimit:
		c.Reason = string(ipam.InstanceLimit)
		c.Message = fmt.Sprintf("%s allows %d interfaces with %d addresses each: the node holds all %d that endpoints can have", o.typeName, o.limits.Interfaces, o.limits.Addresses, o.available)
		if o.demand > 0 {
			c.Status = metav1.ConditionFalse
			c.Message += fmt.Sprintf(", and %d pods wait for one; use a larger instance type or a lower max-pods", o.demand)
		}
	case o.plan.Shortfall > 0:
		c.Status, c.Reason = metav1.ConditionFalse, string(o.plan.Reason)
		c.Message = fmt.Sprintf("%d addresses are lacking: %s and every other subnet that would do are full", o.plan.Shortfall, o.subnet)
		for _, r := range o.plan.Refused {
			c.Message += fmt.Sprintf("; %s isn't used since %s", r.SubnetID, r.Reason)
		}
	}
	if o.foreign > 0 && o.err == nil {
		c.Message += fmt.Sprintf("; %d of its primary interface are another CNI's", o.foreign)
	}
	if len(c.Message) > maxConditionLength {
		c.Message = strings.ToValidUTF8(c.Message[:maxConditionLength], "")
	}
	return c
}

// codedError is a refusal of our own with a reason for the condition.
type codedError struct{ reason, message string }

func (e *codedError) Error() string { return e.message }

// reasonOf an error: EC2's code as it is, where a condition's reason may be spelled so.
func reasonOf(err error) string {
	var own *codedError
	if errors.As(err, &own) {
		return own.reason
	}
	if _, code, ok := ec2.Describe(err); ok {
		if code == "" {
			return reasonNoAnswer
		}
		return strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
				return r
			}
			return '_'
		}, code)
	}
	return reasonFailed
}
