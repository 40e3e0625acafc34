package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/lab/internal/cgroup"
	"github.com/weft-cni/weft/lab/internal/labstate"
	"github.com/weft-cni/weft/lab/internal/netns"
	"github.com/weft-cni/weft/lab/internal/node"
)

func (a *app) execCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "exec NODE -- COMMAND [ARGUMENT...]",
		Short: "Run a command on a node",
		Long: `Enters all of the node's namespaces and its control group. COMMAND is looked up on the node, which has this
machine's /usr and the lab's programs (crictl's place is taken by ctr) in /opt/weft-lab. NODE can be "cp", "vpc",
"inet" or "xeni": then only that network namespace is entered.`,
		Example: `  lab exec i-0123456789abcdef0 -- ip route
  lab exec ip-192-168-1-2.us-west-2.compute.internal -- ctr -n k8s.io containers list
  lab exec vpc -- nft list ruleset`,
		Args:              atLeast(2, "NODE -- COMMAND"),
		ValidArgsFunction: a.completeNodes,
		RunE: func(_ *cobra.Command, args []string) error {
			lab, r, err := a.existing()
			if err != nil {
				return err
			}
			if err := needRoot(); err != nil {
				return err
			}
			if slices.Contains([]string{"cp", "vpc", "inet", "xeni"}, args[0]) {
				return enterNetns(lab.Netns(args[0]), args[1:])
			}
			n, ok := r.Find(args[0])
			if !ok {
				var names []string
				for _, k := range r.Nodes {
					names = append(names, k.Name)
				}
				return fmt.Errorf("exec: no node %q; there are: %s", args[0], strings.Join(names, ", "))
			}
			return enterNode(lab, n, args[1:])
		},
	}
}

// enterNode becomes the command. nsenter forks for the process namespace and hands signals and the exit
// code through.
func enterNode(lab labstate.Lab, n labstate.Node, command []string) error {
	pid, err := node.PID(lab, n.InstanceID)
	if err != nil {
		return err
	}
	group, err := cgroup.Create(filepath.Join(lab.Cgroup(n.InstanceID), "system"))
	if err != nil {
		return err
	}
	if err := group.Join(os.Getpid()); err != nil {
		return err
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return fmt.Errorf("exec: %w: install util-linux", err)
	}
	args := append([]string{"nsenter", "--target", fmt.Sprint(pid), "--all", "--root", "--wd", "--"}, command...)
	env := []string{
		"PATH=/opt/weft-lab:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "HOME=/root", "TERM=" + os.Getenv("TERM"),
		"CONTAINERD_NAMESPACE=k8s.io", "KUBECONFIG=/var/lib/kubelet/kubeconfig",
	}
	return fmt.Errorf("exec: %w", unix.Exec(nsenter, args, env))
}

func enterNetns(name string, command []string) error {
	return inNetns(name, func() error {
		path, err := exec.LookPath(command[0])
		if err != nil {
			return fmt.Errorf("exec: %w", err)
		}
		return fmt.Errorf("exec: %w", unix.Exec(path, command, os.Environ()))
	})
}

// inNetns runs become on a thread in the namespace; become executes another program and returns only if it
// can't.
func inNetns(name string, become func() error) error {
	runtime.LockOSThread()
	ns, err := netns.Open(name)
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", name, err)
	}
	return become()
}

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run -- COMMAND [ARGUMENT...]",
		Short: "Run a command on the lab's internet, as a person at a workstation",
		Long: `Runs a command of this machine in the lab's "internet" namespace: AWS' names lead to the lab, its
certificates are trusted, and there is no way to the real internet. Credentials are the lab's administrator's unless
AWS_ACCESS_KEY_ID is set.`,
		Example: `  lab run -- aws sts get-caller-identity
  lab run -- curl http://198.51.100.80/`,
		Args: atLeast(1, "-- COMMAND"),
		RunE: func(_ *cobra.Command, args []string) error {
			lab, r, err := a.existing()
			if err != nil {
				return err
			}
			if err := needRoot(); err != nil {
				return err
			}
			return becomeWorkstation(lab, r, args)
		},
	}
}

const machineCertificates = "/etc/ssl/certs/ca-certificates.crt"

func becomeWorkstation(lab labstate.Lab, r labstate.Record, command []string) error {
	group, err := cgroup.Create(lab.Cgroup("run"))
	if err != nil {
		return err
	}
	if err := group.Join(os.Getpid()); err != nil {
		return err
	}
	return inNetns(lab.Netns("inet"), func() error {
		// The thread's own root and mounts: other threads of this process keep theirs until they are gone.
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("run: mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return fmt.Errorf("run: mount namespace: %w", err)
		}
		for _, m := range [][2]string{{lab.ResolvConf(), "/etc/resolv.conf"}, {lab.CABundle(), machineCertificates}} {
			if err := bind(m[0], m[1]); err != nil {
				return err
			}
		}
		path, err := exec.LookPath(command[0])
		if err != nil {
			return fmt.Errorf("run: %w", err)
		}
		return fmt.Errorf("run: %w", unix.Exec(path, command, workstationEnv(os.Environ(), lab, r)))
	})
}

// bind puts a file over another. /etc/resolv.conf may be a link: what it leads to is covered.
func bind(source, target string) error {
	real, err := filepath.EvalSymlinks(target)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the machine has no such file; what runs finds the lab's by the environment
	}
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	if err := unix.Mount(source, real, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("run: mount %s: %w", target, err)
	}
	return nil
}

// workstationEnv points the AWS SDKs at the lab: its certificates always, its credentials unless others are
// given.
func workstationEnv(env []string, lab labstate.Lab, r labstate.Record) []string {
	given := map[string]bool{}
	var out []string
	for _, e := range env {
		k, v, _ := strings.Cut(e, "=")
		switch k {
		case "AWS_CA_BUNDLE", "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy":
			continue
		}
		given[k] = v != ""
		out = append(out, e)
	}
	add := func(k, v string) {
		if !given[k] {
			out = append(out, k+"="+v)
		}
	}
	add("AWS_CA_BUNDLE", lab.CABundle())
	add("SSL_CERT_FILE", lab.CABundle())
	add("KUBECONFIG", lab.Kubeconfig())
	add("AWS_DEFAULT_REGION", r.Region)
	add("AWS_REGION", r.Region)
	add("AWS_PAGER", "")
	if !given["AWS_ACCESS_KEY_ID"] && !given["AWS_PROFILE"] && !given["AWS_WEB_IDENTITY_TOKEN_FILE"] {
		add("AWS_ACCESS_KEY_ID", r.Admin.AccessKeyID)
		add("AWS_SECRET_ACCESS_KEY", r.Admin.SecretAccessKey)
	}
	return out
}

// quote makes a word that a shell takes as it is.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
