package connectivity

// The ports of weft-probe in the test's pods. Host-network pods share the node's ports, so theirs differ.
const (
	echoPort = 8080
	hostPort = 48080
	tlsPort  = 8443
)

// Tests are all tests, in the order in which they run. A new scenario is a file and a line here.
func Tests() []Test {
	return []Test{
		{Name: "pods", About: "pods reach pods", Scenarios: []Scenario{podToPodSameNode{}, podToPodOtherNode{}}},
		{Name: "nodes", About: "pods and nodes reach each other", Scenarios: []Scenario{podToHost{}, hostToPod{}}},
		{Name: "services", About: "services and node ports lead to their pods", Scenarios: []Scenario{podToService{}, podToItself{}, nodePort{}, nodePortLocal{}}},
		{Name: "dns", About: "names resolve", Scenarios: []Scenario{dnsCluster{}, dnsWorld{}}},
		{Name: "world", About: "pods reach what is outside the VPC", Scenarios: []Scenario{podToWorldAddress{}, podToWorldName{}}},
		{Name: "addresses", About: "pods keep their address inside the VPC", Scenarios: []Scenario{noMasquerade{}}},
		{Name: "control-plane", About: "the API server reaches webhooks and APIs in pods", Scenarios: []Scenario{webhook{}, aggregatedAPI{}, logs{}}},
	}
}
