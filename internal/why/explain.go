package why

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-cni/weft/internal/flow"
	"github.com/weft-cni/weft/internal/why/vpc"
)

// Explain decides from the facts alone. What a packet was seen to meet comes first, then what can't work,
// then what the VPC would do; what couldn't be looked at is listed and never guessed.
func Explain(f Facts) Answer {
	a := Answer{Flow: f.Question.String(), Unchecked: f.Unknown}
	if f.VPC != nil {
		a.Unchecked = append(slices.Clone(a.Unchecked), f.VPC.Unknown...)
	}
	f.Connections = newest(f.Connections)
	for _, c := range f.Connections {
		a.Seen = append(a.Seen, describe(c))
	}
	for _, step := range []func(Facts, *Answer) bool{dropped, works, noBackend, deadPod, notOnENI, blocked, tableFull, mtu, silent, atBackend} {
		if step(f, &a) {
			return a
		}
	}
	if sent(f) {
		a.Cause, a.Reason = Unanswered, "packets left the sender's node and no answer came back; nothing that was looked at explains it"
		a.Advice = "look at the receiver's own firewall"
		if len(a.Unchecked) > 0 {
			a.Advice = "make the checks below that were not made, then " + a.Advice
		}
		return a
	}
	if len(f.Nodes) == 0 && f.Question.From.Addr.IsValid() {
		a.Cause, a.Reason = Unknown, "the agents of the nodes could not be asked"
		a.Advice = "see weft status; the API server reaches agents by kubelets, port 10250"
		return a
	}
	a.Cause, a.Reason = NotSeen, "no packet of this flow was seen"
	a.Advice = "send one and ask again at once; if it still isn't seen, it doesn't leave the sender: look at its name resolution and its process"
	return a
}

// Drop explains one drop.
func Drop(r flow.Record) Answer {
	a := Answer{Cause: Dropped, Flow: flowOf(r), Reason: fmt.Sprintf("%s (%s)", r.Text, r.Reason), Object: r.Object, Advice: r.Advice}
	a.Seen = []string{fmt.Sprintf("dropped at %s on node %s, %s %s, decided at %s", r.Time.Local().Format("15:04:05"), r.Node, r.Hook, r.Direction, r.Where)}
	return a
}

func flowOf(r flow.Record) string {
	end := func(s flow.Side) string {
		name := s.Addr.String()
		if flow.HasPorts(r.Protocol) {
			name = netip.AddrPortFrom(s.Addr, s.Port).String()
		}
		if s.Pod != "" {
			return fmt.Sprintf("%s (%s)", s.Pod, name)
		}
		return name
	}
	what := r.Protocol
	if what == "" {
		what = r.Family
	}
	return fmt.Sprintf("%s -> %s %s", end(r.From), end(r.To), what)
}

// newest are the entries of the connection that began last, on either node: what happened to older ones
// says nothing of now.
func newest(all []Connection) []Connection {
	if len(all) == 0 {
		return nil
	}
	last := slices.MaxFunc(all, func(a, b Connection) int { return a.Began.Compare(b.Began) })
	return slices.DeleteFunc(slices.Clone(all), func(c Connection) bool { return c.From != last.From })
}

func describe(c Connection) string {
	s := fmt.Sprintf("node %s: %s, sent %d packets, received %d", c.Node, c.State, c.Sent, c.Received)
	if c.Translated.IsValid() {
		s += ", outside as " + c.Translated.String()
	}
	return s
}

func dropped(f Facts, a *Answer) bool {
	if len(f.Drops) == 0 {
		return false
	}
	last := f.Drops[len(f.Drops)-1]
	// What has passed since isn't stopped by it.
	if slices.ContainsFunc(f.Connections, func(c Connection) bool { return c.Began.After(last.Time) }) {
		return false
	}
	d := Drop(last)
	a.Cause, a.Reason, a.Object, a.Advice = d.Cause, d.Reason, d.Object, d.Advice
	switch last.Reason {
	case "too-big":
		a.Cause = MTU
	case "endpoint-gone":
		a.Cause = DeadPod
	case "service-no-backend":
		a.Cause = NoBackendHere
	case "service-source-range":
		a.Cause = SourceRange
	}
	a.Seen = append(a.Seen, d.Seen...)
	if n := len(f.Drops); n > 1 {
		a.Seen = append(a.Seen, fmt.Sprintf("%d drops of this flow in all", n))
	}
	return true
}

// answered tells whether the receiver has answered; a reset is an answer too.
func answered(c Connection) bool { return c.Received > 0 }

func sent(f Facts) bool { return len(f.Connections) > 0 }

