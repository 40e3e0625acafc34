package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	authv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/kube"
	"github.com/weft-cni/weft/internal/status"
)

// inside tells the test that it is in a network namespace of its own.
const inside = "WEFT_TEST_NAMESPACE"

// kubebox finds the lab's Kubernetes binary: $WEFT_KUBEBOX, or the newest in the lab's cache.
func kubebox(t *testing.T) string {
	if path := os.Getenv("WEFT_KUBEBOX"); path != "" {
		return path
	}
	cache := os.Getenv("WEFT_CACHE")
	if cache == "" {
		home, _ := os.UserHomeDir()
		cache = filepath.Join(home, ".cache", "weft")
	}
	found, _ := filepath.Glob(filepath.Join(cache, "kubebox-*"))
	newest, when := "", time.Time{}
	for _, path := range found {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o100 != 0 && info.ModTime().After(when) {
			newest, when = path, info.ModTime()
		}
	}
	if newest == "" {
		t.Skip("no Kubernetes binary: run lab assets, or set WEFT_KUBEBOX")
	}
	return newest
}

// TestAPIServer installs into a real API server, in a network namespace of the test's own.
func TestAPIServer(t *testing.T) {
	if testing.Short() {
		t.Skip("short: starts an API server")
	}
	if os.Geteuid() != 0 {
		t.Skip("not root: makes a network namespace")
	}
	box := kubebox(t)
	if os.Getenv(inside) == "" {
		name := fmt.Sprintf("weft-test-%d", os.Getpid())
		ip := func(args ...string) {
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				t.Fatalf("ip %v: %v: %s", args, err, out)
			}
		}
		ip("netns", "add", name)
		t.Cleanup(func() { ip("netns", "del", name) })
		ip("-n", name, "link", "set", "lo", "up")
		again := exec.Command("ip", "netns", "exec", name, os.Args[0], "-test.run", "^TestAPIServer$", "-test.v", "-test.timeout", "5m")
		again.Env = append(os.Environ(), inside+"="+name, "WEFT_KUBEBOX="+box)
		out, err := again.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
		return
	}
	server := startServer(t, box)
	admin := server.flags(t, "admin")
	c, err := admin.Connect()
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	var out bytes.Buffer
	install := func(flags kube.Flags, sets ...string) error {
		out.Reset()
		return Install(ctx, Options{Cluster: flags, Values: ValueFlags{Set: sets}, Out: &out, Manifest: &out})
	}
	refused := func(want string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("found %v, expected %q in it\n%s", err, want, out.String())
		}
		if secrets, err := c.Kube.CoreV1().Secrets("kube-system").List(ctx, metav1.ListOptions{LabelSelector: "owner=helm"}); err != nil || len(secrets.Items) != 0 {
			t.Fatalf("a refused install left %d releases, %v", len(secrets.Items), err)
		}
	}

	refused("the cluster has no nodes", install(admin, "cluster.name=c1"))
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	must(t, c.Objects.Create(ctx, node))
	refused("the cluster is not EKS: of 1 nodes none", install(admin, "cluster.name=c1"))
	node.Spec.ProviderID = "aws:///us-west-2a/i-0123"
	node.Labels = map[string]string{"alpha.eksctl.io/cluster-name": "labelled"}
	must(t, c.Objects.Update(ctx, node))
	refused("nodes is forbidden", install(server.flags(t, "nobody"), "cluster.name=c1"))
	must(t, c.Objects.Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "reader"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "reader"}}}))
	must(t, c.Objects.Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		Rules: []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"get", "list"}}}}))
	eventually(t, "the reader may read", func() error {
		r, err := server.flagsClient(t, "reader")
		if err != nil {
			return err
		}
		_, err = r.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		return err
	})
	refused("you lack rights in this cluster: create clusterrolebindings.rbac.authorization.k8s.io in the cluster", install(server.flags(t, "reader"), "cluster.name=c1", "k8sServiceHost=api.example.com"))

	t.Run("without kube-proxy", func(t *testing.T) {
		refused("the API server's name is missing", install(admin, "cluster.name=c1"))
		refused("--remove-kube-proxy: weft is not to take its place", Install(ctx, Options{Cluster: admin, Values: ValueFlags{Set: []string{"cluster.name=c1", "kubeProxyReplacement=false"}}, RemoveKubeProxy: true, Out: &out, Manifest: &out}))
		kubeconfig := "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: k}}], clusters: [{name: k, cluster: {server: 'https://api.example.com'}}]}"
		must(t, c.Objects.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-proxy"}, Data: map[string]string{"kubeconfig": kubeconfig}}))
		out.Reset()
		err := Install(ctx, Options{Cluster: admin, Values: ValueFlags{Set: []string{"cluster.name=c1"}}, DryRun: true, Out: &out, Manifest: &out})
		for _, line := range []string{"kube-proxy: not found, so weft serves all services", "API server for weft's own pods: api.example.com:443 (from ConfigMap kube-system/kube-proxy)", "kubeProxyReplacement: true"} {
			if err != nil || !strings.Contains(out.String(), line) {
				t.Errorf("found %v\n%s\nexpected %q in it", err, out.String(), line)
			}
		}
	})

	if err := install(admin, "kubeProxyReplacement=disabled"); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, line := range []string{"cluster: EKS, Kubernetes v", "cluster.name: labelled (from the nodes' label", "datapath mode aws-eni", "helm install weft oci://", "made DaemonSet kube-system/weft", "made Deployment kube-system/weft-operator", "sh.helm.release.v1.weft.v1"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("found\n%s\nexpected %q in it", out.String(), line)
		}
	}
	if err := install(admin, "cluster.name=c1"); err == nil || !strings.Contains(err.Error(), "installed already") {
		t.Errorf("a second install: %v", err)
	}
	cm, err := c.Kube.CoreV1().ConfigMaps("kube-system").Get(ctx, config.ConfigMap, metav1.GetOptions{})
	must(t, err)
	if parsed, err := config.Parse([]byte(cm.Data[config.Key])); err != nil || parsed.Cluster.Name != "labelled" {
		t.Errorf("the configuration is of %q, %v", parsed.Cluster.Name, err)
	}
	snapshot, err := status.Collect(ctx, c, "kube-system")
	must(t, err)
	if r := status.Evaluate(snapshot); r.OK(true) || snapshot.Agent == nil || snapshot.Operator == nil || !snapshot.NoResources || !snapshot.OwnNodeOnly {
		t.Errorf("status of an install without kubelets: %+v", r)
	}
	server.applyCRDs(t, c)
	t.Run("rights", func(t *testing.T) { testRights(t, server, c) })
	t.Run("own node", func(t *testing.T) { testOwnNode(t, server, c) })
	t.Run("name", func(t *testing.T) {
		cn := &v1alpha1.ClusterNetwork{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClusterNetworkName}, Spec: v1alpha1.ClusterNetworkSpec{ClusterName: "labelled"}}
		must(t, c.Objects.Create(ctx, cn))
		cn.Spec.ClusterName = "other"
		if err := c.Objects.Update(ctx, cn); !apierrors.IsInvalid(err) {
			t.Errorf("the cluster was renamed: %v", err)
		}
	})
	// No kubelet ever runs the Jobs: each step gives up after its time, and what can go goes.
	out.Reset()
	err = Uninstall(ctx, UninstallOptions{Cluster: admin, Timeout: time.Second, Out: &out})
	if !errors.Is(err, ErrLeftBehind) || !strings.Contains(out.String(), "not done: waited 1s until the pod of Job weft-release ends") {
		t.Errorf("uninstall: %v\n%s", err, out.String())
	}
	for _, name := range []string{"weft", "weft-operator"} {
		if err := c.Objects.Get(ctx, client.ObjectKey{Name: name}, &rbacv1.ClusterRole{}); !apierrors.IsNotFound(err) {
			t.Errorf("ClusterRole %s: %v", name, err)
		}
	}
	eventually(t, "weft's resources are gone", func() error {
		for _, name := range []string{"nodenetworks.weft.dev", "clusternetworks.weft.dev"} {
			if err := c.Objects.Get(ctx, client.ObjectKey{Name: name}, &apiextv1.CustomResourceDefinition{}); !apierrors.IsNotFound(err) {
				return fmt.Errorf("%s: %w", name, errors.Join(err, errors.New("is still there")))
			}
		}
		return nil
	})
	eventually(t, "it can be installed again under another name", func() error { return install(admin, "cluster.name=c2") })
}

