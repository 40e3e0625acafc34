package install

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/action"
	helmkube "helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/storage/driver"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-cni/weft/internal/kube"
)

// UninstallOptions of an uninstall.
type UninstallOptions struct {
	Cluster kube.Flags
	// Wait for the pods to be gone as well.
	Wait bool
	// Timeout of each step that waits.
	Timeout time.Duration
	Out     io.Writer
}

// ErrLeftBehind ends an uninstall that could not give everything back; what is left was printed.
var ErrLeftBehind = errors.New("weft is uninstalled, but not everything could be given back")

// Names of what an uninstall makes for a while.
const (
	releaseJob  = "weft-release"
	cleanupJob  = "weft-cleanup"
	cleanupPart = "app.kubernetes.io/component"
	// uncleanedAnnotation on the DaemonSet names the nodes that an interrupted uninstall still has to clean.
	uncleanedAnnotation = "weft.dev/uncleaned-nodes"
)

// exitPartial is the code with which the operator says that the role's rights, or EC2, kept something back.
const exitPartial = 3

// uninstall is one run.
type uninstall struct {
	UninstallOptions
	client *kube.Client
	cfg    *action.Configuration
	left   bool
}

// Uninstall gives addresses and interfaces back to EC2 while there still is an operator to do so, cleans
// the nodes, then removes the release and weft's resources. It goes on after a step that failed and can be
// run again.
func Uninstall(ctx context.Context, o UninstallOptions) error {
	c, err := o.Cluster.Connect()
	if err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, kube.ProbeTimeout)
	defer cancel()
	if _, err := serverVersion(short, c); err != nil {
		return kube.Unreachable(c.Config.Host, err)
	}
	cfg, err := helm(o.Cluster, o.Out)
	if err != nil {
		return err
	}
	u := &uninstall{UninstallOptions: o, client: c, cfg: cfg}
	_, err = cfg.Releases.History(ReleaseName)
	installed := err == nil
	if err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
		return denied(fmt.Errorf("helm releases in %s: %w", o.Cluster.Namespace, err))
	}
	resources, err := u.resources(ctx)
	if err != nil {
		return err
	}
	if !installed && len(resources) == 0 {
		return fmt.Errorf("weft is not installed in namespace %s: found no Helm release %s; see helm list --all-namespaces", o.Cluster.Namespace, ReleaseName)
	}
	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{"give addresses and interfaces back to EC2", u.giveBack},
		{"clean the nodes", u.cleanNodes},
		{"remove the release", u.removeRelease},
		{"remove weft's resources", u.removeResources},
		{"let the VPC CNI run again", func(ctx context.Context) error { return restoreVPCCNI(ctx, c) }},
	}
	for _, step := range steps {
		u.say("%s", step.name)
		if err := step.run(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			u.left = true
			u.say("  not done: %s", strings.ReplaceAll(err.Error(), "\n", "\n            "))
		}
	}
	if u.left {
		return ErrLeftBehind
	}
	u.say("weft is uninstalled; pods that it gave a network keep it until they are restarted under another CNI")
	return nil
}

func (u *uninstall) say(format string, a ...any) { fmt.Fprintf(u.Out, format+"\n", a...) }

func (u *uninstall) namespace() string { return u.Cluster.Namespace }

// giveBack stops the operator, so that it makes nothing new, and runs its release mode as a Job.
func (u *uninstall) giveBack(ctx context.Context) error {
	deployments := u.client.Kube.AppsV1().Deployments(u.namespace())
	d, err := deployments.Get(ctx, "weft-operator", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return errors.New("there is no Deployment weft-operator: network interfaces tagged weft.dev/managed=true, if any, stay in EC2; delete them in the console or with aws ec2 delete-network-interface")
	}
	if err != nil {
		return denied(err)
	}
	patch := []byte(`{"spec":{"replicas":0}}`)
	if _, err := deployments.Patch(ctx, d.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return denied(err)
	}
	if err := u.gone(ctx, d.Spec.Selector); err != nil {
		return err
	}
	code, err := u.runJob(ctx, operatorJob(d, u.Timeout))
	switch {
	case err != nil:
		return err
	case code == exitPartial:
		return errors.New("the lines above that say so could not be given back; allow the role the action that each names, or delete them by hand")
	case code != 0:
		return fmt.Errorf("weft-operator release ended with code %d", code)
	}
	return nil
}

