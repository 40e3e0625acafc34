package controlplane

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"crypto/tls"

	"k8s.io/client-go/rest"

	"github.com/weft-cni/weft/lab/internal/netns"
	"github.com/weft-cni/weft/lab/internal/pki"
)

// Certificates are a cluster's authority and the clients that the lab itself needs.
type Certificates struct {
	CA *pki.Authority
	// Admin is a cluster administrator.
	Admin pki.Pair
}

// newCertificates makes everything and writes what the components read.
func newCertificates(cfg Config) (*Certificates, error) {
	if err := os.MkdirAll(cfg.Lab.PKIDir(), 0o700); err != nil {
		return nil, err
	}
	ca, err := pki.NewAuthority("kubernetes")
	if err != nil {
		return nil, err
	}
	front, err := pki.NewAuthority("front-proxy")
	if err != nil {
		return nil, err
	}
	caKey, err := ca.KeyPEM()
	if err != nil {
		return nil, err
	}
	_, saKey, err := pki.NewServiceAccountKey()
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"ca.crt": ca.PEM, "ca.key": caKey, "front-proxy-ca.crt": front.PEM, "sa.key": saKey}

	first := cfg.ServiceCIDR.Masked().Addr().Next()
	loopback := netip.MustParseAddr("127.0.0.1")
	for _, p := range []struct {
		name string
		by   *pki.Authority
		of   pki.Subject
	}{
		{"apiserver", ca, pki.Subject{
			CommonName: "kube-apiserver",
			DNSNames:   []string{cfg.EndpointHost, "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
			Addresses:  append([]netip.Addr{first, loopback}, cfg.Addresses...),
		}},
		{"kubelet-client", ca, pki.Subject{CommonName: "kube-apiserver-kubelet-client", Organizations: []string{"system:masters"}}},
		{"front-proxy-client", front, pki.Subject{CommonName: "front-proxy-client"}},
	} {
		pair, err := p.by.Issue(p.of)
		if err != nil {
			return nil, err
		}
		files[p.name+".crt"], files[p.name+".key"] = pair.Cert, pair.Key
	}
	for name, user := range map[string]string{"kcm": "system:kube-controller-manager", "scheduler": "system:kube-scheduler"} {
		pair, err := ca.Issue(pki.Subject{CommonName: user})
		if err != nil {
			return nil, err
		}
		if files[name+".kubeconfig"], err = pki.Kubeconfig(cfg.Lab.Name, localURL(), ca.PEM, pair); err != nil {
			return nil, err
		}
	}
	admin, err := ca.Issue(pki.Subject{CommonName: "kubernetes-admin", Organizations: []string{"system:masters"}})
	if err != nil {
		return nil, err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(cfg.Lab.PKIDir(), name), content, 0o600); err != nil {
			return nil, err
		}
	}
	return &Certificates{CA: ca, Admin: admin}, nil
}

func localURL() string { return "https://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(Port)) }

// RESTConfig is an administrator's, dialling inside the control plane's namespace.
func (c *ControlPlane) RESTConfig() *rest.Config {
	return &rest.Config{
		Host: localURL(),
		TLSClientConfig: rest.TLSClientConfig{
			CAData: c.certs.CA.PEM, CertData: c.certs.Admin.Cert, KeyData: c.certs.Admin.Key,
		},
		Dial: netns.DialContext(c.cfg.Namespace),
		// The lab's own controllers share one client.
		QPS: 200, Burst: 400,
	}
}

func (c *ControlPlane) httpClient() (*http.Client, error) {
	cert, err := c.certs.Admin.TLS()
	if err != nil {
		return nil, fmt.Errorf("control plane: administrator's certificate: %w", err)
	}
	return &http.Client{Transport: &http.Transport{
		DialContext:     netns.DialContext(c.cfg.Namespace),
		TLSClientConfig: &tls.Config{RootCAs: c.certs.CA.Pool(), Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
	}}, nil
}