// testRights asks the API server itself what the chart's roles allow.
func testRights(t *testing.T, s *server, c *kube.Client) {
	allowed := func(user, verb, group, resource, sub, namespace, name string) bool {
		t.Helper()
		review, err := c.Kube.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authv1.SubjectAccessReview{Spec: authv1.SubjectAccessReviewSpec{
			User: "system:serviceaccount:kube-system:" + user, Groups: []string{"system:authenticated", "system:serviceaccounts"},
			ResourceAttributes: &authv1.ResourceAttributes{Verb: verb, Group: group, Resource: resource, Subresource: sub, Namespace: namespace, Name: name}}}, metav1.CreateOptions{})
		must(t, err)
		return review.Status.Allowed
	}
	for _, test := range []struct {
		user, verb, group, resource, sub, namespace, name string
		want                                              bool
	}{
		{"weft", "watch", "weft.dev", "nodenetworks", "", "", "n1", true},
		{"weft", "patch", "weft.dev", "nodenetworks", "status", "", "n1", true},
		{"weft", "patch", "weft.dev", "nodenetworks", "", "", "n1", false},
		{"weft", "patch", "weft.dev", "clusternetworks", "status", "", "default", false},
		{"weft", "create", "", "events", "", "default", "", true},
		{"weft", "get", "", "secrets", "", "kube-system", "", false},
		{"weft", "patch", "", "nodes", "", "", "n1", false},
		{"weft", "list", "", "pods", "", "default", "", false},
		{"cilium-operator", "patch", "", "nodes", "", "", "n1", true},
		{"cilium-operator", "delete", "", "nodes", "", "", "n1", false},
		{"cilium-operator", "create", "weft.dev", "nodenetworks", "", "", "", true},
		{"cilium-operator", "patch", "weft.dev", "clusternetworks", "status", "", "default", true},
		{"cilium-operator", "patch", "apiextensions.k8s.io", "customresourcedefinitions", "", "", "nodenetworks.weft.dev", true},
		{"cilium-operator", "patch", "apiextensions.k8s.io", "customresourcedefinitions", "", "", "others.example.org", false},
		{"cilium-operator", "update", "coordination.k8s.io", "leases", "", "kube-system", "weft-operator", true},
		{"cilium-operator", "update", "coordination.k8s.io", "leases", "", "kube-system", "kube-scheduler", false},
		{"cilium-operator", "get", "", "secrets", "", "kube-system", "", false},
	} {
		eventually(t, fmt.Sprintf("%+v", test), func() error {
			if got := allowed(test.user, test.verb, test.group, test.resource, test.sub, test.namespace, test.name); got != test.want {
				return fmt.Errorf("allowed is %v", got)
			}
			return nil
		})
	}
}

