package status

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// podTrouble says why a pod doesn't run, and whether it is about to; empty if it runs.
func podTrouble(p *corev1.Pod) (what, do string, coming bool) {
	object := "-n " + p.Namespace + " " + p.Name
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return "is not scheduled because of " + sentence(c.Reason, c.Message), "kubectl describe pod " + object, false
		}
	}
	if p.Status.Phase == corev1.PodFailed {
		return "failed: " + sentence(p.Status.Reason, p.Status.Message), "kubectl describe pod " + object, false
	}
	for _, st := range p.Status.ContainerStatuses {
		w := st.State.Waiting
		if w == nil {
			if t := st.State.Terminated; t != nil {
				return terminated(t), "kubectl logs " + object, false
			}
			continue
		}
		switch w.Reason {
		case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable", "ImageInspectError":
			return fmt.Sprintf("image %s is missing: %s", image(p, st), sentence(w.Reason, w.Message)), "check image.repository and image.tag, that the registry has it and that the node may reach it", false
		case "CrashLoopBackOff":
			what := fmt.Sprintf("crashed %d times", st.RestartCount)
			if t := st.LastTerminationState.Terminated; t != nil {
				what += ", the last time it " + terminated(t)
			}
			return what, "kubectl logs --previous " + object, false
		case "ContainerCreating", "PodInitializing", "":
			return "is being created", "", true
		default:
			return "doesn't start: " + sentence(w.Reason, w.Message), "kubectl describe pod " + object, false
		}
	}
	if len(p.Status.ContainerStatuses) == 0 {
		if p.Spec.NodeName == "" {
			return "is not scheduled yet", "", true
		}
		return "is scheduled, but the kubelet of node " + p.Spec.NodeName + " hasn't begun with it", "kubectl describe pod " + object, true
	}
	return "", "", false
}

func terminated(t *corev1.ContainerStateTerminated) string {
	what := fmt.Sprintf("ended with code %d", t.ExitCode)
	if t.Reason != "" && t.Reason != "Error" {
		what += " (" + t.Reason + ")"
	}
	if line := lastLine(t.Message); line != "" {
		what += ": " + line
	}
	return what
}

// lastLine is what a program said last, which is why it ended.
func lastLine(s string) string {
	s = strings.TrimSpace(s)
	if i := strings.LastIndexByte(s, '\n'); i >= 0 {
		s = s[i+1:]
	}
	if r := []rune(s); len(r) > 300 {
		s = string(r[:297]) + "..."
	}
	return s
}

func image(p *corev1.Pod, st corev1.ContainerStatus) string {
	for _, c := range p.Spec.Containers {
		if c.Name == st.Name {
			return c.Image
		}
	}
	return st.Image
}

// ended: its containers won't run again.
func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func podReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// remedy is what helps against an error of EC2, by its code.
func remedy(code, namespace string) string {
	switch code {
	case "UnauthorizedOperation", "AccessDenied", "AccessDeniedException":
		return "add the action to the IAM policy of the operator's role (eni.iamRole, or the nodes' role if that is empty)"
	case "InsufficientFreeAddressesInSubnet", "InsufficientCidrBlocks":
		return "add a subnet with free addresses in the node's availability zone"
	case "AttachmentLimitExceeded", "PrivateIpAddressLimitExceeded":
		return "the instance type holds no more: use a larger one, or fewer pods on the node"
	case "NetworkInterfaceLimitExceeded", "InterfaceLimitExceeded":
		return "raise the account's quota of network interfaces in the region"
	case "RequestLimitExceeded", "Throttling", "ThrottlingException":
		return "EC2 throttles the account: it is tried again by itself"
	case "NoAnswer", "NoCredentials":
		return "check that the operator's nodes reach EC2, and that it has a role: eni.iamRole, an EKS Pod Identity association, or the nodes' instance role with a metadata hop limit that lets it in"
	case "AuthFailure", "InvalidClientTokenId", "ExpiredToken", "InvalidIdentityToken":
		return "check the operator's credentials: the account needs the cluster's OIDC provider (eksctl utils associate-iam-oidc-provider --cluster CLUSTER --approve), and the role's trust policy must name it and the operator's service account"
	}
	return "kubectl -n " + namespace + " logs deployment/weft-operator"
}
