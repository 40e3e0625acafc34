package probe

import (
	"encoding/json"
	"fmt"
	"net/http"

	admission "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What the API server calls.
const (
	WebhookPath = "/validate"
	// DenyAnnotation makes the webhook refuse an object, so that a test can tell its answer from none.
	DenyAnnotation = "connectivity.weft.dev/deny"
	APIGroup       = "connectivity.weft.dev"
	APIVersion     = "v1alpha1"
)

// controlPlane serves a validating webhook and a small aggregated API.
func controlPlane() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+WebhookPath, validate)
	answer := func(path string, v any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { write(w, v) })
	}
	gv := metav1.GroupVersionForDiscovery{GroupVersion: APIGroup + "/" + APIVersion, Version: APIVersion}
	group := metav1.APIGroup{Name: APIGroup, Versions: []metav1.GroupVersionForDiscovery{gv}, PreferredVersion: gv}
	answer("/apis", metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{group}})
	group.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
	answer("/apis/"+APIGroup, group)
	base := "/apis/" + APIGroup + "/" + APIVersion
	answer(base, metav1.APIResourceList{
		TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.GroupVersion,
		APIResources: []metav1.APIResource{{Name: "probes", SingularName: "probe", Kind: "Probe", Verbs: metav1.Verbs{"list"}}},
	})
	answer(base+"/probes", map[string]any{
		"kind": "ProbeList", "apiVersion": gv.GroupVersion,
		"items": []any{map[string]any{"kind": "Probe", "apiVersion": gv.GroupVersion, "metadata": map[string]any{"name": Hostname()}}},
	})
	return mux
}

// validate allows every object but those that carry DenyAnnotation.
func validate(w http.ResponseWriter, r *http.Request) {
	var review admission.AdmissionReview
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<20)).Decode(&review); err != nil || review.Request == nil {
		http.Error(w, "found no AdmissionReview with a request", http.StatusBadRequest)
		return
	}
	review.Response = &admission.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	var object metav1.PartialObjectMetadata
	if err := json.Unmarshal(review.Request.Object.Raw, &object); err == nil {
		if _, deny := object.Annotations[DenyAnnotation]; deny {
			review.Response.Allowed = false
			review.Response.Result = &metav1.Status{Message: fmt.Sprintf("denied by %s", Hostname()), Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden}
		}
	}
	review.Request = nil
	write(w, review)
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// A failed write means that the client is gone: nobody to tell.
	_ = json.NewEncoder(w).Encode(v)
}