// testOwnNode: an agent's token writes its own node's status and no other's.
func testOwnNode(t *testing.T, s *server, c *kube.Client) {
	ctx := t.Context()
	for _, name := range []string{"n1", "n2"} {
		eventually(t, "NodeNetwork "+name, func() error {
			err := c.Objects.Create(ctx, &v1alpha1.NodeNetwork{ObjectMeta: metav1.ObjectMeta{Name: name}})
			if apierrors.IsAlreadyExists(err) {
				return nil
			}
			return err
		})
	}
	as := func(node string) client.Client {
		conf := rest.CopyConfig(c.Config)
		conf.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:kube-system:weft", Groups: []string{"system:serviceaccounts", "system:authenticated"}}
		if node != "" {
			conf.Impersonate.Extra = map[string][]string{"authentication.kubernetes.io/node-name": {node}}
		}
		agent, err := client.New(conf, client.Options{Scheme: c.Objects.Scheme()})
		must(t, err)
		return agent
	}
	write := func(agent client.Client, name string) error {
		n := &v1alpha1.NodeNetwork{ObjectMeta: metav1.ObjectMeta{Name: name}}
		return agent.Status().Patch(ctx, n, client.RawPatch("application/merge-patch+json", []byte(`{"status":{"held":3}}`)))
	}
	// The policy takes effect a moment after it is made.
	eventually(t, "another node's status is refused", func() error {
		if err := write(as("n1"), "n2"); !apierrors.IsForbidden(err) {
			return fmt.Errorf("found %w", errors.Join(err, errors.New("expected a refusal")))
		}
		return nil
	})
	if err := write(as("n1"), "n1"); err != nil {
		t.Errorf("the own node's status: %v", err)
	}
	if err := write(as(""), "n1"); !apierrors.IsForbidden(err) {
		t.Errorf("a token of no node: %v", err)
	}
	if err := write(c.Objects, "n2"); err != nil {
		t.Errorf("an administrator: %v", err)
	}
}

