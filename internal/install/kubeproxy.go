package install

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/weft-cni/weft/internal/kube"
)

// Names that EKS's add-on gives to its objects in kube-system.
const kubeProxyName = "kube-proxy"

// Values that say who serves services and how weft's own pods find the API server.
const (
	replacementValue = "kubeProxyReplacement"
	apiHostValue     = "k8sServiceHost"
	apiPortValue     = "k8sServicePort"
)

// chooseServices settles who serves services: who was asked to, else kube-proxy where it is. The lines say so. Pure.
func chooseServices(given map[string]any, found facts, cluster string, remove bool) (replace bool, lines []string) {
	asked := fmt.Sprint(given[replacementValue])
	if given[replacementValue] == nil || asked == "" {
		replace = !found.kubeProxy
		if replace {
			lines = append(lines, "kube-proxy: not found, so weft serves all services (kubeProxyReplacement=true)")
		} else {
			lines = append(lines, "kube-proxy: found, it keeps the services and weft connects pods' sockets to them (kubeProxyReplacement=false); weft takes its place with --set kubeProxyReplacement=true")
		}
		given[replacementValue] = fmt.Sprint(replace)
		return replace, lines
	}
	replace = asked == "true"
	switch {
	case replace && found.kubeProxy && remove:
		lines = append(lines, "kube-proxy: found; weft takes its place, and the DaemonSet is removed when all of weft is ready (--remove-kube-proxy)")
	case replace && found.kubeProxy:
		lines = append(lines, "kube-proxy: found; weft takes its place and serves all services. It does no harm meanwhile, and stays until you take it away, when weft is ready: "+removeCommand(cluster)+"; --remove-kube-proxy does it for you")
	case replace:
		lines = append(lines, "kube-proxy: not found, weft serves all services")
	case found.kubeProxy:
		lines = append(lines, "kube-proxy: found, it keeps the services")
	default:
		lines = append(lines, "warning: kube-proxy: not found, and kubeProxyReplacement=false: node ports, load balancers and services of the nodes themselves will not work; leave the value out, or install kube-proxy")
	}
	return replace, lines
}

// removeCommand takes kube-proxy away, as EKS's add-on or as what anybody installed.
func removeCommand(cluster string) string {
	return fmt.Sprintf("aws eks delete-addon --cluster-name %s --addon-name kube-proxy, or kubectl -n kube-system delete daemonset kube-proxy where it is no add-on", cluster)
}

// apiServer is the name and port at which every node finds the API server, out of a URL. Why tells of a URL
// that says nothing to a node.
func apiServer(server string) (host, port, why string) {
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" {
		return "", "", "it is no URL"
	}
	host, port = u.Hostname(), u.Port()
	if port == "" {
		port = "443"
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if a.IsLoopback() {
			return "", "", "it is an address of this machine alone"
		}
		return "", "", "it is an address, and those of an EKS API server change"
	}
	switch {
	case host == "localhost" || strings.HasSuffix(host, ".localhost"):
		return "", "", "it is this machine alone"
	case u.Path != "" && u.Path != "/":
		return "", "", "it is a gateway with a path of its own"
	case u.Scheme != "https":
		return "", "", "it isn't https"
	}
	return host, port, ""
}

// findAPIServer sets how weft's pods find the API server without any service, unless the values say it: as the
// kubeconfig does, or as kube-proxy is told.
func findAPIServer(ctx context.Context, c *kube.Client, given map[string]any, cluster string, say func(string, ...any)) error {
	if host := fmt.Sprint(given[apiHostValue]); given[apiHostValue] != nil && host != "" {
		return nil
	}
	host, port, why := apiServer(c.Config.Host)
	from := "the kubeconfig"
	if why != "" {
		server, err := kubeProxyServer(ctx, c)
		if err != nil {
			return err
		}
		if server != "" {
			if h, p, bad := apiServer(server); bad == "" {
				host, port, from = h, p, "ConfigMap kube-system/kube-proxy"
			}
		}
	}
	if host == "" {
		return fmt.Errorf("the API server's name is missing: without kube-proxy weft's own pods can't reach it by a service, and the kubeconfig's server %s doesn't tell (%s); add --set k8sServiceHost=NAME, what aws eks describe-cluster --name %s --query cluster.endpoint prints, without https://", c.Config.Host, why, cluster)
	}
	given[apiHostValue] = host
	if p := given[apiPortValue]; p == nil || fmt.Sprint(p) == "" {
		given[apiPortValue] = port
	}
	say("API server for weft's own pods: %s (from %s); it needs no service, and its name is asked anew for each connection", net.JoinHostPort(host, fmt.Sprint(given[apiPortValue])), from)
	return nil
}

// kubeProxyServer is the API server's URL in the kubeconfig of EKS's kube-proxy; empty if there is none.
func kubeProxyServer(ctx context.Context, c *kube.Client) (string, error) {
	m, err := c.Kube.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, kubeProxyName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", denied(fmt.Errorf("configmap kube-system/kube-proxy: %w", err))
	}
	config, err := clientcmd.Load([]byte(m.Data["kubeconfig"]))
	if err != nil {
		return "", nil //nolint:nilerr // somebody's own ConfigMap of that name says nothing
	}
	if current := config.Contexts[config.CurrentContext]; current != nil {
		if cluster := config.Clusters[current.Cluster]; cluster != nil {
			return cluster.Server, nil
		}
	}
	return "", nil
}

// RemoveKubeProxy deletes kube-proxy's DaemonSet. Its ConfigMaps stay, for the way back.
func RemoveKubeProxy(ctx context.Context, flags kube.Flags, say func(string, ...any)) error {
	c, err := flags.Connect()
	if err != nil {
		return err
	}
	err = c.Kube.AppsV1().DaemonSets(metav1.NamespaceSystem).Delete(ctx, kubeProxyName, metav1.DeleteOptions{})
	switch {
	case apierrors.IsNotFound(err):
		say("DaemonSet kube-system/kube-proxy: it isn't there")
		return nil
	case err != nil:
		return denied(fmt.Errorf("daemonset kube-system/kube-proxy: %w", err))
	}
	say("DaemonSet kube-system/kube-proxy: removed; weft removes its rules from each node once its pod there has ended. Where it is an EKS add-on, an update of the add-on would bring it back: aws eks delete-addon --cluster-name CLUSTER --addon-name kube-proxy")
	return nil
}

// errRemoveUnasked is --remove-kube-proxy without weft in its place.
var errRemoveUnasked = errors.New("--remove-kube-proxy: weft is not to take its place; add --set kubeProxyReplacement=true, or leave the flag out")
