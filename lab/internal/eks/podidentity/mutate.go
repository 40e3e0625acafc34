// Package podidentity is EKS's pod identity webhook: pods whose service account names an IAM role get the
// token and the environment by which AWS's SDKs assume it.
package podidentity

import (
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Annotations of service accounts and pods that the webhook reads.
const (
	RoleARN          = "eks.amazonaws.com/role-arn"
	Audience         = "eks.amazonaws.com/audience"
	RegionalSTS      = "eks.amazonaws.com/sts-regional-endpoints"
	TokenExpiration  = "eks.amazonaws.com/token-expiration"
	SkipContainers   = "eks.amazonaws.com/skip-containers"
	skipWebhookLabel = "eks.amazonaws.com/skip-pod-identity-webhook"
)

const (
	volumeName        = "aws-iam-token"
	mountPath         = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
	tokenFile         = "token"
	defaultAudience   = "sts.amazonaws.com"
	defaultExpiration = 86400
	// Kubernetes refuses tokens of less than ten minutes; the webhook's own bound is an hour, silently applied.
	minExpiration = 3600
	maxExpiration = 86400
)

// Operation is one step of a JSON patch.
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// Mutate returns what must be added to a pod so that it can be the role that its service account names: nothing
// if that names none. What the pod sets itself is left as it is.
func Mutate(pod *corev1.Pod, account *corev1.ServiceAccount, region string) []Operation {
	role := account.Annotations[RoleARN]
	if role == "" || slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == volumeName }) {
		return nil
	}
	skip := skipped(pod.Annotations[SkipContainers])
	in := identity{role: role, region: region, regional: account.Annotations[RegionalSTS] != "false"}
	var out []Operation
	for _, group := range []struct {
		path       string
		containers []corev1.Container
	}{
		{"/spec/initContainers", pod.Spec.InitContainers},
		{"/spec/containers", pod.Spec.Containers},
	} {
		for i, c := range group.containers {
			if !skip[c.Name] {
				out = append(out, in.container(group.path+"/"+strconv.Itoa(i), c)...)
			}
		}
	}
	return append(out, volume(pod, account))
}

// identity is what the containers of one pod are told.
type identity struct {
	role, region string
	regional     bool
}

// container gives the operations for one container.
func (in identity) container(at string, c corev1.Container) []Operation {
	has := func(names ...string) bool {
		return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return slices.Contains(names, e.Name) })
	}
	var env []corev1.EnvVar
	if in.regional && !has("AWS_STS_REGIONAL_ENDPOINTS") {
		env = append(env, corev1.EnvVar{Name: "AWS_STS_REGIONAL_ENDPOINTS", Value: "regional"})
	}
	// Each pair goes together: half of one's own and half of ours would be a third thing.
	if in.region != "" && !has("AWS_REGION", "AWS_DEFAULT_REGION") {
		env = append(env, corev1.EnvVar{Name: "AWS_DEFAULT_REGION", Value: in.region}, corev1.EnvVar{Name: "AWS_REGION", Value: in.region})
	}
	if !has("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE") {
		env = append(env, corev1.EnvVar{Name: "AWS_ROLE_ARN", Value: in.role},
			corev1.EnvVar{Name: "AWS_WEB_IDENTITY_TOKEN_FILE", Value: path.Join(mountPath, tokenFile)})
	}
	out := appendAll(at+"/env", len(c.Env), env)
	if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
		return m.Name == volumeName || path.Clean(m.MountPath) == mountPath // two mounts on one path are refused
	}) {
		return out
	}
	mount := corev1.VolumeMount{Name: volumeName, MountPath: mountPath, ReadOnly: true}
	return append(out, appendAll(at+"/volumeMounts", len(c.VolumeMounts), []corev1.VolumeMount{mount})...)
}

func volume(pod *corev1.Pod, account *corev1.ServiceAccount) Operation {
	audience := account.Annotations[Audience]
	if audience == "" {
		audience = defaultAudience
	}
	seconds := expiration(pod.Annotations[TokenExpiration], account.Annotations[TokenExpiration])
	v := corev1.Volume{Name: volumeName, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
			Audience:          audience,
			ExpirationSeconds: &seconds,
			Path:              tokenFile,
		}}},
	}}}
	return appendAll("/spec/volumes", len(pod.Spec.Volumes), []corev1.Volume{v})[0]
}

// appendAll adds values to the end of a list that has so many elements already; JSON patch can't append to a
// list that isn't there.
func appendAll[T any](list string, have int, values []T) []Operation {
	if len(values) == 0 {
		return nil
	}
	if have == 0 {
		return []Operation{{Op: "add", Path: list, Value: values}}
	}
	var out []Operation
	for _, v := range values {
		out = append(out, Operation{Op: "add", Path: list + "/-", Value: v})
	}
	return out
}

// expiration is the first of the annotations that is a number, within bounds.
func expiration(annotations ...string) int64 {
	for _, a := range annotations {
		if n, err := strconv.ParseInt(strings.TrimSpace(a), 10, 64); err == nil {
			return min(max(n, minExpiration), maxExpiration)
		}
	}
	return defaultExpiration
}

func skipped(annotation string) map[string]bool {
	out := map[string]bool{}
	for name := range strings.SplitSeq(annotation, ",") {
		if name = strings.TrimSpace(name); name != "" {
			out[name] = true
		}
	}
	return out
}
