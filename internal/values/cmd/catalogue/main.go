// Command catalogue writes the list of value names that internal/values knows, from the values files of
// Cilium's charts: names and defaults, nothing else.
//
//	go run ./internal/values/cmd/catalogue 1.12=values-1.12.yaml … 1.20=values-1.20.yaml >internal/values/catalogue.txt
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"

	"sigs.k8s.io/yaml"
)

// freeform names hold what Kubernetes defines: whatever stands below is one value.
var freeform = strings.Fields(`affinity nodeSelector tolerations resources labels annotations podAnnotations
	podLabels podSecurityContext updateStrategy topologySpreadConstraints extraEnv extraArgs extraVolumes
	extraVolumeMounts extraHostPathMounts extraInitContainers commonLabels deploymentStrategy lifecycle`)

// documented names stand in the charts' comments only: their default is to be absent.
var documented = strings.Fields(`bpf.lbBypassFIBLookup cni.readCniConf containerRuntime.socketPath
	disableIptablesFeederRules dnsProxy.enableTransparentMode egressGateway.maxPolicyEntries
	egressMasqueradeInterfaces enableIdentityMark enableK8sEndpointSlice envoy.securityContext.runAsUser
	fragmentTracking hubble.eventBufferCapacity hubble.eventQueueSize hubble.lostEventSendInterval
	hubble.peerService.servicePort hubble.relay.prometheus.serviceMonitor.namespace hubble.relay.servicePort
	l2announcements.leaseDuration l2announcements.leaseRenewDeadline l2announcements.leaseRetryPeriod
	loadBalancer.acceleration loadBalancer.algorithm loadBalancer.dsrDispatch loadBalancer.mode
	loadBalancer.reflectorWaitTime loadBalancer.serviceTopology loadBalancer.standalone maglev.hashSeed
	maglev.tableSize nodePort.range operator.identityGCInterval operator.identityHeartbeatTimeout
	prometheus.serviceMonitor.namespace securityContext.runAsUser socketLB.hostNamespaceOnly
	socketLB.terminatePodConnections socketLB.tracing tunnel tunnelPort`)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "catalogue:", err)
		os.Exit(1)
	}
}

type entry struct {
	since, until string
	value        any
}

func run(args []string, out io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("no files; expected VERSION=FILE …, oldest first")
	}
	names := map[string]*entry{}
	newest := ""
	for _, arg := range args {
		version, path, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q; expected VERSION=FILE", arg)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var doc map[string]any
		if err := yaml.Unmarshal(b, &doc); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		newest = version
		walk("", doc, func(name string, v any) {
			e := names[name]
			if e == nil {
				e = &entry{since: version}
				names[name] = e
			}
			e.until, e.value = version, v
		})
	}
	for _, name := range documented {
		if names[name] == nil {
			names[name] = &entry{since: "", until: newest}
		}
	}
	list := make([]string, 0, len(names))
	for name := range names {
		// A name that later became a section is the section now.
		if !hasBelow(names, name) {
			list = append(list, name)
		}
	}
	sort.Strings(list)
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "# Value names of Cilium's charts up to %s: name, default as JSON, last chart that has it if not the newest.\n", newest)
	fmt.Fprintf(w, "# A name that ends in * holds a tree that is one value. Made by internal/values/cmd/catalogue.\n")
	for _, name := range list {
		e := names[name]
		b, err := json.Marshal(e.value)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		mark := ""
		if isFreeform(name) || isTree(e.value) {
			mark = "*"
		}
		fmt.Fprintf(w, "%s%s\t%s", name, mark, b)
		if e.until != newest {
			fmt.Fprintf(w, "\t%s", e.until)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

func hasBelow(names map[string]*entry, name string) bool {
	for other := range names {
		if strings.HasPrefix(other, name+".") {
			return true
		}
	}
	return false
}

func isFreeform(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	for _, f := range freeform {
		if f == last {
			return true
		}
	}
	return false
}

func isTree(v any) bool { _, ok := v.(map[string]any); return ok }

// walk calls leaf for every value that has no names below it.
func walk(prefix string, v map[string]any, leaf func(string, any)) {
	for key, x := range v {
		name := key
		if prefix != "" {
			name = prefix + "." + key
		}
		if m, ok := x.(map[string]any); ok && len(m) > 0 && !isFreeform(name) {
			walk(name, m, leaf)
			continue
		}
		leaf(name, x)
	}
}
