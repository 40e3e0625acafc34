package pki

import (
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

func TestIssuedPairServesAndIsVerified(t *testing.T) {
	ca, err := NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(Subject{CommonName: "server", DNSNames: []string{"api.example"}, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		server string
		roots  *x509.CertPool
		ok     bool
	}{
		{"by name", "api.example", ca.Pool(), true},
		{"by address", "127.0.0.1", ca.Pool(), true},
		{"other name", "other.example", ca.Pool(), false},
		{"other authority", "api.example", other.Pool(), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leaf, err := x509.ParseCertificate(cert.Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			_, err = leaf.Verify(x509.VerifyOptions{DNSName: tt.server, Roots: tt.roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
			if (err == nil) != tt.ok {
				t.Errorf("verify: %v, want success %v", err, tt.ok)
			}
		})
	}
}

func TestKubeconfigIsReadByClientGo(t *testing.T) {
	ca, err := NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(Subject{CommonName: "admin", Organizations: []string{"system:masters"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Kubeconfig("c1", "https://127.0.0.1:1", ca.PEM, pair)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.RESTConfigFromKubeConfig(b)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Host != "https://127.0.0.1:1" || string(cfg.CAData) != string(ca.PEM) || string(cfg.CertData) != string(pair.Cert) {
		t.Errorf("kubeconfig lost something: %+v", cfg)
	}
}

func TestServiceAccountKeyIsRSA(t *testing.T) {
	key, b, err := NewServiceAccountKey()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !key.Equal(parsed) {
		t.Error("the PEM holds another key")
	}
}