func works(f Facts, a *Answer) bool {
	i := slices.IndexFunc(f.Connections, answered)
	if i < 0 {
		return false
	}
	c := f.Connections[i]
	if mtuSuspect(f) && c.State == "established" {
		return false
	}
	if c.State == "reset" && c.Received <= 1 {
		a.Cause, a.Reason = NotAnswering, "the receiver's host refused the connection: nothing listens on that port"
		a.Object, a.Advice = f.Question.To.String(), "start what should listen, or correct the port"
		return true
	}
	a.Cause, a.Reason = Works, fmt.Sprintf("the flow is answered (%s): the network does its part", c.State)
	if c.Refused {
		a.Object = "connection table of node " + c.Node
		a.Reason += ", but the table of established connections on node " + c.Node + " was full when it opened, and a flood can evict it"
		a.Advice = "raise bpf.ctTcpMax, or look for a program that opens connections and never closes them"
	}
	return true
}

func deadPod(f Facts, a *Answer) bool {
	for _, side := range []struct {
		what string
		end  End
		p    Party
	}{{"sender", f.Question.From, f.From}, {"receiver", f.Question.To, f.To}} {
		reason := ""
		switch {
		case side.p.Kind == KindFree:
			reason = fmt.Sprintf("no pod has the %s's address %s", side.what, side.end.Addr)
			if side.p.LastPod != "" {
				reason += fmt.Sprintf("; %s had it last", side.p.LastPod)
			}
		case side.end.Pod != "" && side.p.Phase == "":
			reason = fmt.Sprintf("there is no pod %s", side.end.Pod)
		case side.p.Phase == "Succeeded" || side.p.Phase == "Failed":
			reason = fmt.Sprintf("the %s %s has ended (%s)", side.what, side.end, side.p.Phase)
		case side.p.Phase == "Pending" && !side.end.Addr.IsValid():
			reason = fmt.Sprintf("the %s %s has no address yet (Pending)", side.what, side.end)
		case side.p.Kind == KindPod && !side.p.HostNetwork && side.p.Endpoint != nil && !*side.p.Endpoint:
			reason = fmt.Sprintf("the agent of %s has no endpoint with the %s's address %s", side.p.Node, side.what, side.end.Addr)
		default:
			continue
		}
		a.Cause, a.Reason, a.Object = DeadPod, reason, "pod "+side.end.String()
		a.Advice = "look whether the peer keeps an old address (a stale name, a cached connection), or why the pod ended: kubectl get pods -A -o wide"
		return true
	}
	return false
}

func notOnENI(f Facts, a *Answer) bool {
	for _, side := range []struct {
		end End
		p   Party
	}{{f.Question.From, f.From}, {f.Question.To, f.To}} {
		if side.p.Kind != KindPod || side.p.HostNetwork || !side.end.Addr.IsValid() {
			continue
		}
		switch {
		case side.p.ENI == "":
			a.Reason = fmt.Sprintf("%s has address %s, which no ENI of node %s has by its NodeNetwork", side.end.Pod, side.end.Addr, side.p.Node)
			a.Object = "nodenetwork " + side.p.Node
		case f.VPC != nil && f.known(side.p.ENI):
			if owner, ok := f.VPC.Owner(side.end.Addr); ok && owner.ID == side.p.ENI {
				continue
			} else if ok {
				a.Reason = fmt.Sprintf("address %s of %s is on ENI %s in EC2, but the node sends by %s", side.end.Addr, side.end.Pod, owner.ID, side.p.ENI)
			} else {
				a.Reason = fmt.Sprintf("address %s of %s isn't on ENI %s in EC2: the VPC delivers nothing to it and drops what it sends", side.end.Addr, side.end.Pod, side.p.ENI)
			}
			a.Object = "ENI " + side.p.ENI
		default:
			continue
		}
		a.Cause = AddressNotOnENI
		a.Advice = "see who took it away (CloudTrail: UnassignPrivateIpAddresses); weft's operator assigns it again at its next look, or delete the pod so that it gets another"
		return true
	}
	return false
}

func (f Facts) known(eni string) bool {
	return slices.ContainsFunc(f.VPC.Interfaces, func(i vpc.Interface) bool { return i.ID == eni })
}

func tableFull(f Facts, a *Answer) bool {
	for _, n := range f.Nodes {
		if n.Name != f.From.Node && n.Name != f.To.Node {
			continue
		}
		full := n.EstablishedMax > 0 && n.Established >= n.EstablishedMax
		refused := slices.ContainsFunc(f.Connections, func(c Connection) bool { return c.Node == n.Name && c.Refused })
		switch {
		case full || refused:
			a.Reason = fmt.Sprintf("the table of established connections on node %s is full (%d of %d, %d refused): new ones live among those that a flood can evict", n.Name, n.Established, n.EstablishedMax, n.Refused)
			a.Advice = "raise bpf.ctTcpMax, or look for a program that opens connections and never closes them"
		case n.Failed > 0 && !sent(f):
			a.Reason = fmt.Sprintf("node %s could not make entries for %d connections", n.Name, n.Failed)
			a.Advice = "raise bpf.ctAnyMax; look for memory pressure on the node"
		default:
			continue
		}
		a.Cause, a.Object = TableFull, "connection table of node "+n.Name
		return true
	}
	return false
}