type server struct {
	dir, url string
	tokens   map[string]string
}

// startServer runs etcd and an API server, whose lives end with the test.
func startServer(t *testing.T, box string) *server {
	t.Helper()
	s := &server{dir: t.TempDir(), url: "https://127.0.0.1:6443", tokens: map[string]string{"admin": "a", "reader": "r", "nobody": "n"}}
	tokens := "a,admin,1,system:masters\nr,reader,2\nn,nobody,3\n"
	must(t, os.WriteFile(filepath.Join(s.dir, "tokens"), []byte(tokens), 0o600))
	if out, err := exec.Command("openssl", "genrsa", "-out", filepath.Join(s.dir, "sa.key"), "2048").CombinedOutput(); err != nil {
		t.Skipf("openssl: %v: %s", err, out)
	}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		must(t, os.Symlink(box, filepath.Join(s.dir, name)))
	}
	s.start(t, "etcd", "--data-dir="+filepath.Join(s.dir, "data"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379", "--listen-peer-urls=http://127.0.0.1:2380")
	eventually(t, "etcd answers", func() error {
		conn, err := net.Dial("tcp", "127.0.0.1:2379")
		if err == nil {
			conn.Close()
		}
		return err
	})
	s.start(t, "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--secure-port=6443", "--bind-address=127.0.0.1",
		"--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none", "--cert-dir="+filepath.Join(s.dir, "certs"), "--token-auth-file="+filepath.Join(s.dir, "tokens"),
		"--service-account-issuer=https://issuer.test", "--service-account-key-file="+filepath.Join(s.dir, "sa.key"),
		"--service-account-signing-key-file="+filepath.Join(s.dir, "sa.key"), "--service-cluster-ip-range=10.100.0.0/16",
		"--authorization-mode=RBAC", "--allow-privileged=true", "--disable-admission-plugins=ServiceAccount")
	eventually(t, "the API server is ready", func() error {
		k, err := kubernetes.NewForConfig(&rest.Config{Host: s.url, BearerToken: "a", TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
		if err != nil {
			return err
		}
		_, err = k.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(context.Background())
		return err
	})
	return s
}

func (s *server) start(t *testing.T, name string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(s.dir, name+".log"))
	must(t, err)
	c := exec.Command(filepath.Join(s.dir, name), args...)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, c.Start())
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		log.Close()
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("%s: …%s", name, b[max(0, len(b)-2000):])
		}
	})
}

func (s *server) flags(t *testing.T, user string) kube.Flags {
	t.Helper()
	path := filepath.Join(s.dir, user+".kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],
clusters: [{name: c, cluster: {server: %q, insecure-skip-tls-verify: true}}], users: [{name: u, user: {token: %q}}]}`, s.url, s.tokens[user])
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return kube.Flags{Kubeconfig: path, Namespace: "kube-system"}
}

func (s *server) flagsClient(t *testing.T, user string) (*kube.Client, error) {
	f := s.flags(t, user)
	return f.Connect()
}

func (s *server) applyCRDs(t *testing.T, c *kube.Client) {
	t.Helper()
	files, err := filepath.Glob("../../api/crds/*.yaml")
	must(t, err)
	for _, file := range files {
		b, err := os.ReadFile(file)
		must(t, err)
		j, err := yaml.YAMLToJSON(b)
		must(t, err)
		var crd apiextv1.CustomResourceDefinition
		must(t, json.Unmarshal(j, &crd))
		must(t, apiextv1.AddToScheme(c.Objects.Scheme()))
		must(t, c.Objects.Create(t.Context(), &crd))
	}
	eventually(t, "weft.dev is served", func() error {
		return c.Objects.List(t.Context(), &v1alpha1.NodeNetworkList{})
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually asks until there is no error, for a minute at most.
func eventually(t *testing.T, what string, ask func() error) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}
