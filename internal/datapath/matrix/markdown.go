package matrix

import (
	"fmt"
	"strings"
)

const preface = `# Who reaches whom, and which hook decides

Written by ` + "`go generate ./internal/datapath`" + ` from the table in ` + "`internal/datapath/matrix`" + `; ` + "`TestMatrix`" + ` sends a
datagram and its answer through every row, over two nodes, a router that checks sources, and kube-proxy's
translation done by nftables, and fails if a packet meets other hooks than those named here, or if what a pod sends
or gets is decided by no hook or by two.

The node of the row is *here*; hooks of the other node are in italics. What a hook made of a packet stands behind
it: *delivered* into the pod and *sent* out by its ENI pass by the kernel's stack, *to-stack* and *forwarded* leave
the packet to it, *redirected* sends it by the ENI that owns its source. **Bold** is the hook that decides for a pod:
` + "`from_pod`" + ` on what it sends; on what it gets, the hook that delivers it, which for a pod of the same node is
` + "`from_pod`" + ` again, for what comes by the wire ` + "`from_netdev`" + `, and for what the stack delivers ` + "`to_pod`" + `.

A service *by weft* is one that its programs translate in packets; who connects a socket to a service is connected to
a backend at once, and takes the ways of that backend's row. The others are kube-proxy's.

A pod with the host's network is the host. Both families take the same ways. Where a policy looks at the source, its
class comes from what the last column says.

`

// Markdown is the table as docs/datapath-matrix.md has it.
func Markdown(cells []Cell) string {
	var b strings.Builder
	b.WriteString(preface)
	b.WriteString("| from | to | request | answer | class of the source |\n| --- | --- | --- | --- | --- |\n")
	for _, c := range cells {
		request, reply := steps(c.Request), steps(c.Reply)
		if c.Pending != "" {
			request, reply = "pending", c.Pending
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", c.From, c.To, request, reply, c.Class)
	}
	return b.String()
}

func steps(list []Step) string {
	var out []string
	for _, s := range list {
		hook := "`" + s.Hook + "`"
		if egress, ingress := s.Decides(); egress || ingress {
			hook = "**" + hook + "**"
		}
		if s.Node != Here {
			hook = "*" + hook + "*"
		}
		out = append(out, hook+" "+s.Outcome)
	}
	return strings.Join(out, ", ")
}
