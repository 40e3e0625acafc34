package clusterconfig

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

func (g nodeGroup) nodeGroup(path string, managed bool, add func(error)) NodeGroup {
	n := NodeGroup{
		Name: g.Name, InstanceType: g.InstanceType, Private: g.PrivateNetworking, Zones: g.AvailabilityZones,
		Labels: g.Labels, Taints: g.Taints, Tags: g.Tags, MaxPods: g.MaxPodsPerNode, Spot: g.Spot, Managed: managed,
	}
	switch {
	case n.Name == "":
		add(problem(path+".name", "is missing"))
	case !groupName.MatchString(n.Name):
		add(problem(path+".name", "found %q, expected a letter or digit and then at most 62 letters, digits, - and _", n.Name))
	}
	if n.InstanceType == "" && len(g.InstanceTypes) > 0 {
		n.InstanceType = g.InstanceTypes[0]
	}
	if n.InstanceType == "" || n.InstanceType == "mixed" {
		n.InstanceType = defaultInstanceType
	}
	if g.DisablePodIMDS {
		n.HopLimit = 1
	}
	if n.MaxPods < 0 {
		add(problem(path+".maxPodsPerNode", "found %d, expected a positive number", n.MaxPods))
	}
	n.Desired, n.Min, n.Max = size(g)
	switch {
	case n.Min < 0:
		add(problem(path+".minSize", "found %d, expected 0 or more", n.Min))
	case g.DesiredCapacity != nil && n.Desired > n.Max:
		add(problem(path+".desiredCapacity", "%d is more than maxSize, %d", n.Desired, n.Max))
	case n.Max < n.Min:
		add(problem(path+".maxSize", "%d is less than minSize, %d", n.Max, n.Min))
	case n.Desired < n.Min || n.Desired > n.Max:
		add(problem(path+".desiredCapacity", "%d isn't between minSize, %d, and maxSize, %d", n.Desired, n.Min, n.Max))
	case n.Desired > maxNodes:
		add(problem(path+".desiredCapacity", "%d is more than the %d nodes that one machine can hold", n.Desired, maxNodes))
	}
	checkLabels(path+".labels", n.Labels, add)
	for i := range n.Taints {
		checkTaint(fmt.Sprintf("%s.taints[%d]", path, i), &n.Taints[i], add)
	}
	return n
}

// maxNodes bounds a typing error: a node costs 70 MB and a second.
const maxNodes = 100

// size is eksctl's: two nodes unless anything is said, and what is not said follows from what is.
func size(g nodeGroup) (desired, least, most int) {
	switch {
	case g.DesiredCapacity != nil:
		desired = *g.DesiredCapacity
	case g.MinSize != nil:
		desired = *g.MinSize
	case g.MaxSize != nil:
		desired = min(defaultNodeCount, *g.MaxSize)
	default:
		desired = defaultNodeCount
	}
	least, most = desired, desired
	if g.MinSize != nil {
		least = *g.MinSize
	}
	if g.MaxSize != nil {
		most = *g.MaxSize
	}
	return desired, least, most
}

func checkLabels(path string, labels map[string]string, add func(error)) {
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if errs := validation.IsQualifiedName(k); len(errs) > 0 {
			add(problem(path, "%q isn't a label's key: %s", k, strings.Join(errs, "; ")))
			continue
		}
		if errs := validation.IsValidLabelValue(labels[k]); len(errs) > 0 {
			add(problem(path+"."+k, "%q isn't a label's value: %s", labels[k], strings.Join(errs, "; ")))
		}
		if !kubeletMaySet(k) {
			add(problem(path+"."+k, "a kubelet may not give itself a label of kubernetes.io or k8s.io but those of node.kubernetes.io and kubelet.kubernetes.io"))
		}
	}
}

// kubeletMaySet is the rule of the NodeRestriction admission plugin and of the kubelet's own start.
func kubeletMaySet(key string) bool {
	domain, _, ok := strings.Cut(key, "/")
	if !ok {
		return true
	}
	within := func(d string) bool { return domain == d || strings.HasSuffix(domain, "."+d) }
	switch {
	case within("node.kubernetes.io"), within("kubelet.kubernetes.io"):
		return true
	case within("kubernetes.io"), within("k8s.io"):
		switch key {
		case "kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", "topology.kubernetes.io/zone", "topology.kubernetes.io/region",
			"beta.kubernetes.io/instance-type", "beta.kubernetes.io/os", "beta.kubernetes.io/arch",
			"failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region":
			return true
		}
		return false
	default:
		return true
	}
}

func checkTaint(path string, t *Taint, add func(error)) {
	if errs := validation.IsQualifiedName(t.Key); len(errs) > 0 {
		add(problem(path+".key", "%q isn't a taint's key: %s", t.Key, strings.Join(errs, "; ")))
	}
	if errs := validation.IsValidLabelValue(t.Value); len(errs) > 0 {
		add(problem(path+".value", "%q isn't a taint's value: %s", t.Value, strings.Join(errs, "; ")))
	}
	switch t.Effect {
	case "NoSchedule", "PreferNoSchedule", "NoExecute":
	default:
		add(problem(path+".effect", "found %q, expected NoSchedule, PreferNoSchedule or NoExecute", t.Effect))
	}
}
