// Package pki makes the certificates and keys of a lab: authorities, what they sign, and kubeconfigs.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/netip"
	"time"

	"sigs.k8s.io/yaml"
)

// A lab is short-lived; a year is longer than anyone keeps one.
const lifetime = 365 * 24 * time.Hour

// Authority signs certificates.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	// PEM is the authority's certificate.
	PEM []byte
}

// Pair is a certificate and its private key, both PEM.
type Pair struct{ Cert, Key []byte }

// TLS is the pair as crypto/tls takes it.
func (p Pair) TLS() (tls.Certificate, error) { return tls.X509KeyPair(p.Cert, p.Key) }

// Subject is whom a certificate names.
type Subject struct {
	CommonName    string
	Organizations []string
	DNSNames      []string
	Addresses     []netip.Addr
}

// NewAuthority makes a self-signed authority.
func NewAuthority(commonName string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("authority %s: %w", commonName, err)
	}
	t, err := template(Subject{CommonName: commonName})
	if err != nil {
		return nil, fmt.Errorf("authority %s: %w", commonName, err)
	}
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("authority %s: %w", commonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("authority %s: %w", commonName, err)
	}
	return &Authority{cert: cert, key: key, PEM: certPEM(der)}, nil
}

// Issue signs a certificate that is good for clients and servers.
func (a *Authority) Issue(s Subject) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("certificate of %s: %w", s.CommonName, err)
	}
	t, err := template(s)
	if err != nil {
		return Pair{}, fmt.Errorf("certificate of %s: %w", s.CommonName, err)
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	if err != nil {
		return Pair{}, fmt.Errorf("certificate of %s: %w", s.CommonName, err)
	}
	keyPEM, err := privatePEM(key)
	if err != nil {
		return Pair{}, fmt.Errorf("certificate of %s: %w", s.CommonName, err)
	}
	return Pair{Cert: certPEM(der), Key: keyPEM}, nil
}

// KeyPEM is the authority's private key, for the signer of certificate requests.
func (a *Authority) KeyPEM() ([]byte, error) { return privatePEM(a.key) }

// Pool trusts this authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// NewServiceAccountKey makes the key that signs service account tokens. It is RSA because tokens of EKS
// are RS256.
func NewServiceAccountKey() (*rsa.PrivateKey, []byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, fmt.Errorf("service account key: %w", err)
	}
	b, err := privatePEM(key)
	if err != nil {
		return nil, nil, fmt.Errorf("service account key: %w", err)
	}
	return key, b, nil
}

// Kubeconfig is a kubeconfig with one context.
func Kubeconfig(cluster, server string, ca []byte, client Pair) ([]byte, error) {
	b, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1",
		"kind":       "Config",
		"clusters": []any{map[string]any{"name": cluster, "cluster": map[string]any{
			"server": server, "certificate-authority-data": ca,
		}}},
		"users": []any{map[string]any{"name": cluster, "user": map[string]any{
			"client-certificate-data": client.Cert, "client-key-data": client.Key,
		}}},
		"contexts":        []any{map[string]any{"name": cluster, "context": map[string]any{"cluster": cluster, "user": cluster}}},
		"current-context": cluster,
	})
	if err != nil {
		return nil, fmt.Errorf("kubeconfig of %s: %w", cluster, err)
	}
	return b, nil
}

func template(s Subject) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: s.CommonName, Organization: s.Organizations},
		DNSNames:     s.DNSNames,
		// Clocks of one machine agree, but a second's truncation must not make it not yet valid.
		NotBefore: now.Add(-time.Hour),
		NotAfter:  now.Add(lifetime),
	}
	for _, a := range s.Addresses {
		t.IPAddresses = append(t.IPAddresses, a.AsSlice())
	}
	return t, nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func privatePEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
