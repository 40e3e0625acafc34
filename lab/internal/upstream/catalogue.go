package upstream

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weft-cni/weft/lab/internal/eks/images"
)

const registry = "registry.k8s.io/"

// searchPath is what images that have a shell look for programs in.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// recipe says how an image is made. Its name is the one of the version of Kubernetes that the lab has.
type recipe struct {
	ref string
	// packages are Debian's; busybox stands in for tools that packages don't bring.
	packages []string
	// files are added first, so they go before what packages bring.
	files func(from sources) []images.File
	// entrypoint and cmd are those of the image upstream.
	entrypoint, cmd []string
	user            string
}

// sources is where files come from.
type sources struct {
	// Programs is the folder of built programs.
	Programs string
	// Kubernetes is the source of Kubernetes.
	Kubernetes string
}

func (s sources) program(at, name string) images.File {
	return images.File{Path: at, Source: filepath.Join(s.Programs, name)}
}

// recipes are the images that the tests in [sig-network] use. Upstream builds agnhost on Alpine; the tools are the
// same programs.
func recipes() []recipe {
	const tests = registry + "e2e-test-images/"
	shell := []string{"/bin/sh"}
	return []recipe{
		{
			ref:      tests + "agnhost:2.63.0",
			packages: []string{"busybox-static", "dash", "bash", "curl", "wget", "netcat-openbsd", "iproute2", "bind9-dnsutils", "iperf", "libc-bin", "util-linux"},
			files: func(from sources) []images.File {
				porter := filepath.Join(from.Kubernetes, "test/images/agnhost/porter")
				return []images.File{
					from.program("/agnhost", "agnhost"), {Path: "/agnhost-2", Link: "agnhost"}, from.program("/coredns", "coredns"),
					{Path: "/uploads", Dir: true}, {Path: "/var/registry", Dir: true},
					{Path: "/localhost.crt", Source: filepath.Join(porter, "localhost.crt"), Mode: 0o644},
					{Path: "/localhost.key", Source: filepath.Join(porter, "localhost.key"), Mode: 0o644},
					// Specs expect busybox's wget, which tries once; Debian's dies by a signal if it has a time limit.
					{Path: "/etc/wgetrc", Mode: 0o644, Data: []byte("tries = 1\n")},
					{Path: "/bin/nc", Link: "nc.openbsd"}, {Path: "/usr/local/bin/iperf", Link: "/usr/bin/iperf"},
				}
			},
			entrypoint: []string{"/agnhost"}, cmd: []string{"pause"},
		},
		{ref: tests + "busybox:1.37.0-1", packages: []string{"busybox-static"}, entrypoint: shell},
		{
			ref: tests + "glibc-dns-testing:2.0.0", packages: []string{"busybox-static", "dash", "bind9-dnsutils", "libc-bin", "hostname"}, entrypoint: shell,
			files: func(from sources) []images.File { return []images.File{from.program("/coredns", "coredns")} },
		},
		{
			ref: registry + "build-image/distroless-iptables:v0.9.6", packages: []string{"busybox-static", "dash", "conntrack", "iptables", "nftables", "ipset"},
			files: func(sources) []images.File {
				return []images.File{{Path: "/usr/sbin/iptables", Link: "iptables-nft"}, {Path: "/usr/sbin/ip6tables", Link: "ip6tables-nft"}}
			},
			entrypoint: shell,
		},
		{
			ref: tests + "nginx:1.15-4", packages: []string{"busybox-static", "nginx-light"},
			files: func(sources) []images.File {
				return []images.File{{Path: "/etc/nginx/sites-enabled/default", Link: "../sites-available/default"}, {Path: "/var/lib/nginx", Dir: true}}
			},
			entrypoint: []string{"/usr/sbin/nginx"}, cmd: []string{"-g", "daemon off;"},
		},
		{
			ref: tests + "regression-issue-74839:1.4",
			files: func(from sources) []images.File {
				return []images.File{from.program("/regression-issue-74839", "regression-issue-74839")}
			},
			entrypoint: []string{"/regression-issue-74839"},
		},
		{
			ref:        registry + "pause:3.10.2",
			files:      func(from sources) []images.File { return []images.File{from.program("/pause", "pause")} },
			entrypoint: []string{"/pause"}, user: "65535:65535",
		},
	}
}

// shellOf is what sh is: busybox as Debian builds it prefers its own tools to those of packages, so only an image
// that has no others gets it as its shell.
func shellOf(packages []string) string {
	if slices.Contains(packages, "dash") {
		return "dash"
	}
	return "busybox"
}

// make builds the image.
func (r recipe) make(ctx context.Context, p Packages, from sources) (images.Named, error) {
	root := newRootfs()
	if r.files != nil {
		root.add(r.files(from)...)
	}
	if len(r.packages) > 0 {
		tree, err := p.Tree(ctx, r.packages...)
		if err != nil {
			return images.Named{}, fmt.Errorf("image %s: %w", r.ref, err)
		}
		root.addBase()
		root.add(images.File{Path: "/bin/sh", Link: shellOf(r.packages)})
		if err := root.addTree(tree); err != nil {
			return images.Named{}, fmt.Errorf("image %s: %w", r.ref, err)
		}
		if slices.Contains(r.packages, "busybox-static") {
			listed, err := p.run(ctx, tree, filepath.Join(tree, "bin/busybox"), "--list")
			if err != nil {
				return images.Named{}, fmt.Errorf("image %s: the applets of busybox: %w", r.ref, err)
			}
			root.addApplets(strings.Fields(listed))
		}
	}
	img, err := images.Build(images.Spec{Files: root.files, Entrypoint: r.entrypoint, Cmd: r.cmd, Env: []string{searchPath}, User: r.user, WorkingDir: "/"})
	if err != nil {
		return images.Named{}, fmt.Errorf("image %s: %w", r.ref, err)
	}
	return images.Named{Ref: r.ref, Image: img}, nil
}
