package operator

import (
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// leaseLock is the lease, held by the pod rather than by the process: the process that follows one that was killed is
// of the same pod and leads at once, where a stranger would have to wait until the lease runs out. Of a pod's
// processes one ends before the next begins. Outside a pod there is none: the manager makes its own.
func leaseLock(o Options, renew time.Duration) (resourcelock.Interface, error) {
	if o.Pod == "" {
		return nil, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	config := rest.AddUserAgent(o.REST, "leader-election")
	// One request that hangs must not cost the lease.
	config.Timeout = renew / 2
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: o.LeaseNamespace, Name: LeaseName},
		Client:     client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: host + "_" + o.Pod},
	}, nil
}
