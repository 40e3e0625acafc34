package ec2

import (
	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func terminateInstances() query.Action {
	type change struct {
		ID      string   `xml:"instanceId"`
		Current stateXML `xml:"currentState"`
		Before  stateXML `xml:"previousState"`
	}
	type answer struct {
		Set []change `xml:"instancesSet>item"`
	}
	return query.Action{
		Name:   "TerminateInstances",
		Params: []string{"InstanceId", "Force", "SkipOsShutdown"},
		Needs:  on([2]string{"instance", "InstanceId"}),
		Run: func(call *query.Call) (any, error) {
			ids := call.Params.List("InstanceId")
			if len(ids) == 0 {
				return nil, apierror.New("MissingParameter", "The request must contain the parameter InstanceId")
			}
			for _, id := range ids {
				if err := instanceKind().check(id); err != nil {
					return nil, err
				}
			}
			changes, err := call.Cloud.TerminateInstances(call.Context, ids)
			var out answer
			for _, c := range changes {
				out.Set = append(out.Set, change{ID: c.ID, Current: newState(c.Now), Before: newState(c.Before)})
			}
			return out, err
		},
	}
}
