package agent

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/endpoint"
)

// tellStatus writes the node's status when it differs, at most once a second; more often until the node is
// ready, because its taint waits for that.
func (a *agent) tellStatus(ctx context.Context) error {
	var told v1alpha1.NodeNetworkStatus
	var conditions []metav1.Condition
	if nn, _, _ := a.source.get(); nn != nil {
		conditions = ownConditions(nn.Status.Conditions)
	}
	const fast, slow = startEvery, time.Second
	wait := fast
	for {
		status := a.status(&conditions)
		if !reflect.DeepEqual(status, told) {
			err := a.Cluster.ApplyStatus(ctx, status)
			switch {
			case ctx.Err() != nil:
				return nil
			case err != nil:
				a.Log.Warn("status not written", "err", err)
				wait = min(2*max(wait, slow), 30*time.Second)
			default:
				told = status
				if wait = fast; a.ready.Load() {
					wait = slow
				}
			}
		}
		if pause(ctx, wait) != nil {
			return nil
		}
		if wait > slow {
			continue // the last write failed: again without waiting for a change
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.manager.Changed():
		case <-a.tell:
		}
	}
}

// ownConditions are those that the agent writes; with their times, so that a restart is no transition.
func ownConditions(all []metav1.Condition) []metav1.Condition {
	var out []metav1.Condition
	for _, t := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionDatapathReady, v1alpha1.ConditionInterfacesReady} {
		if c := meta.FindStatusCondition(all, t); c != nil {
			out = append(out, *c)
		}
	}
	return out
}

// status is the node's status as of now. conditions carries their times from call to call.
func (a *agent) status(conditions *[]metav1.Condition) v1alpha1.NodeNetworkStatus {
	a.mu.Lock()
	v, rep, rerr, perr := a.view, a.report, a.reconcileErr, a.programsErr
	a.mu.Unlock()
	u := a.manager.Usage()
	s := v1alpha1.NodeNetworkStatus{
		InstanceID: a.instance, ObservedGeneration: v.generation, AgentVersion: a.Version,
		Held: int32(u.Held), Used: int32(u.Used), Waiting: int32(u.Waiting), Resting: int32(u.Resting), Capacity: v.capacity,
		UsedAddresses: usedAddresses(u.Endpoints), Datapath: a.programs.variant(a.device), Fenced: fencedAddresses(u.Fenced),
	}
	s.Datapath.Fallbacks = append(s.Datapath.Fallbacks, a.balance.fallbacks()...)
	s.Datapath.Fallbacks = append(s.Datapath.Fallbacks, a.takeover.all()...)
	s.Datapath.Pacing, s.Datapath.PacingReason = pacing(rep.Found, a.Config.BandwidthManager.Enabled)
	s.UnreachedPeers, s.Unreached = a.unreached()
	for _, c := range []metav1.Condition{
		interfacesCondition(rep.Missing, rerr),
		condition(v1alpha1.ConditionDatapathReady, perr == nil, "Attached", "programs are attached", "ProgramsNotAttached", errText(perr)),
		a.readyCondition(),
	} {
		c.ObservedGeneration = v.generation
		meta.SetStatusCondition(conditions, c)
	}
	s.Conditions = append([]metav1.Condition(nil), *conditions...)
	return s
}

func usedAddresses(eps []endpoint.Endpoint) []v1alpha1.UsedAddress {
	var out []v1alpha1.UsedAddress
	for _, e := range eps {
		out = append(out, v1alpha1.UsedAddress{Address: e.Address.String(), Generation: e.Generation, Pod: e.Pod})
	}
	return out
}

func condition(kind string, ok bool, reason, message, badReason, badMessage string) metav1.Condition {
	if ok {
		return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message}
	}
	return metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: badReason, Message: badMessage}
}

func interfacesCondition(missing []string, err error) metav1.Condition {
	if len(missing) > 0 {
		return condition(v1alpha1.ConditionInterfacesReady, false, "", "", v1alpha1.ReasonInterfaceMissing,
			fmt.Sprintf("assigned, but no device has the MAC of: %s", strings.Join(missing, ", ")))
	}
	return condition(v1alpha1.ConditionInterfacesReady, err == nil, "SetUp", "every assigned interface is set up", "SetUpFailed", errText(err))
}

func (a *agent) readyCondition() metav1.Condition {
	step, reason := a.progress.current()
	if a.ready.Load() {
		return condition(v1alpha1.ConditionReady, true, "Serving", "pods can be made", "", "")
	}
	return condition(v1alpha1.ConditionReady, false, "", "", v1alpha1.ReasonStarting, strings.TrimSuffix(step+": "+reason, ": "))
}

// errText keeps a condition's message within what the API takes.
func errText(err error) string {
	if err == nil {
		return ""
	}
	const most = 1024
	s := err.Error()
	if len(s) > most {
		s = s[:most] + "…"
	}
	return s
}
