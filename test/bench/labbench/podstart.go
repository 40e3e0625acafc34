package labbench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/weft-cni/weft/test/bench/ratio"
	"github.com/weft-cni/weft/test/rig"
)

// peer is the runtime handler and the RuntimeClass of pods that get their network from the ptp plugin.
const (
	peer      = "ptp"
	namespace = "default"
	perPod    = time.Minute
)

// peerRange has the peer's addresses, which are nobody's: no packet is sent.
const peerRange = "10.250.0.0/24"

// ptpConf is the peer's network.
const ptpConf = `{"cniVersion":"1.0.0","name":"bench-ptp","plugins":[{"type":"ptp","ipMasq":false,` +
	`"ipam":{"type":"host-local","ranges":[[{"subnet":"` + peerRange + `"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}`

// PodStart makes pods on one node, by weft and by the peer in turn, and returns for each pair how many pods
// a second each starts: one over the time from the creation to the news that it runs.
func (l *Lab) PodStart(ctx context.Context, runs int) ([]ratio.Pair, error) {
	path, err := l.shell(ctx, "echo $KUBECONFIG")
	if err != nil {
		return nil, err
	}
	conf, err := clientcmd.BuildConfigFromFlags("", strings.TrimSpace(path))
	if err != nil {
		return nil, err
	}
	c, err := kubernetes.NewForConfig(conf)
	if err != nil {
		return nil, err
	}
	nodes, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil || len(nodes.Items) == 0 {
		return nil, fmt.Errorf("list nodes: found %d: %w", len(nodes.Items), err)
	}
	node := nodes.Items[0].Name
	config, err := l.node(ctx, node, "cat /etc/containerd/config.toml")
	if err != nil {
		return nil, err
	}
	// The image that every node has.
	image, ok := setting(config, "sandbox")
	if !ok {
		return nil, errors.New("the node's containerd configuration names no sandbox image")
	}
	if err := l.makePeer(ctx, c, node, config); err != nil {
		return nil, err
	}
	var pairs []ratio.Pair
	for i := range runs + 1 {
		var p ratio.Pair
		sides := []side{{"", &p.Weft}, {peer, &p.Peer}}
		if i%2 == 1 {
			sides[0], sides[1] = sides[1], sides[0]
		}
		for _, s := range sides {
			took, err := start(ctx, c, pod(fmt.Sprintf("bench-%d-%s", i, "weft"+s.class), node, image, s.class))
			if err != nil {
				return nil, err
			}
			*s.into = 1 / took.Seconds()
		}
		if i > 0 { // the first pull the image
			pairs = append(pairs, p)
		}
	}
	return pairs, nil
}

type side struct {
	class string
	into  *float64
}

// setting finds a setting in containerd's configuration.
func setting(config, name string) (string, bool) {
	for line := range strings.Lines(config) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" = "); ok {
			return strings.Trim(value, `"`), true
		}
	}
	return "", false
}

// handler is what the node's containerd needs for the peer: a runtime handler whose pods get their network
// from another directory. Only this node gets it: each such directory is one more that containerd watches.
const handler = `
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.ptp]
runtime_type = "io.containerd.runc.v2"
cni_conf_dir = "/etc/cni/ptp.d"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.ptp.options]
BinaryName = "%s"
SystemdCgroup = false
`

// makePeer gives the node the peer's network beside weft's and starts its containerd again, which the node's
// supervisor does when it ends.
func (l *Lab) makePeer(ctx context.Context, c kubernetes.Interface, node, config string) error {
	runc, ok := setting(config, "BinaryName")
	if !ok {
		return errors.New("the node's containerd configuration names no runc")
	}
	_, err := l.node(ctx, node, "mkdir -p /etc/cni/ptp.d && echo '"+ptpConf+"' > /etc/cni/ptp.d/10-ptp.conflist && echo '"+
		fmt.Sprintf(handler, runc)+"' >> /etc/containerd/config.toml && kill $(pidof containerd)")
	if err != nil {
		return err
	}
	_, err = c.NodeV1().RuntimeClasses().Create(ctx, &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: peer}, Handler: peer}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("RuntimeClass %s: %w", peer, err)
	}
	// The kubelet tells which handlers its runtime has.
	return rig.Await(ctx, time.Minute, "the node has the runtime handler "+peer, func() error {
		n, err := c.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, h := range n.Status.RuntimeHandlers {
			if h.Name == peer {
				return nil
			}
		}
		return fmt.Errorf("node %s has the handlers %v", node, n.Status.RuntimeHandlers)
	})
}

func pod(name, node, image, class string) *corev1.Pod {
	no, grace := false, int64(0)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Spec: corev1.PodSpec{
		NodeName: node, AutomountServiceAccountToken: &no, EnableServiceLinks: &no, TerminationGracePeriodSeconds: &grace,
		Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		Containers:  []corev1.Container{{Name: "pause", Image: image, ImagePullPolicy: corev1.PullIfNotPresent}},
	}}
	if class != "" {
		p.Spec.RuntimeClassName = &class
	}
	return p
}

// start makes a pod, waits until it runs, and removes it.
func start(ctx context.Context, c kubernetes.Interface, p *corev1.Pod) (_ time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, perPod)
	defer cancel()
	w, err := c.CoreV1().Pods(p.Namespace).Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", p.Name).String()})
	if err != nil {
		return 0, fmt.Errorf("watch pod %s: %w", p.Name, err)
	}
	defer w.Stop()
	began := time.Now()
	if _, err := c.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{}); err != nil {
		return 0, fmt.Errorf("pod %s: %w", p.Name, err)
	}
	var took time.Duration
	last := "not seen"
	for e := range w.ResultChan() {
		got, ok := e.Object.(*corev1.Pod)
		if !ok {
			continue
		}
		last = string(got.Status.Phase)
		if took == 0 && got.Status.Phase == corev1.PodRunning && got.Status.PodIP != "" {
			took = time.Since(began)
			if err := fromRange(got, p.Spec.RuntimeClassName != nil); err != nil {
				return 0, err
			}
			// The next pod meets a quiet node: this one's end isn't its beginning.
			if err := c.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{}); err != nil {
				return 0, fmt.Errorf("pod %s: %w", p.Name, err)
			}
		}
		if took > 0 && e.Type == "DELETED" {
			return took, nil
		}
	}
	return 0, fmt.Errorf("pod %s is %s after %s, expected it to run and then to go: %w", p.Name, last, time.Since(began).Round(time.Second), ctx.Err())
}

// fromRange makes sure that each side was given its network by whom it is said to be.
func fromRange(p *corev1.Pod, peers bool) error {
	addr, err := netip.ParseAddr(p.Status.PodIP)
	if err != nil {
		return fmt.Errorf("pod %s: %w", p.Name, err)
	}
	if in := netip.MustParsePrefix(peerRange).Contains(addr); in != peers {
		return fmt.Errorf("pod %s has address %s; in the ptp plugin's range %s: %v, expected %v", p.Name, addr, peerRange, in, peers)
	}
	return nil
}
