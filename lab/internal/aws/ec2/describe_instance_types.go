package ec2

import (
	"slices"
	"strconv"
	"strings"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

type cardXML struct {
	Index       int    `xml:"networkCardIndex"`
	Performance string `xml:"networkPerformance"`
	ENIs        int    `xml:"maximumNetworkInterfaces"`
}

type networkInfoXML struct {
	Performance string    `xml:"networkPerformance"`
	ENIs        int       `xml:"maximumNetworkInterfaces"`
	CardCount   int       `xml:"maximumNetworkCards"`
	DefaultCard int       `xml:"defaultNetworkCardIndex"`
	Cards       []cardXML `xml:"networkCards>item"`
	IPv4        int       `xml:"ipv4AddressesPerInterface"`
	IPv6        int       `xml:"ipv6AddressesPerInterface"`
	IPv6OK      bool      `xml:"ipv6Supported"`
	ENA         string    `xml:"enaSupport"`
	EFA         bool      `xml:"efaSupported"`
	Encryption  bool      `xml:"encryptionInTransitSupported"`
}

type vcpuXML struct {
	Default int `xml:"defaultVCpus"`
	Cores   int `xml:"defaultCores"`
	Threads int `xml:"defaultThreadsPerCore"`
}

type memoryXML struct {
	MiB int `xml:"sizeInMiB"`
}

type processorXML struct {
	Architectures []string `xml:"supportedArchitectures>item"`
}

type typeXML struct {
	Name           string         `xml:"instanceType"`
	Current        bool           `xml:"currentGeneration"`
	Usage          []string       `xml:"supportedUsageClasses>item"`
	RootDevices    []string       `xml:"supportedRootDeviceTypes>item"`
	Virtualization []string       `xml:"supportedVirtualizationTypes>item"`
	BareMetal      bool           `xml:"bareMetal"`
	Hypervisor     string         `xml:"hypervisor,omitempty"`
	Processor      processorXML   `xml:"processorInfo"`
	VCPU           vcpuXML        `xml:"vCpuInfo"`
	Memory         memoryXML      `xml:"memoryInfo"`
	Network        networkInfoXML `xml:"networkInfo"`
	Burstable      bool           `xml:"burstablePerformanceSupported"`
}

func newTypeXML(t cloud.InstanceType) typeXML {
	threads := 2
	if t.Arch == "arm64" || t.VCPUs == 1 {
		threads = 1
	}
	ena := "required"
	if t.Hypervisor == "xen" {
		ena = "unsupported"
		if strings.HasPrefix(t.Name, "i3.") {
			ena = "supported"
		}
	}
	x := typeXML{
		Name: t.Name, Current: true, Usage: []string{"on-demand", "spot"}, RootDevices: []string{"ebs"}, Virtualization: []string{"hvm"},
		BareMetal: t.BareMetal, Hypervisor: t.Hypervisor, Processor: processorXML{[]string{t.Arch}},
		VCPU: vcpuXML{t.VCPUs, t.VCPUs / threads, threads}, Memory: memoryXML{t.MemoryMiB}, Burstable: strings.HasPrefix(t.Name, "t"),
		Network: networkInfoXML{
			Performance: "Up to 10 Gigabit", ENIs: t.ENIs, CardCount: len(t.Cards), DefaultCard: t.DefaultCard, IPv4: t.IPv4PerENI, IPv6: t.IPv4PerENI,
			IPv6OK: true, ENA: ena, Encryption: t.Hypervisor == "nitro",
		},
	}
	for i, n := range t.Cards {
		x.Network.Cards = append(x.Network.Cards, cardXML{i, "Up to 10 Gigabit", n})
	}
	return x
}

func describeInstanceTypes() query.Action {
	type answer struct {
		Set       []typeXML `xml:"instanceTypeSet>item"`
		NextToken string    `xml:"nextToken,omitempty"`
	}
	return query.Action{
		Name:   "DescribeInstanceTypes",
		Params: []string{"Filter", "InstanceType", "MaxResults", "NextToken", "IncludeUnsupportedInRegion"},
		Run: func(call *query.Call) (any, error) {
			all := slices.Clone(cloud.Types())
			slices.SortFunc(all, func(a, b cloud.InstanceType) int { return strings.Compare(a.Name, b.Name) })
			if names := call.Params.List("InstanceType"); len(names) > 0 {
				if call.Params.Has("MaxResults") {
					return nil, apierror.New("InvalidParameterCombination", "The parameter InstanceTypes cannot be used with the parameter MaxResults")
				}
				var unknown []string
				for _, n := range names {
					if _, ok := cloud.TypeByName(n); !ok {
						unknown = append(unknown, n)
					}
				}
				if len(unknown) > 0 {
					return nil, apierror.New("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", strings.Join(unknown, ", "))
				}
				all = slices.DeleteFunc(all, func(t cloud.InstanceType) bool { return !slices.Contains(names, t.Name) })
			}
			l := listing[cloud.InstanceType]{
				id: func(t cloud.InstanceType) string { return t.Name }, low: 5, high: 100,
				fields: map[string]func(cloud.InstanceType) []string{
					"bare-metal":                                func(t cloud.InstanceType) []string { return yes(t.BareMetal) },
					"current-generation":                        func(cloud.InstanceType) []string { return yes(true) },
					"burstable-performance-supported":           func(t cloud.InstanceType) []string { return yes(strings.HasPrefix(t.Name, "t")) },
					"hypervisor":                                func(t cloud.InstanceType) []string { return one(t.Hypervisor) },
					"instance-type":                             func(t cloud.InstanceType) []string { return one(t.Name) },
					"memory-info.size-in-mib":                   func(t cloud.InstanceType) []string { return one(strconv.Itoa(t.MemoryMiB)) },
					"processor-info.supported-architecture":     func(t cloud.InstanceType) []string { return one(t.Arch) },
					"supported-usage-class":                     func(cloud.InstanceType) []string { return []string{"on-demand", "spot"} },
					"supported-virtualization-type":             func(cloud.InstanceType) []string { return one("hvm") },
					"vcpu-info.default-vcpus":                   func(t cloud.InstanceType) []string { return one(strconv.Itoa(t.VCPUs)) },
					"network-info.maximum-network-interfaces":   func(t cloud.InstanceType) []string { return one(strconv.Itoa(t.ENIs)) },
					"network-info.ipv4-addresses-per-interface": func(t cloud.InstanceType) []string { return one(strconv.Itoa(t.IPv4PerENI)) },
					"network-info.maximum-network-cards":        func(t cloud.InstanceType) []string { return one(strconv.Itoa(len(t.Cards))) },
				},
			}
			var out answer
			list, next, err := l.selected(call.Params, all)
			out.NextToken = next
			for _, t := range list {
				out.Set = append(out.Set, newTypeXML(t))
			}
			return out, err
		},
	}
}
