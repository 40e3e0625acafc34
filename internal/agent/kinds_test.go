package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/weft-cni/weft/api/v1alpha1"
)

func TestMissingKinds(t *testing.T) {
	list := func(kinds ...string) *metav1.APIResourceList {
		l := &metav1.APIResourceList{}
		for _, k := range kinds {
			l.APIResources = append(l.APIResources, metav1.APIResource{Kind: k})
		}
		return l
	}
	for name, c := range map[string]struct {
		list *metav1.APIResourceList
		err  error
		want []string
	}{
		"both":        {list: list("NodeNetwork", "ClusterNetwork", "NodeNetwork")},
		"one":         {list: list("NodeNetwork"), want: []string{"no ClusterNetwork of weft.dev/v1alpha1"}},
		"none":        {list: list("EndpointSet"), want: []string{"no NodeNetwork and ClusterNetwork of"}},
		"not served":  {err: apierrors.NewNotFound(schema.GroupResource{}, ""), want: []string{"no NodeNetwork and ClusterNetwork of"}},
		"server away": {err: errors.New("connection refused"), want: []string{"doesn't answer", "connection refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := missingKinds(c.list, c.err)
			if (got == "") != (len(c.want) == 0) {
				t.Fatalf("missingKinds = %q", got)
			}
			for _, w := range c.want {
				if !strings.Contains(got, w) {
					t.Errorf("missingKinds = %q, lacks %q", got, w)
				}
			}
		})
	}
}

// An agent that is there before the definitions waits for them, says so, and sees what comes.
func TestWatchWaitsForKinds(t *testing.T) {
	var served atomic.Bool
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, body any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(body); err != nil {
			t.Error(err)
		}
	}
	mux.HandleFunc("GET /apis/weft.dev/v1alpha1", func(w http.ResponseWriter, _ *http.Request) {
		if !served.Load() {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		answer(w, metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "weft.dev/v1alpha1", APIResources: []metav1.APIResource{
			{Name: "nodenetworks", SingularName: "nodenetwork", Kind: "NodeNetwork", Verbs: []string{"list", "watch"}},
			{Name: "clusternetworks", SingularName: "clusternetwork", Kind: "ClusterNetwork", Verbs: []string{"list", "watch"}},
		}})
	})
	group := metav1.APIGroup{TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}, Name: "weft.dev", Versions: []metav1.GroupVersionForDiscovery{{GroupVersion: "weft.dev/v1alpha1", Version: "v1alpha1"}}, PreferredVersion: metav1.GroupVersionForDiscovery{GroupVersion: "weft.dev/v1alpha1", Version: "v1alpha1"}}
	mux.HandleFunc("GET /apis/weft.dev", func(w http.ResponseWriter, _ *http.Request) { answer(w, group) })
	mux.HandleFunc("GET /apis", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{group}})
	})
	objects := func(list any) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("watch") != "" {
				if r.URL.Query().Get("sendInitialEvents") != "" {
					// As a server that has no streaming lists.
					w.WriteHeader(http.StatusUnprocessableEntity)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return
			}
			answer(w, list)
		}
	}
	tm := func(kind string) metav1.TypeMeta {
		return metav1.TypeMeta{Kind: kind, APIVersion: "weft.dev/v1alpha1"}
	}
	mux.HandleFunc("GET /apis/weft.dev/v1alpha1/nodenetworks", objects(v1alpha1.NodeNetworkList{
		TypeMeta: tm("NodeNetworkList"), ListMeta: metav1.ListMeta{ResourceVersion: "1"},
		Items: []v1alpha1.NodeNetwork{{TypeMeta: tm("NodeNetwork"), ObjectMeta: metav1.ObjectMeta{Name: "n", ResourceVersion: "1"}}},
	}))
	mux.HandleFunc("GET /apis/weft.dev/v1alpha1/clusternetworks", objects(v1alpha1.ClusterNetworkList{
		TypeMeta: tm("ClusterNetworkList"), ListMeta: metav1.ListMeta{ResourceVersion: "1"},
	}))
	srv := httptest.NewServer(mux)
	defer srv.Close()
	k, err := NewKubernetes(&rest.Config{Host: srv.URL}, "n")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	seen, waited, ended := make(chan struct{}, 16), make(chan string, 64), make(chan error, 1)
	go func() {
		ended <- k.Watch(ctx, func(nn *v1alpha1.NodeNetwork, _ *v1alpha1.ClusterNetwork) {
			if nn != nil {
				seen <- struct{}{}
			}
		}, func(reason string) { waited <- reason })
	}()
	select {
	case reason := <-waited:
		if !strings.Contains(reason, "installs the definitions") {
			t.Errorf("waits for %q", reason)
		}
	case err := <-ended:
		t.Fatalf("Watch ended before the definitions came: %v", err)
	}
	served.Store(true)
	select {
	case <-seen:
	case err := <-ended:
		t.Fatalf("Watch ended: %v", err)
	case <-ctx.Done():
		t.Fatal("the object never came")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Watch ends with %v", err)
	}
}
