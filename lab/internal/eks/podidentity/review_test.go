package podidentity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func body(t testing.TB, p *corev1.Pod, change func(*admissionv1.AdmissionReview)) []byte {
	t.Helper()
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	r := &admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "u-1", Namespace: "ns", Operation: admissionv1.Create,
			Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			Object:   runtime.RawExtension{Raw: raw},
		},
	}
	if change != nil {
		change(r)
	}
	out, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// known finds ns/sa with a role, ns/default without, and fails on ns/broken.
func known(_ context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	switch namespace + "/" + name {
	case "ns/sa":
		return account(RoleARN, role), nil
	case "ns/default":
		return account(), nil
	case "ns/broken":
		return nil, errors.New("etcd is away")
	}
	return nil, nil
}

func TestReview(t *testing.T) {
	of := func(account string) *corev1.Pod {
		return pod(func(p *corev1.Pod) { p.Spec.ServiceAccountName = account })
	}
	for name, tt := range map[string]struct {
		body            []byte
		patched, warned bool
	}{
		"role":             {body: body(t, of("sa"), nil), patched: true},
		"no role":          {body: body(t, of("default"), nil)},
		"no account named": {body: body(t, of(""), nil)},
		"unknown account":  {body: body(t, of("other"), nil)},
		"account not read": {body: body(t, of("broken"), nil), warned: true},
		"other namespace":  {body: body(t, of("sa"), func(r *admissionv1.AdmissionReview) { r.Request.Namespace = "other" })},
		"an update":        {body: body(t, of("sa"), func(r *admissionv1.AdmissionReview) { r.Request.Operation = admissionv1.Update })},
		"another resource": {body: body(t, of("sa"), func(r *admissionv1.AdmissionReview) { r.Request.Resource.Resource = "services" })},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := review(context.Background(), tt.body, known, "us-west-2")
			if err != nil {
				t.Fatal(err)
			}
			if !out.Response.Allowed || out.Response.UID != "u-1" || out.APIVersion != "admission.k8s.io/v1" || out.Kind != "AdmissionReview" {
				t.Errorf("answer %+v, expected allowed, with the request's id and the review's type", out)
			}
			if got := len(out.Response.Patch) > 0; got != tt.patched {
				t.Errorf("patched: %t, expected %t", got, tt.patched)
			}
			if (out.Response.PatchType != nil) != tt.patched {
				t.Errorf("patch type %v with patched %t", out.Response.PatchType, tt.patched)
			}
			if got := len(out.Response.Warnings) > 0; got != tt.warned {
				t.Errorf("warnings %v, expected some: %t", out.Response.Warnings, tt.warned)
			}
		})
	}
}

func TestReviewRefuses(t *testing.T) {
	for name, in := range map[string][]byte{
		"empty":         {},
		"not JSON":      []byte("pod"),
		"no request":    body(t, pod(nil), func(r *admissionv1.AdmissionReview) { r.Request = nil }),
		"v1beta1":       body(t, pod(nil), func(r *admissionv1.AdmissionReview) { r.APIVersion = "admission.k8s.io/v1beta1" }),
		"no object":     body(t, pod(nil), func(r *admissionv1.AdmissionReview) { r.Request.Object.Raw = nil }),
		"object no pod": body(t, pod(nil), func(r *admissionv1.AdmissionReview) { r.Request.Object.Raw = []byte(`{"spec":[]}`) }),
	} {
		if out, err := review(context.Background(), in, known, "us-west-2"); err == nil {
			t.Errorf("%s: answered %+v, expected an error", name, out)
		}
	}
}

func TestServeHTTPRefuses(t *testing.T) {
	w := webhook(t)
	for _, tt := range []struct {
		method, path, body string
		want               int
	}{
		{http.MethodGet, "/mutate", "", http.StatusNotFound},
		{http.MethodPost, "/other", "{}", http.StatusNotFound},
		{http.MethodPost, "/mutate", "{}", http.StatusBadRequest},
		{http.MethodPost, "/mutate", strings.Repeat(" ", maxReview+1), http.StatusRequestEntityTooLarge},
	} {
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body)))
		if rec.Code != tt.want {
			t.Errorf("%s %s with %d bytes: status %d, expected %d", tt.method, tt.path, len(tt.body), rec.Code, tt.want)
		}
	}
}

// FuzzReview: whatever arrives, the answer is an error or an admission whose patch fits the pod that came.
func FuzzReview(f *testing.F) {
	f.Add(body(f, pod(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "sa" }), nil))
	f.Add(body(f, pod(func(p *corev1.Pod) {
		p.Spec.ServiceAccountName = "sa"
		p.Spec.InitContainers = []corev1.Container{{Name: "i", Env: env("AWS_REGION", "x")}}
		p.Spec.Volumes = []corev1.Volume{{Name: "v"}}
		p.Annotations = map[string]string{TokenExpiration: "9", SkipContainers: "c"}
	}), nil))
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","request":{"namespace":"ns","operation":"CREATE","resource":{"resource":"pods"},"object":{"spec":{"serviceAccountName":"sa","containers":null}}}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := review(context.Background(), in, known, "us-west-2")
		if err != nil {
			return
		}
		if !out.Response.Allowed {
			t.Fatal("denied")
		}
		if len(out.Response.Patch) == 0 {
			return
		}
		var r admissionv1.AdmissionReview
		if err := json.Unmarshal(in, &r); err != nil {
			t.Fatal(err)
		}
		// The API server sends what it has decoded and encoded itself: never a list that is null, a field
		// given twice or one in another case.
		var p corev1.Pod
		if err := json.Unmarshal(r.Request.Object.Raw, &p); err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		patch, err := jsonpatch.DecodePatch(out.Response.Patch)
		if err != nil {
			t.Fatalf("patch %s: %v", out.Response.Patch, err)
		}
		after, err := patch.Apply(raw)
		if err != nil {
			t.Fatalf("patch %s on %s: %v", out.Response.Patch, raw, err)
		}
		if !bytes.Contains(after, []byte(volumeName)) {
			t.Errorf("patched pod has no token: %s", after)
		}
	})
}
