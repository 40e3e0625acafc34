package operator

import (
	"regexp"

	corev1 "k8s.io/api/core/v1"
)

// providerID of an EC2 instance: aws:///us-west-2a/i-0123456789abcdef0. Fargate's has no instance id.
var providerID = regexp.MustCompile(`^aws://[^/]*/([a-z0-9-]*)/(i-[0-9a-f]{8,17})$`)

// instanceOf returns the instance behind a node; ok is false if there is none (yet).
func instanceOf(n *corev1.Node) (id, zone string, ok bool) {
	m := providerID.FindStringSubmatch(n.Spec.ProviderID)
	if m == nil {
		return "", "", false
	}
	return m[2], m[1], true
}
