package images

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// account is the one whose registry holds EKS's own images in most regions.
const account = "602401143452"

// Versions of what the images hold; they stand in the tags, as in EKS's.
const (
	PauseVersion   = "3.10"
	CoreDNSVersion = "v1.15.0-eksbuild.1"
	// KubernetesVersion is that of every Kubernetes binary in the lab.
	KubernetesVersion = "v1.36.3"
	KubeProxyVersion  = KubernetesVersion + "-eksbuild.1"
)

// Refs are the names of EKS's own images in a region.
type Refs struct {
	Pause, CoreDNS, KubeProxy string
}

// RefsFor gives the names for a region.
func RefsFor(region string) Refs {
	host := fmt.Sprintf("%s.dkr.ecr.%s.amazonaws.com/eks/", account, region)
	return Refs{
		Pause:     host + "pause:" + PauseVersion,
		CoreDNS:   host + "coredns:" + CoreDNSVersion,
		KubeProxy: host + "kube-proxy:" + KubeProxyVersion,
	}
}

// Pause is the image of every pod's sandbox: one program that sleeps and reaps.
func Pause(binary string) (v1.Image, error) {
	img, err := Build(Spec{
		Files:      []File{{Path: "pause", Source: binary}},
		Entrypoint: []string{"/pause"},
		User:       "65535:65535",
	})
	if err != nil {
		return nil, fmt.Errorf("image pause: %w", err)
	}
	return img, nil
}

// CoreDNS is the image of the cluster's resolver.
func CoreDNS(binary string) (v1.Image, error) {
	img, err := Build(Spec{
		Files: []File{
			{Path: "coredns", Source: binary},
			// EKS's is built on a distribution whose nsswitch reads hosts first; without the file Go does too,
			// but /etc has to be there for the mounts of resolv.conf and hosts.
			{Path: "etc/coredns", Dir: true},
			{Path: "tmp", Dir: true, Mode: 0o1777},
		},
		Entrypoint: []string{"/coredns"},
		WorkingDir: "/",
	})
	if err != nil {
		return nil, fmt.Errorf("image coredns: %w", err)
	}
	return img, nil
}

// KubeProxy is the image that kube-proxy runs on. There is no kube-proxy in it: the node has the binary
// already (one of 145 MB for all of Kubernetes) and its pod mounts it from there, so that no node pulls and
// unpacks it again. Nor is there iptables, which is dynamically linked and differs from one distribution to
// the next: the node's /usr is mounted read-only, and these links make it look like a root file system.
func KubeProxy() (v1.Image, error) {
	img, err := Build(Spec{
		Files: []File{
			{Path: "usr", Dir: true},
			{Path: "bin", Link: "usr/bin"},
			{Path: "sbin", Link: "usr/sbin"},
			{Path: "lib", Link: "usr/lib"},
			{Path: "lib64", Link: "usr/lib64"},
			{Path: "etc/alternatives", Dir: true},
			{Path: "run", Dir: true},
			{Path: "var/run", Link: "../run"},
			{Path: "tmp", Dir: true, Mode: 0o1777},
		},
		Entrypoint: []string{"/opt/weft-lab/kubebox", "kube-proxy"},
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"},
	})
	if err != nil {
		return nil, fmt.Errorf("image kube-proxy: %w", err)
	}
	return img, nil
}
