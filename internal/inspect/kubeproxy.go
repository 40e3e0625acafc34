package inspect

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// KubeProxyRules are the names that kube-proxy gives to the rules of a service's port.
type KubeProxyRules struct {
	IPTables string `json:"iptables"`
	NFTables string `json:"nftables"`
}

// KubeProxyNames are those of a port; outside: of clients that come in from outside of the cluster, to a node port,
// a load balancer's or an external address.
func KubeProxyNames(namespace, name, port, protocol string, outside bool) KubeProxyRules {
	protocol = strings.ToLower(protocol)
	of := namespace + "/" + name
	if port != "" {
		of += ":" + port
	}
	ipt, nft := "KUBE-SVC-", "service-"
	if outside {
		ipt, nft = "KUBE-EXT-", "external-"
	}
	long := strings.Join([]string{namespace, name, protocol, port}, "/")
	return KubeProxyRules{IPTables: ipt + hash32(of + protocol)[:16], NFTables: nft + hash32(long)[:8] + "-" + long}
}

func hash32(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base32.StdEncoding.EncodeToString(sum[:])
}
