package controlplane

import (
	"fmt"
	"path/filepath"
)

const egressFile = "egress.yaml"

// egressConfig sends what goes to the cluster (kubelets, webhooks, aggregated APIs) through the proxy. The
// protocol is konnectivity's, because only that hands the proxy's own words to people.
func egressConfig(socket string) []byte {
	return fmt.Appendf(nil, `apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection:
    proxyProtocol: GRPC
    transport:
      uds:
        udsName: %s
`, socket)
}

func (c *ControlPlane) pki(name string) string { return filepath.Join(c.cfg.Lab.PKIDir(), name) }

const etcdURL = "http://127.0.0.1:2379"

func (c *ControlPlane) etcdArgs() []string {
	return []string{
		"--data-dir=" + c.cfg.Lab.EtcdDir(),
		"--unsafe-no-fsync",
		"--listen-client-urls=" + etcdURL,
		"--advertise-client-urls=" + etcdURL,
		"--listen-peer-urls=http://127.0.0.1:2380",
		"--log-level=warn",
	}
}

func (c *ControlPlane) apiserverArgs() []string {
	args := []string{
		fmt.Sprintf("--secure-port=%d", Port),
		"--advertise-address=" + c.cfg.Addresses[0].String(),
		"--etcd-servers=" + etcdURL,
		"--tls-cert-file=" + c.pki("apiserver.crt"),
		"--tls-private-key-file=" + c.pki("apiserver.key"),
		"--client-ca-file=" + c.pki("ca.crt"),
		"--kubelet-client-certificate=" + c.pki("kubelet-client.crt"),
		"--kubelet-client-key=" + c.pki("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=" + c.cfg.Issuer,
		"--service-account-jwks-uri=" + c.cfg.Issuer + "/keys",
		"--service-account-key-file=" + c.pki("sa.key"),
		"--service-account-signing-key-file=" + c.pki("sa.key"),
		"--service-account-max-token-expiration=24h",
		// Without it the issuer's URL would be the audience.
		"--api-audiences=https://kubernetes.default.svc",
		"--service-cluster-ip-range=" + c.cfg.ServiceCIDR.String(),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--requestheader-client-ca-file=" + c.pki("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + c.pki("front-proxy-client.crt"),
		"--proxy-client-key-file=" + c.pki("front-proxy-client.key"),
		// Webhooks are called at the pods' addresses, not at the service's.
		"--enable-aggregator-routing=true",
		"--profiling=false",
	}
	if c.cfg.EgressSocket != "" {
		args = append(args, "--egress-selector-config-file="+c.pki(egressFile))
	}
	return args
}

func (c *ControlPlane) kcmArgs() []string {
	return []string{
		"--kubeconfig=" + c.pki("kcm.kubeconfig"),
		"--authentication-kubeconfig=" + c.pki("kcm.kubeconfig"),
		"--authorization-kubeconfig=" + c.pki("kcm.kubeconfig"),
		"--cluster-name=" + c.cfg.Lab.Name,
		"--leader-elect=false",
		"--bind-address=127.0.0.1",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		"--use-service-account-credentials",
		"--service-account-private-key-file=" + c.pki("sa.key"),
		"--root-ca-file=" + c.pki("ca.crt"),
		"--cluster-signing-cert-file=" + c.pki("ca.crt"),
		"--cluster-signing-key-file=" + c.pki("ca.key"),
		"--allocate-node-cidrs=false",
		// A lab's node that dies is to be seen within seconds.
		"--node-monitor-grace-period=12s",
		"--node-monitor-period=2s",
		"--profiling=false",
	}
}

func (c *ControlPlane) schedulerArgs() []string {
	return []string{
		"--kubeconfig=" + c.pki("scheduler.kubeconfig"),
		"--authentication-kubeconfig=" + c.pki("scheduler.kubeconfig"),
		"--authorization-kubeconfig=" + c.pki("scheduler.kubeconfig"),
		"--leader-elect=false",
		"--bind-address=127.0.0.1",
		"--profiling=false",
	}
}