// cleanNodes stops the agents and runs their cleanup on each node that had one.
func (u *uninstall) cleanNodes(ctx context.Context) error {
	sets := u.client.Kube.AppsV1().DaemonSets(u.namespace())
	d, err := sets.Get(ctx, "weft", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		u.say("  no DaemonSet weft: nothing to clean by")
		return nil
	}
	if err != nil {
		return denied(err)
	}
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return err
	}
	pods, err := u.client.Kube.CoreV1().Pods(u.namespace()).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return denied(err)
	}
	nodes := map[string]bool{}
	for _, node := range strings.Fields(d.Annotations[uncleanedAnnotation]) {
		nodes[node] = true
	}
	imageless := map[string]error{}
	for _, p := range pods.Items {
		if p.Spec.NodeName == "" {
			continue
		}
		nodes[p.Spec.NodeName] = true
		if image := missingImage(&p); image != "" {
			imageless[p.Spec.NodeName] = fmt.Errorf("image %s is missing: %s", image, waitingFor(&p))
		}
	}
	// On no node, but still there: a second uninstall finds its template, and which nodes had an agent.
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}},"spec":{"template":{"spec":{"nodeSelector":{"weft.dev/uninstalled":"true"}}}}}`,
		uncleanedAnnotation, strings.Join(slices.Sorted(maps.Keys(nodes)), " "))
	if _, err := sets.Patch(ctx, d.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		return denied(err)
	}
	if err := u.gone(ctx, d.Spec.Selector); err != nil {
		return err
	}
	var errs []error
	jobs := make([]*batchv1.Job, 0, len(nodes))
	for node := range nodes {
		if _, err := u.client.Kube.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			continue // it went since, and what was on it too
		}
		if err := imageless[node]; err != nil {
			// A job would wait for the image that the agent waited for.
			errs = append(errs, fmt.Errorf("node %s: %w", node, err))
			continue
		}
		job, err := u.startJob(ctx, agentJob(d, node))
		if err != nil {
			errs = append(errs, fmt.Errorf("node %s: %w", node, err))
			continue
		}
		jobs = append(jobs, job)
	}
	for _, job := range jobs {
		node := job.Spec.Template.Spec.NodeName
		code, err := u.finishJob(ctx, job, node)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("node %s: %w", node, err))
		case code != 0:
			errs = append(errs, fmt.Errorf("node %s: weft-agent cleanup ended with code %d", node, code))
		}
	}
	return errors.Join(errs...)
}

func (u *uninstall) removeRelease(ctx context.Context) error {
	out := action.NewUninstall(u.cfg)
	out.IgnoreNotFound = true
	out.Timeout = u.Timeout
	out.WaitStrategy = helmkube.HookOnlyStrategy
	out.DeletionPropagation = "background"
	if u.Wait {
		out.WaitStrategy = helmkube.StatusWatcherStrategy
		out.WaitOptions = []helmkube.WaitOption{helmkube.WithWaitContext(ctx)}
		out.DeletionPropagation = "foreground"
	}
	_, err := out.Run(ReleaseName)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil
	}
	return err
}

// resources are weft's CRDs that are there.
func (u *uninstall) resources(ctx context.Context) ([]string, error) {
	scheme := u.client.Objects.Scheme()
	if err := apiextv1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	var found []string
	for _, name := range []string{"nodenetworks.weft.dev", "clusternetworks.weft.dev"} {
		var crd apiextv1.CustomResourceDefinition
		switch err := u.client.Objects.Get(ctx, client.ObjectKey{Name: name}, &crd); {
		case err == nil && crd.DeletionTimestamp == nil:
			found = append(found, name)
		case err == nil:
			// On its way out.
		case !apierrors.IsNotFound(err) && !meta.IsNoMatchError(err):
			return nil, denied(err)
		}
	}
	return found, nil
}

func (u *uninstall) removeResources(ctx context.Context) error {
	names, err := u.resources(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		crd := &apiextv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := u.client.Objects.Delete(ctx, crd); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, denied(err))
			continue
		}
		if u.Wait {
			if err := u.until(ctx, "CustomResourceDefinition "+name+" is gone", func() (bool, error) {
				err := u.client.Objects.Get(ctx, client.ObjectKey{Name: name}, &apiextv1.CustomResourceDefinition{})
				return apierrors.IsNotFound(err), nil
			}); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		u.say("  removed CustomResourceDefinition %s and its objects", name)
	}
	leases := u.client.Kube.CoordinationV1().Leases(u.namespace())
	if err := leases.Delete(ctx, "weft-operator", metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		errs = append(errs, denied(err))
	}
	return errors.Join(errs...)
}

// operatorJob is the operator's own pod, once, in release mode.
func operatorJob(d *appsv1.Deployment, timeout time.Duration) *batchv1.Job {
	job := jobOf(d.Namespace, releaseJob, d.Spec.Template)
	c := &job.Spec.Template.Spec.Containers[0]
	c.Args = []string{"release", "--config=/etc/weft/config.yaml", "--timeout=" + timeout.String()}
	// The other replica's node may be the only one with room.
	job.Spec.Template.Spec.Affinity.PodAntiAffinity = nil
	return job
}

// agentJob is the agent's own pod, once, on a node, cleaning up.
func agentJob(d *appsv1.DaemonSet, node string) *batchv1.Job {
	job := jobOf(d.Namespace, "", d.Spec.Template)
	job.GenerateName = cleanupJob + "-"
	job.Spec.Template.Spec.Containers[0].Args = []string{"cleanup", "--wait"}
	// The node is named: the scheduler has no say.
	job.Spec.Template.Spec.NodeName = node
	job.Spec.Template.Spec.NodeSelector = nil
	job.Spec.Template.Spec.Affinity = nil
	return job
}

func jobOf(namespace, name string, template corev1.PodTemplateSpec) *batchv1.Job {
	template = *template.DeepCopy()
	template.Labels = map[string]string{"app.kubernetes.io/part-of": "weft", cleanupPart: "uninstall"}
	spec := &template.Spec
	spec.RestartPolicy = corev1.RestartPolicyNever
	if spec.Affinity == nil {
		spec.Affinity = &corev1.Affinity{}
	}
	for i := range spec.Containers {
		c := &spec.Containers[i]
		c.StartupProbe, c.LivenessProbe, c.ReadinessProbe, c.Ports = nil, nil, nil, nil
	}
	none := int32(0)
	keep := int32(3600)
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: template.Labels},
		Spec:       batchv1.JobSpec{Template: template, BackoffLimit: &none, TTLSecondsAfterFinished: &keep},
	}
}

func (u *uninstall) runJob(ctx context.Context, job *batchv1.Job) (int32, error) {
	job, err := u.startJob(ctx, job)
	if err != nil {
		return 0, err
	}
	return u.finishJob(ctx, job, "")
}

func (u *uninstall) startJob(ctx context.Context, job *batchv1.Job) (*batchv1.Job, error) {
	jobs := u.client.Kube.BatchV1().Jobs(u.namespace())
	if job.Name != "" {
		// Of an uninstall that was interrupted.
		policy := metav1.DeletePropagationBackground
		err := jobs.Delete(ctx, job.Name, metav1.DeleteOptions{PropagationPolicy: &policy})
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, denied(err)
		}
		if err := u.until(ctx, "Job "+job.Name+" of an earlier uninstall is removed", func() (bool, error) {
			_, err := jobs.Get(ctx, job.Name, metav1.GetOptions{})
			return apierrors.IsNotFound(err), nil
		}); err != nil {
			return nil, err
		}
	}
	made, err := jobs.Create(ctx, job, metav1.CreateOptions{})
	if err != nil {
		return nil, denied(fmt.Errorf("job: %w", err))
	}
	return made, nil
}

// finishJob waits for a job's pod to end, prints what it said and gives its exit code.
func (u *uninstall) finishJob(ctx context.Context, job *batchv1.Job, prefix string) (int32, error) {
	defer func() {
		policy := metav1.DeletePropagationBackground
		// What stays is removed by the job's own time to live.
		_ = u.client.Kube.BatchV1().Jobs(u.namespace()).Delete(context.WithoutCancel(ctx), job.Name, metav1.DeleteOptions{PropagationPolicy: &policy})
	}()
	pods := u.client.Kube.CoreV1().Pods(u.namespace())
	var ended *corev1.Pod
	var reason string
	err := u.until(ctx, "the pod of Job "+job.Name+" ends", func() (bool, error) {
		list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: "batch.kubernetes.io/job-name=" + job.Name})
		if err != nil {
			return false, denied(err)
		}
		for i := range list.Items {
			p := &list.Items[i]
			if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
				ended = p
				return true, nil
			}
			reason = waitingFor(p)
			if image := missingImage(p); image != "" {
				return false, fmt.Errorf("image %s is missing", image)
			}
		}
		return false, nil
	})
	if err != nil {
		if reason != "" {
			return 0, fmt.Errorf("%w: %s", err, reason)
		}
		return 0, err
	}
	logs, err := pods.GetLogs(ended.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
	if err != nil {
		u.say("  its output can't be read: %s", err)
	}
	if prefix != "" {
		prefix += ": "
	}
	lines := bufio.NewScanner(bytes.NewReader(logs))
	for lines.Scan() {
		// What the program says to people stands among its log.
		if json.Valid(lines.Bytes()) {
			continue
		}
		u.say("  %s%s", prefix, lines.Text())
	}
	for _, st := range ended.Status.ContainerStatuses {
		if t := st.State.Terminated; t != nil {
			return t.ExitCode, nil
		}
	}
	return 0, fmt.Errorf("its pod ended as %s: %s", ended.Status.Phase, ended.Status.Message)
}

func waitingFor(p *corev1.Pod) string {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Message
		}
	}
	for _, st := range p.Status.ContainerStatuses {
		if w := st.State.Waiting; w != nil {
			return w.Reason + " " + w.Message
		}
	}
	return ""
}

// missingImage is the image that a pod's node asked for more than once and didn't get: a pod that had it ran
// no longer, or never did.
func missingImage(p *corev1.Pod) string {
	for _, st := range p.Status.ContainerStatuses {
		if w := st.State.Waiting; w != nil && (w.Reason == "ImagePullBackOff" || w.Reason == "InvalidImageName") {
			return st.Image
		}
	}
	return ""
}

// gone waits until no pod has the labels.
func (u *uninstall) gone(ctx context.Context, selector *metav1.LabelSelector) error {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return err
	}
	return u.until(ctx, "the pods with "+s.String()+" end", func() (bool, error) {
		pods, err := u.client.Kube.CoreV1().Pods(u.namespace()).List(ctx, metav1.ListOptions{LabelSelector: s.String()})
		if err != nil {
			return false, denied(err)
		}
		return len(pods.Items) == 0, nil
	})
}

// until asks every half second, at most for the step's time.
func (u *uninstall) until(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, u.Timeout)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s until %s", u.Timeout, what)
		case <-tick.C:
		}
	}
}
