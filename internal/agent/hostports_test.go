package agent

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/weft-cni/weft/internal/cni"
	"github.com/weft-cni/weft/internal/endpoint"
)

func TestHostPortsOf(t *testing.T) {
	for _, test := range []struct {
		name string
		in   cni.PortMapping
		want []endpoint.HostPort
		err  string
	}{
		{"as containerd writes it", cni.PortMapping{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", HostIP: ""}, []endpoint.HostPort{{Port: 8080, Target: 80, Protocol: "TCP"}}, ""},
		{"the same port", cni.PortMapping{HostPort: 53, ContainerPort: 53, Protocol: "UDP"}, []endpoint.HostPort{{Port: 53, Target: 53, Protocol: "UDP"}}, ""},
		{"no protocol", cni.PortMapping{HostPort: 8080, ContainerPort: 80}, []endpoint.HostPort{{Port: 8080, Target: 80, Protocol: "TCP"}}, ""},
		{"one address", cni.PortMapping{HostPort: 8080, ContainerPort: 80, Protocol: "sctp", HostIP: "10.0.0.1"},
			[]endpoint.HostPort{{Address: netip.MustParseAddr("10.0.0.1"), Port: 8080, Target: 80, Protocol: "SCTP"}}, ""},
		{"any address", cni.PortMapping{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", HostIP: "0.0.0.0"}, []endpoint.HostPort{{Port: 8080, Target: 80, Protocol: "TCP"}}, ""},
		{"any address, mapped", cni.PortMapping{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", HostIP: "::ffff:10.0.0.1"},
			[]endpoint.HostPort{{Address: netip.MustParseAddr("10.0.0.1"), Port: 8080, Target: 80, Protocol: "TCP"}}, ""},
		{"only told", cni.PortMapping{ContainerPort: 80, Protocol: "tcp"}, nil, ""},
		{"port", cni.PortMapping{HostPort: 70000, ContainerPort: 80, Protocol: "tcp"}, nil, "expected 1 to 65535"},
		{"target", cni.PortMapping{HostPort: 80, ContainerPort: 0, Protocol: "tcp"}, nil, "expected 1 to 65535"},
		{"protocol", cni.PortMapping{HostPort: 80, ContainerPort: 80, Protocol: "icmp"}, nil, "expected tcp, udp or sctp"},
		{"address", cni.PortMapping{HostPort: 80, ContainerPort: 80, Protocol: "tcp", HostIP: "node"}, nil, "expected an address of the node"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := hostPortsOf(cni.NetConf{RuntimeConfig: cni.RuntimeConfig{PortMappings: []cni.PortMapping{test.in}}})
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Fatalf("found %v, expected %q", err, test.err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("found %+v, expected %+v", got, test.want)
			}
		})
	}
}
