package connectivity

import (
	"encoding/base64"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/weft-cni/weft/internal/probe"
)

// Names in the test's namespace.
const (
	labelApp    = "app.kubernetes.io/name"
	labelNode   = "connectivity.weft.dev/node"
	appClient   = "client"
	appEcho     = "echo"
	appHost     = "host"
	appWebhook  = "webhook"
	secretTLS   = "webhook-tls"
	labelJudged = "connectivity.weft.dev/judged"
)

// daemonSet runs weft-probe on every node, on the pod network or the host's.
func daemonSet(ns, app, image string, hostNetwork bool, port int32) *appsv1.DaemonSet {
	c := container(image, port)
	labels := map[string]string{labelApp: app}
	grace := int64(1)
	rolling := intstr.FromString("100%")
	return &appsv1.DaemonSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"},
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: app, Labels: labels},
		Spec: appsv1.DaemonSetSpec{
			Selector:       &metav1.LabelSelector{MatchLabels: labels},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &rolling}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{HostNetwork: hostNetwork, TerminationGracePeriodSeconds: &grace, Containers: []corev1.Container{c}},
			},
		},
	}
}

// webhookDeployment is the one pod that the API server calls.
func webhookDeployment(ns, image string) *appsv1.Deployment {
	c := container(image, echoPort)
	c.Args = append(c.Args, "--tls", fmt.Sprintf(":%d", tlsPort), "--cert", "/tls/tls.crt", "--key", "/tls/tls.key")
	c.VolumeMounts = []corev1.VolumeMount{{Name: "tls", MountPath: "/tls", ReadOnly: true}}
	labels := map[string]string{labelApp: appWebhook}
	one, grace := int32(1), int64(1)
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: appWebhook, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &one,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: &grace, Containers: []corev1.Container{c},
					Volumes: []corev1.Volume{{Name: "tls", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secretTLS}}}},
				},
			},
		},
	}
}

func container(image string, port int32) corev1.Container {
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
	}
	no := false
	return corev1.Container{
		Name: "probe", Image: image, Args: []string{"serve", "--http", fmt.Sprintf(":%d", port)},
		Env: []corev1.EnvVar{field("POD_NAME", "metadata.name"), field("NODE_NAME", "spec.nodeName")},
		ReadinessProbe: &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(port)}},
			PeriodSeconds: 1, FailureThreshold: 1, TimeoutSeconds: 2,
		},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: &no,
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_RAW"}},
		},
	}
}

// services in front of one echo pod: both policies for traffic from outside.
func services(ns string, echo Pod, n int) []*corev1.Service {
	make1 := func(name string, policy corev1.ServiceExternalTrafficPolicy) *corev1.Service {
		return &corev1.Service{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{labelApp: appEcho}},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeNodePort, ExternalTrafficPolicy: policy,
				Selector: map[string]string{labelApp: appEcho, labelNode: nodeLabel(echo.Node)},
				Ports:    []corev1.ServicePort{{Name: "http", Port: echoPort, TargetPort: intstr.FromInt32(echoPort)}},
			},
		}
	}
	return []*corev1.Service{
		make1(fmt.Sprintf("echo-%d", n), corev1.ServiceExternalTrafficPolicyCluster),
		make1(fmt.Sprintf("echo-%d-local", n), corev1.ServiceExternalTrafficPolicyLocal),
	}
}

// nodeLabel is a node's name as a label value: at most 63 characters, its end being what differs.
func nodeLabel(node string) string {
	if len(node) <= 63 {
		return node
	}
	return "x" + node[len(node)-62:]
}

func tlsService(ns string) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: appWebhook},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{labelApp: appWebhook},
			Ports:    []corev1.ServicePort{{Name: "tls", Port: 443, TargetPort: intstr.FromInt32(tlsPort)}},
		},
	}
}

func tlsSecret(ns string, cert, key []byte) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: secretTLS},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key},
	}
}

// webhookSeconds is the time of one attempt as a webhook configuration can say it: 1 to 30 whole seconds.
func webhookSeconds(attempt time.Duration) int64 {
	return int64(min(max((attempt+time.Second-1)/time.Second, 1), 30))
}

// clusterObjects are the webhook's configuration and the APIService. The namespace owns them, so that removing
// it removes them too.
func clusterObjects(ns *corev1.Namespace, ca []byte, attempt time.Duration) []*unstructured.Unstructured {
	owner := []any{map[string]any{"apiVersion": "v1", "kind": "Namespace", "name": ns.Name, "uid": string(ns.UID)}}
	bundle := base64.StdEncoding.EncodeToString(ca)
	hook := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
		"metadata": map[string]any{"name": "connectivity." + ns.Name + ".weft.dev", "ownerReferences": owner},
		"webhooks": []any{map[string]any{
			"name": "judge." + probe.APIGroup, "failurePolicy": "Fail", "sideEffects": "None", "timeoutSeconds": webhookSeconds(attempt),
			"admissionReviewVersions": []any{"v1"},
			"namespaceSelector":       map[string]any{"matchLabels": map[string]any{corev1.LabelMetadataName: ns.Name}},
			"objectSelector":          map[string]any{"matchLabels": map[string]any{labelJudged: "true"}},
			"clientConfig": map[string]any{
				"caBundle": bundle,
				"service":  map[string]any{"namespace": ns.Name, "name": appWebhook, "path": probe.WebhookPath, "port": int64(443)},
			},
			"rules": []any{map[string]any{"apiGroups": []any{""}, "apiVersions": []any{"v1"}, "operations": []any{"CREATE"}, "resources": []any{"configmaps"}}},
		}},
	}}
	api := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
		"metadata": map[string]any{"name": probe.APIVersion + "." + probe.APIGroup, "ownerReferences": owner},
		"spec": map[string]any{
			"group": probe.APIGroup, "version": probe.APIVersion, "groupPriorityMinimum": int64(100), "versionPriority": int64(100),
			"caBundle": bundle,
			"service":  map[string]any{"namespace": ns.Name, "name": appWebhook, "port": int64(443)},
		},
	}}
	return []*unstructured.Unstructured{hook, api}
}