// blocked asks the VPC.
func blocked(f Facts, a *Answer) bool {
	if f.VPC == nil || !f.Question.From.Addr.IsValid() || !f.Question.To.Addr.IsValid() {
		return false
	}
	if f.From.Node != "" && f.From.Node == f.To.Node {
		return false // it never leaves the node
	}
	if f.To.Kind == KindService {
		return false // the VPC sees the pod behind it, which nobody knows here
	}
	by, ok := f.VPC.Owner(f.Question.From.Addr)
	if !ok {
		// A node forwards for somebody whose address is no ENI's.
		i := slices.IndexFunc(f.VPC.Interfaces, func(i vpc.Interface) bool { return i.ID == f.From.ENI })
		if i < 0 {
			return false
		}
		by = f.VPC.Interfaces[i]
	}
	source := f.Question.From.Addr
	for _, c := range f.Connections {
		if c.Translated.IsValid() {
			source = c.Translated.Addr()
			if owner, ok := f.VPC.Owner(source); ok {
				by = owner
			}
		}
	}
	packet := vpc.Packet{From: f.Question.From.Addr, To: f.Question.To.Addr, Protocol: f.Question.Protocol, Port: f.Question.Port}
	for _, v := range f.VPC.Check(packet, by, source) {
		if v.Unsure {
			a.Unchecked = append(a.Unchecked, v.Text)
			continue
		}
		a.Reason, a.Object = v.Text, v.Object
		switch v.Kind {
		case "route":
			a.Cause, a.Advice = NoRoute, "add the route, or put the node group into a subnet that has one"
		case "source-check":
			a.Cause, a.Advice = SourceCheck, "if the node forwards for others on purpose, switch the check off for this ENI; otherwise find what sends with a foreign source"
		case "acl":
			a.Cause, a.Advice = NetworkACL, "allow it in both directions: an ACL doesn't remember connections, answers go to ports 1024 to 65535"
		default:
			a.Cause, a.Advice = SecurityGroup, allowAdvice(v, packet)
		}
		return true
	}
	return false
}

func allowAdvice(v vpc.Verdict, p vpc.Packet) string {
	group, _, _ := strings.Cut(strings.TrimPrefix(v.Object, "security group "), " ")
	group = strings.TrimSuffix(group, ",")
	direction, peer := "ingress", p.From
	if strings.Contains(v.Text, "no outbound rule") {
		direction, peer = "egress", p.To
	}
	port := ""
	if p.Port != 0 {
		port = fmt.Sprintf(" --port %d", p.Port)
	}
	return fmt.Sprintf("allow it: aws ec2 authorize-security-group-%s --group-id %s --protocol %s%s --cidr %s/%d, or better from the peer's group",
		direction, group, p.Protocol, port, peer, peer.BitLen())
}

func mtuSuspect(f Facts) bool {
	return f.From.MTU > 0 && f.To.MTU > 0 && f.From.MTU != f.To.MTU && f.From.Node != f.To.Node
}

func mtu(f Facts, a *Answer) bool {
	if !mtuSuspect(f) || !slices.ContainsFunc(f.Connections, answered) {
		return false
	}
	small, large := f.From, f.To
	if small.MTU > large.MTU {
		small, large = large, small
	}
	a.Cause = MTU
	a.Reason = fmt.Sprintf("the connection opens, but the ENIs' MTUs differ (%d on %s, %d on %s): large packets may vanish", small.MTU, small.Node, large.MTU, large.Node)
	a.Object = "MTU of node " + large.Node
	a.Advice = fmt.Sprintf("set MTU to %d for all nodes, and let security groups and ACLs pass ICMP's fragmentation-needed", small.MTU)
	return true
}

// silent: the packet arrived where it should.
func silent(f Facts, a *Answer) bool {
	if f.To.Node == "" || f.To.Node == f.From.Node && f.To.Kind != KindPod {
		return false
	}
	for _, c := range f.Connections {
		if c.Node == f.To.Node && c.Sent > 0 && c.Received == 0 {
			a.Cause, a.Object = NotAnswering, f.Question.To.String()
			a.Reason = fmt.Sprintf("%d packets reached the receiver's node %s and the receiver has not answered", c.Sent, c.Node)
			a.Advice = "look whether its process listens on that port and address, whether it is overloaded, and at a firewall inside the pod"
			return true
		}
	}
	return false
}
