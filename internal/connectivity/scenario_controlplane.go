package connectivity

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const controlPlaneCause = "the control plane can't reach pod addresses: they aren't addresses of the VPC (overlay), or the security group of the pod's ENI doesn't allow TCP from the cluster's security group"

// answerGrace is what the API server may take, beside the time of an attempt, to say that the attempt failed.
const answerGrace = 2 * time.Second

// settleEvery is how often an attempt asks the API server again.
const settleEvery = 200 * time.Millisecond

// settle asks again while the attempt lasts: the API server hears of the test's webhook and APIService a moment after
// they are made.
func (e *Env) settle(ctx context.Context, ask func(context.Context) Outcome) Outcome {
	ctx, cancel := context.WithTimeout(ctx, e.Timeout+answerGrace)
	defer cancel()
	over := time.NewTimer(e.Timeout)
	defer over.Stop()
	for {
		o := ask(ctx)
		if o.OK {
			return o
		}
		select {
		case <-ctx.Done():
			return o
		case <-over.C:
			return o
		case <-time.After(settleEvery):
		}
	}
}

// webhook: the API server asks an admission webhook in a pod, and takes both its answers.
type webhook struct{}

func (webhook) Name() string       { return "api-server-to-webhook" }
func (webhook) Skip(e *Env) string { return "" }
func (webhook) Actions(e *Env) []Action {
	return []Action{
		{Name: "API server -> webhook in " + e.Webhook.String() + ": admit", Do: func(ctx context.Context) Outcome {
			return e.settle(ctx, func(ctx context.Context) Outcome {
				if err := e.ControlPlane.AskWebhook(ctx, false); err != nil {
					return Outcome{Want: "the object to be admitted", Seen: err.Error(), Cause: controlPlaneCause}
				}
				return Outcome{OK: true}
			})
		}},
		{Name: "API server -> webhook in " + e.Webhook.String() + ": deny", Do: func(ctx context.Context) Outcome {
			return e.settle(ctx, func(ctx context.Context) Outcome {
				err := e.ControlPlane.AskWebhook(ctx, true)
				switch {
				case apierrors.IsForbidden(err):
					return Outcome{OK: true}
				case err == nil:
					return Outcome{Want: "the webhook's denial", Seen: "the object was admitted", Cause: "the API server did not ask the webhook"}
				}
				return Outcome{Want: "the webhook's denial", Seen: err.Error(), Cause: controlPlaneCause}
			})
		}},
	}
}

// aggregatedAPI: the API server serves a resource that a pod answers.
type aggregatedAPI struct{}

func (aggregatedAPI) Name() string       { return "api-server-to-aggregated-api" }
func (aggregatedAPI) Skip(e *Env) string { return "" }
func (aggregatedAPI) Actions(e *Env) []Action {
	return []Action{{Name: "API server -> aggregated API in " + e.Webhook.String(), Do: func(ctx context.Context) Outcome {
		return e.settle(ctx, func(ctx context.Context) Outcome {
			body, err := e.ControlPlane.AskAggregated(ctx)
			if err != nil {
				return Outcome{Want: "a list from the pod", Seen: err.Error(), Cause: controlPlaneCause}
			}
			if !strings.Contains(body, e.Webhook.Name) {
				return Outcome{Want: "a list that names pod " + e.Webhook.Name, Seen: body, Cause: "another server answers for the group"}
			}
			return Outcome{OK: true}
		})
	}}}
}

// logs: the API server reads a pod's log from its node's kubelet, on every node.
type logs struct{}

func (logs) Name() string       { return "api-server-to-kubelet" }
func (logs) Skip(e *Env) string { return "" }
func (logs) Actions(e *Env) []Action {
	var out []Action
	for _, p := range e.Echoes {
		out = append(out, Action{Name: "API server -> log of " + p.String(), Do: func(ctx context.Context) Outcome {
			ctx, cancel := context.WithTimeout(ctx, e.Timeout+answerGrace)
			defer cancel()
			text, err := e.ControlPlane.Logs(ctx, p)
			if err != nil {
				return Outcome{Want: "the pod's log", Seen: err.Error(), Cause: "the control plane can't reach TCP 10250 of the node"}
			}
			if !strings.Contains(text, "serving") {
				return Outcome{Want: "a log in which the probe says that it serves", Seen: fmt.Sprintf("%d bytes of something else", len(text)), Cause: "another container answers"}
			}
			return Outcome{OK: true}
		}})
	}
	return out
}
