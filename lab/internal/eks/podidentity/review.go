package podidentity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxReview bounds a request: etcd takes objects of 1.5 MB, and a review holds one or two.
const maxReview = 8 << 20

// accounts finds a service account, or nil if there is none.
type accounts func(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error)

// review answers one AdmissionReview. It never denies: a pod that can't be given its role is still a pod.
func review(ctx context.Context, body []byte, find accounts, region string) (*admissionv1.AdmissionReview, error) {
	var in admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, fmt.Errorf("not an AdmissionReview: %w", err)
	}
	if in.Request == nil || in.APIVersion != admissionv1.SchemeGroupVersion.String() {
		return nil, fmt.Errorf("got kind %q of %q with request %t, expected an AdmissionReview of %s with a request",
			in.Kind, in.APIVersion, in.Request != nil, admissionv1.SchemeGroupVersion)
	}
	answer := &admissionv1.AdmissionResponse{UID: in.Request.UID, Allowed: true}
	out := &admissionv1.AdmissionReview{TypeMeta: in.TypeMeta, Response: answer}
	if in.Request.Resource.Resource != "pods" || in.Request.Operation != admissionv1.Create {
		return out, nil
	}
	var pod corev1.Pod
	if err := json.Unmarshal(in.Request.Object.Raw, &pod); err != nil {
		return nil, fmt.Errorf("request %s: not a pod: %w", in.Request.UID, err)
	}
	name := pod.Spec.ServiceAccountName
	if name == "" {
		name = "default"
	}
	// The pod's own namespace may be empty when it is created; the request's isn't.
	account, err := find(ctx, in.Request.Namespace, name)
	if err != nil {
		answer.Warnings = []string{fmt.Sprintf("pod identity: service account %s/%s: %v; the pod gets no IAM role", in.Request.Namespace, name, err)}
		return out, nil
	}
	if account == nil {
		return out, nil
	}
	operations := Mutate(&pod, account, region)
	if len(operations) == 0 {
		return out, nil
	}
	patch, err := json.Marshal(operations)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", in.Request.UID, err)
	}
	kind := admissionv1.PatchTypeJSONPatch
	answer.Patch, answer.PatchType = patch, &kind
	return out, nil
}

// find looks into the informer first. On a miss it asks once: a service account and its pod are often created
// by the same command, and the informer may not have heard yet.
func (w *Webhook) find(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	account, err := w.lister.ServiceAccounts(namespace).Get(name)
	if err == nil {
		return account, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, err
	}
	account, err = w.cfg.Client.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return account, err
}

// ServeHTTP answers POST /mutate.
func (w *Webhook) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path != mutatePath || r.Method != http.MethodPost {
		http.NotFound(rw, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxReview))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			http.Error(rw, err.Error(), http.StatusRequestEntityTooLarge)
		}
		return // otherwise the client went away
	}
	out, err := review(r.Context(), body, w.find, w.cfg.Region)
	if err != nil {
		w.cfg.Log.Warn("admission review refused", "error", err)
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	for _, warning := range out.Response.Warnings {
		w.cfg.Log.Warn("admission review without a service account", "warning", warning)
	}
	w.reviewed.Do(func() { close(w.asked) })
	rw.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(rw).Encode(out); err != nil {
		w.cfg.Log.Info("admission review not delivered", "error", err)
	}
}
