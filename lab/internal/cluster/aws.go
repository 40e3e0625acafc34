package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/weft-cni/weft/lab/internal/aws"
	"github.com/weft-cni/weft/lab/internal/aws/dns"
	"github.com/weft-cni/weft/lab/internal/aws/imds"
	"github.com/weft-cni/weft/lab/internal/controlplane"
	"github.com/weft-cni/weft/lab/internal/door"
	"github.com/weft-cni/weft/lab/internal/fabric"
	"github.com/weft-cni/weft/lab/internal/fabric/internet"
	"github.com/weft-cni/weft/lab/internal/netns"
	"github.com/weft-cni/weft/lab/internal/pki"
)

var (
	// awsAddress is where AWS' endpoints are, on the internet's side.
	awsAddress = netip.MustParseAddr("198.51.100.2")
	// worldAddress is a host that has nothing to do with AWS.
	worldAddress = netip.MustParseAddr("198.51.100.80")
	// imdsAddress is the metadata service's on every instance.
	imdsAddress = netip.MustParseAddr("169.254.169.254")
	// dnsAddress is the link-local name of the VPC's resolver.
	dnsAddress = netip.MustParseAddr("169.254.169.253")
)

// publicName is fabric.PublicHost's.
const publicName = "one.one.one.one"

func (c *Cluster) serveAWS() error {
	pair, err := c.awsCA.Issue(pki.Subject{CommonName: "amazonaws.com", DNSNames: aws.CertificateNames(c.opts.Config.Region)})
	if err != nil {
		return err
	}
	certificate, err := pair.TLS()
	if err != nil {
		return fmt.Errorf("AWS' endpoints: %w", err)
	}
	emulator := aws.New(c.cloud, c.log)
	c.mu.Lock()
	c.aws = emulator
	c.mu.Unlock()
	l, err := netns.Listen(c.lab.Netns("inet"), "tcp", netip.AddrPortFrom(awsAddress, 443).String())
	if err != nil {
		return fmt.Errorf("AWS' endpoints: %w", err)
	}
	front := door.New(l, c.endpointHost(), certificate, c.dialPlane)
	c.background("AWS' front door", front.Run)
	c.serveOn("AWS' endpoints", front, &http.Server{Handler: emulator})
	metadata, err := imds.New(c.cloud, c.log)
	if err != nil {
		return err
	}
	l, err = netns.Listen(c.lab.Netns("vpc"), "tcp", netip.AddrPortFrom(imdsAddress, 80).String())
	if err != nil {
		return fmt.Errorf("metadata service: %w", err)
	}
	c.background("metadata service", func(ctx context.Context) error { return metadata.Serve(ctx, l) })
	return nil
}

// AWS is the emulator; nil before its endpoints are up.
func (c *Cluster) AWS() *aws.Emulator {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.aws
}

func (c *Cluster) endpointHost() string { return strings.TrimPrefix(c.eks.Endpoint, "https://") }

// dialPlane connects to the API server from beside it.
func (c *Cluster) dialPlane(ctx context.Context) (net.Conn, error) {
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), controlplane.Port)
	return netns.DialContext(c.lab.Netns("cp"))(ctx, "tcp", at.String())
}

// serveNames runs the resolvers. The API server's name leads to the control plane's interfaces in the VPC
// and to its public endpoint elsewhere.
func (c *Cluster) serveNames() error {
	for _, at := range []struct {
		name   string
		ns     string
		addr   netip.Addr
		inside bool
	}{
		{"VPC's resolver", c.lab.Netns("vpc"), fabric.VPCResolver(c.opts.Config.VPC), true},
		{"link-local resolver", c.lab.Netns("vpc"), dnsAddress, true},
		{"public resolver", c.lab.Netns("inet"), awsAddress, false},
	} {
		server := dns.New(dns.Config{Cloud: c.cloud, AWS: awsAddress, Inside: at.inside, Names: c.names(at.inside)})
		address := netip.AddrPortFrom(at.addr, 53).String()
		packets, err := netns.ListenPacket(at.ns, "udp", address)
		if err != nil {
			return fmt.Errorf("%s: %w", at.name, err)
		}
		stream, err := netns.Listen(at.ns, "tcp", address)
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", at.name, err), packets.Close())
		}
		c.background(at.name, func(ctx context.Context) error { return server.Serve(ctx, packets, stream) })
	}
	return nil
}

func (c *Cluster) names(inside bool) func(string) []netip.Addr {
	world := strings.TrimSuffix(internet.Zone, ".")
	endpoint := strings.ToLower(c.endpointHost())
	return func(name string) []netip.Addr {
		switch {
		case name == endpoint && inside:
			// Asked each time: EKS may replace the interfaces.
			return c.cloud.ControlPlane(c.eks.Name).Endpoints
		case name == endpoint:
			return []netip.Addr{awsAddress}
		case name == world, strings.HasSuffix(name, "."+world):
			return []netip.Addr{worldAddress}
		case name == publicName:
			return []netip.Addr{fabric.PublicHost}
		default:
			return nil
		}
	}
}

// serveWorld runs the hosts on the internet.
func (c *Cluster) serveWorld() error {
	for _, host := range []internet.Host{
		{Address: worldAddress, Log: c.log},
		{Address: fabric.PublicHost, Names: map[string]netip.Addr{publicName + ".": fabric.PublicHost}, Log: c.log},
	} {
		sockets, err := host.Listen(c.lab.Netns("inet"))
		if err != nil {
			return err
		}
		c.background("host on the internet "+host.Address.String(), func(ctx context.Context) error { return host.Run(ctx, sockets) })
	}
	return nil
}
