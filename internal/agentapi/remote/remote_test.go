package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/weft-cni/weft/internal/agentapi"
)

// commands answers each pod as an agent's container would.
type commands map[string]func(ctx context.Context, path string, stdout, stderr io.Writer) error

func (c commands) run(ctx context.Context, pod string, command []string, stdout, stderr io.Writer) error {
	if want := []string{"/weft-agent", "api", "--hold"}; !slices.Equal(command[:len(command)-1], want) {
		return fmt.Errorf("ran %q, expected %q and a path", command, want)
	}
	return c[pod](ctx, command[len(command)-1], stdout, stderr)
}

type exited int

func (e exited) Error() string   { return fmt.Sprintf("exit %d", int(e)) }
func (e exited) ExitStatus() int { return int(e) }

func pod(name, node string, runs bool) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name, Labels: map[string]string{"app.kubernetes.io/name": "weft-agent"}},
		Spec:       corev1.PodSpec{NodeName: node},
	}
	state := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}
	if runs {
		state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "agent", State: state}}
	return p
}

func TestSelectAndAsk(t *testing.T) {
	kube := fake.NewClientset(pod("weft-1", "n1", true), pod("weft-2", "n2", true), pod("weft-2-old", "n2", false), pod("weft-3", "n3", false), pod("weft-4", "", false))
	a := &Agents{kube: kube, namespace: "kube-system", run: commands{
		"weft-1": func(_ context.Context, path string, stdout, _ io.Writer) error {
			return json.NewEncoder(stdout).Encode(map[string]string{"path": path})
		},
		"weft-2": func(_ context.Context, _ string, _, stderr io.Writer) error {
			if err := json.NewEncoder(stderr).Encode(agentapi.Error{Code: 404, Message: "no such map"}); err != nil {
				return err
			}
			return exited(1)
		},
	}}
	agents, err := a.Select(t.Context(), Flags{})
	if err != nil || len(agents) != 3 || agents[1].Pod != "weft-2" {
		t.Fatalf("agents are %+v, %v; expected one for each of n1, n2 and n3, that on n2 in weft-2", agents, err)
	}
	answers := Ask[map[string]string](t.Context(), a, agents, "/v1/x")
	if got := answers[0]; got.Err != nil || got.Value["path"] != "/v1/x" {
		t.Errorf("n1: %+v", got)
	}
	var told *agentapi.Error
	if got := answers[1]; !errors.As(got.Err, &told) || told.Code != 404 || !strings.Contains(got.Err.Error(), "node n2: no such map") {
		t.Errorf("n2: %+v, expected what its agent told", got.Err)
	}
	if got := answers[2]; !errors.As(got.Err, &told) || told.Code != http.StatusServiceUnavailable {
		t.Errorf("n3: %+v, expected that it doesn't run", got.Err)
	}
	if got, err := a.Select(t.Context(), Flags{Nodes: []string{"n2"}}); err != nil || len(got) != 1 || got[0].Node != "n2" {
		t.Errorf("--node n2: %+v, %v", got, err)
	}
	if _, err := a.Select(t.Context(), Flags{Nodes: []string{"n9"}}); err == nil || !strings.Contains(err.Error(), "n1, n2, n3") {
		t.Errorf("--node n9: %v, expected the names that there are", err)
	}
	empty := &Agents{kube: fake.NewClientset(), namespace: "kube-system"}
	if _, err := empty.List(t.Context()); err == nil || !strings.Contains(err.Error(), "kube-system") {
		t.Errorf("no agents: %v, expected the namespace that was looked in", err)
	}
}

func TestStreamMakesLinesOfPieces(t *testing.T) {
	pieces := []string{"{\"a\":1}\n{\"a\"", ":2}\n", "\n\n{\"a\":3}", "\n"}
	a := &Agents{run: commands{"p": func(ctx context.Context, _ string, stdout, _ io.Writer) error {
		for _, p := range pieces {
			if _, err := io.WriteString(stdout, p); err != nil {
				<-ctx.Done() // as the real one: it is the context that ends it
				return ctx.Err()
			}
		}
		return nil
	}}}
	agent := Agent{Node: "n", Pod: "p", Running: true}
	var got []string
	if err := a.Stream(t.Context(), agent, "/v1/s", func(b []byte) error { got = append(got, string(bytes.Clone(b))); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []string{`{"a":1}`, `{"a":2}`, `{"a":3}`}; !slices.Equal(got, want) {
		t.Errorf("lines are %q, expected %q", got, want)
	}
	full := errors.New("seen enough")
	if err := a.Stream(t.Context(), agent, "/v1/s", func([]byte) error { return full }); !errors.Is(err, full) {
		t.Errorf("a reader's error came back as %v", err)
	}
	pieces = []string{"{\"a\":1}\n{\"a\":"}
	if err := a.Stream(t.Context(), agent, "/v1/s", func([]byte) error { return nil }); err == nil {
		t.Error("half a line was taken for the end")
	}
}
