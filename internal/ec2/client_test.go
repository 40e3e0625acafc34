package ec2

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/google/go-cmp/cmp"
)

// wire is a server that answers EC2's query protocol.
type wire struct {
	mu       sync.Mutex
	requests []url.Values
	answer   func(n int, form url.Values) (status int, body string)
	observed []string
}

func (w *wire) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	w.requests = append(w.requests, r.Form)
	n := len(w.requests)
	w.mu.Unlock()
	status, body := w.answer(n, r.Form)
	rw.Header().Set("Content-Type", "text/xml")
	rw.WriteHeader(status)
	fmt.Fprint(rw, body)
}

func (w *wire) Called(action, code string, _ time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.observed = append(w.observed, action+" "+code)
}
func (w *wire) Waited(string, time.Duration) {}

func newClient(t *testing.T, answer func(n int, form url.Values) (int, string)) (*Client, *wire) {
	t.Helper()
	w := &wire{answer: answer}
	srv := httptest.NewServer(w)
	t.Cleanup(srv.Close)
	cfg := aws.Config{Region: "us-west-2", Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: "secret"}, nil
	})}
	return FromConfig(cfg, Options{Observer: w, SDK: []func(*sdk.Options){func(o *sdk.Options) { o.BaseEndpoint = aws.String(srv.URL) }}}), w
}

func failure(code string) string {
	return `<?xml version="1.0"?><Response><Errors><Error><Code>` + code + `</Code><Message>as EC2 says it</Message></Error></Errors><RequestID>r</RequestID></Response>`
}

func eniXML(id, extra string) string {
	return `<networkInterfaceId>` + id + `</networkInterfaceId><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId><availabilityZone>us-west-2a</availabilityZone>
<description>weft i-1</description><status>in-use</status><macAddress>0a:00:00:00:00:01</macAddress><privateIpAddress>10.0.0.5</privateIpAddress>
<groupSet><item><groupId>sg-1</groupId></item></groupSet>
<privateIpAddressesSet><item><privateIpAddress>10.0.0.5</privateIpAddress><primary>true</primary></item><item><privateIpAddress>10.0.0.6</privateIpAddress><primary>false</primary></item></privateIpAddressesSet>
<tagSet><item><key>weft.dev/managed</key><value>true</value></item></tagSet>` + extra
}

func TestDescribeInterfaces(t *testing.T) {
	c, w := newClient(t, func(n int, _ url.Values) (int, string) {
		next, id := "", fmt.Sprintf("eni-%d", n)
		if n == 1 {
			next = "<nextToken>more</nextToken>"
		}
		return 200, `<DescribeNetworkInterfacesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><networkInterfaceSet><item>` +
			eniXML(id, `<attachment><attachmentId>eni-attach-1</attachmentId><instanceId>i-1</instanceId><deviceIndex>1</deviceIndex><networkCardIndex>0</networkCardIndex><status>attached</status><deleteOnTermination>true</deleteOnTermination></attachment>`) +
			`</item></networkInterfaceSet>` + next + `</DescribeNetworkInterfacesResponse>`
	})
	got, err := c.DescribeInterfaces(t.Context(), InterfaceQuery{InstanceIDs: []string{"i-1"}, Tags: map[string]string{TagManaged: "true"}})
	if err != nil {
		t.Fatal(err)
	}
	want := Interface{
		ID: "eni-1", MAC: "0a:00:00:00:00:01", SubnetID: "subnet-1", VPCID: "vpc-1", Zone: "us-west-2a", Description: "weft i-1", Status: "in-use",
		Groups: []string{"sg-1"}, Primary: netip.MustParseAddr("10.0.0.5"), Secondary: []netip.Addr{netip.MustParseAddr("10.0.0.6")},
		Tags:       map[string]string{TagManaged: "true"},
		Attachment: &Attachment{ID: "eni-attach-1", InstanceID: "i-1", DeviceIndex: 1, Status: "attached", DeleteOnTermination: true},
	}
	if len(got) != 2 || got[1].ID != "eni-2" {
		t.Fatalf("%d interfaces of two pages", len(got))
	}
	if diff := cmp.Diff(want, got[0], cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	first := w.requests[0]
	if first.Get("MaxResults") == "" || first.Get("NetworkInterfaceId.1") != "" {
		t.Errorf("pages and ids are mixed: %v", first)
	}
	filters := map[string]string{}
	for i := 1; first.Get(fmt.Sprintf("Filter.%d.Name", i)) != ""; i++ {
		filters[first.Get(fmt.Sprintf("Filter.%d.Name", i))] = first.Get(fmt.Sprintf("Filter.%d.Value.1", i))
	}
	if diff := cmp.Diff(map[string]string{"attachment.instance-id": "i-1", "tag:weft.dev/managed": "true"}, filters); diff != "" {
		t.Errorf("filters (-want +got):\n%s", diff)
	}
	if _, err := c.DescribeInterfaces(t.Context(), InterfaceQuery{}); err == nil {
		t.Error("every ENI of the account was asked for")
	}
}

func TestDescribeManyInstances(t *testing.T) {
	c, w := newClient(t, func(int, url.Values) (int, string) {
		return 200, `<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><reservationSet/></DescribeInstancesResponse>`
	})
	ids := make([]string, 250)
	for i := range ids {
		ids[i] = fmt.Sprintf("i-%d", i)
	}
	if _, err := c.DescribeInstances(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
	if len(w.requests) != 3 {
		t.Errorf("%d requests for 250 instances, want 3", len(w.requests))
	}
}

func TestInstanceTypeOfManyCards(t *testing.T) {
	c, _ := newClient(t, func(int, url.Values) (int, string) {
		return 200, `<DescribeInstanceTypesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><instanceTypeSet><item><instanceType>p5.48xlarge</instanceType>
<networkInfo><maximumNetworkInterfaces>64</maximumNetworkInterfaces><ipv4AddressesPerInterface>50</ipv4AddressesPerInterface><defaultNetworkCardIndex>0</defaultNetworkCardIndex>
<networkCards><item><networkCardIndex>0</networkCardIndex><maximumNetworkInterfaces>2</maximumNetworkInterfaces></item><item><networkCardIndex>1</networkCardIndex><maximumNetworkInterfaces>2</maximumNetworkInterfaces></item></networkCards>
</networkInfo></item></instanceTypeSet></DescribeInstanceTypesResponse>`
	})
	got, err := c.DescribeInstanceTypes(t.Context(), []string{"p5.48xlarge"})
	if err != nil || len(got) != 1 || got[0] != (InstanceType{"p5.48xlarge", 2, 50}) {
		t.Errorf("%+v, %v: the limit is the default card's", got, err)
	}
}

func TestCreateInterface(t *testing.T) {
	c, w := newClient(t, func(n int, _ url.Values) (int, string) {
		if n == 1 {
			return 500, failure("InternalError")
		}
		return 200, `<CreateNetworkInterfaceResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><networkInterface>` + eniXML("eni-1", "") + `</networkInterface></CreateNetworkInterfaceResponse>`
	})
	in := CreateInterface{SubnetID: "subnet-1", Groups: []string{"sg-1"}, Description: "weft i-1", Addresses: 9, Tags: map[string]string{"b": "2", "a": "1"}, Token: ClientToken("uid", 1, 2)}
	e, err := c.CreateInterface(t.Context(), in)
	if err != nil || e.ID != "eni-1" {
		t.Fatalf("%+v, %v", e, err)
	}
	if len(w.requests) != 2 {
		t.Fatalf("%d requests, want the second after a 500", len(w.requests))
	}
	for _, r := range w.requests {
		want := map[string]string{
			"Action": "CreateNetworkInterface", "ClientToken": in.Token, "SubnetId": "subnet-1", "SecurityGroupId.1": "sg-1", "SecondaryPrivateIpAddressCount": "9",
			"TagSpecification.1.ResourceType": "network-interface", "TagSpecification.1.Tag.1.Key": "a", "TagSpecification.1.Tag.2.Key": "b",
		}
		for k, v := range want {
			if r.Get(k) != v {
				t.Errorf("%s is %q, want %q", k, r.Get(k), v)
			}
		}
	}
	if len(in.Token) > 64 {
		t.Errorf("token of %d characters: EC2 takes 64", len(in.Token))
	}
}

// A call that has no token is not repeated when its answer was lost, only when it was refused for its rate.
func TestAssignIsNotRepeated(t *testing.T) {
	ok := `<AssignPrivateIpAddressesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><return>true</return><assignedPrivateIpAddressesSet><assignedPrivateIpAddressSetType><privateIpAddress>10.0.0.9</privateIpAddress></assignedPrivateIpAddressSetType></assignedPrivateIpAddressesSet></AssignPrivateIpAddressesResponse>`
	c, w := newClient(t, func(n int, _ url.Values) (int, string) { return 500, failure("InternalError") })
	if _, err := c.AssignAddresses(t.Context(), "eni-1", 1); !errors.Is(err, ErrUncertain) || len(w.requests) != 1 {
		t.Errorf("%v after %d requests", err, len(w.requests))
	}
	c, w = newClient(t, func(n int, _ url.Values) (int, string) {
		if n == 1 {
			return 503, failure("RequestLimitExceeded")
		}
		return 200, ok
	})
	if _, err := c.AssignAddresses(t.Context(), "eni-1", 1); err != nil || len(w.requests) != 2 {
		t.Errorf("throttled: %v after %d requests", err, len(w.requests))
	}
	if want := []string{"AssignPrivateIpAddresses RequestLimitExceeded", "AssignPrivateIpAddresses OK"}; !slices.Equal(w.observed, want) {
		t.Errorf("observed %v, want every attempt: %v", w.observed, want)
	}
}

func TestPermitted(t *testing.T) {
	for _, c := range []struct {
		code string
		want error
	}{
		{"DryRunOperation", nil}, {"InvalidNetworkInterfaceID.NotFound", nil}, {"InvalidNetworkInterfaceId.Malformed", nil}, {"InvalidParameterValue", nil},
		{"UnauthorizedOperation", ErrUnauthorized}, {"InternalError", ErrUncertain},
	} {
		for _, action := range []string{ActionUnassignAddresses, ActionDeleteInterface, ActionDetachInterface} {
			if c.code == "InternalError" && action != ActionUnassignAddresses {
				continue // its retries take seconds
			}
			client, w := newClient(t, func(int, url.Values) (int, string) { return 400, failure(c.code) })
			if err := client.Permitted(t.Context(), action); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("%s answers %s: %v", action, c.code, err)
			}
			if action != ActionUnassignAddresses && w.requests[0].Get("DryRun") != "true" {
				t.Errorf("%s was called in earnest", action)
			}
		}
	}
}

func TestKinds(t *testing.T) {
	for _, c := range []struct {
		action, code string
		want         error
	}{
		{ActionCreateInterface, "UnauthorizedOperation", ErrUnauthorized},
		{ActionCreateInterface, "InsufficientFreeAddressesInSubnet", ErrSubnetFull},
		{ActionCreateInterface, "IdempotentParameterMismatch", ErrMismatch},
		{ActionAttachInterface, "AttachmentLimitExceeded", ErrLimit},
		{ActionAttachInterface, "InvalidNetworkInterfaceID.NotFound", ErrNotFound},
		{ActionAttachInterface, "InvalidParameterValue", ErrConflict},
		{ActionAttachInterface, "IncorrectState", ErrConflict},
		{ActionDeleteInterface, "InvalidParameterValue", ErrInUse},
		{ActionCreateInterface, "InvalidParameterValue", ErrRejected},
		{ActionDescribeInstances, "RequestLimitExceeded", ErrThrottled},
		{ActionDescribeInstances, "SomethingNew", ErrRejected},
	} {
		err := fmt.Errorf("node: %w", NewError(c.action, c.code, "text"))
		if !errors.Is(err, c.want) {
			t.Errorf("%s %s isn't %v", c.action, c.code, c.want)
		}
		if action, code, ok := Describe(err); !ok || action != c.action || code != c.code {
			t.Errorf("%s %s became %s %s", c.action, c.code, action, code)
		}
	}
	if s := NewError(ActionCreateInterface, "UnauthorizedOperation", "").Error(); !strings.Contains(s, "ec2:CreateNetworkInterface") {
		t.Error(s)
	}
}

func TestRouteOf(t *testing.T) {
	table := func(target string, active bool) []RouteTable {
		return []RouteTable{{Main: true, Routes: []Route{{Destination: "10.0.0.0/8", Target: "local", Active: true}, {Destination: "0.0.0.0/0", Target: target, Active: active}}}}
	}
	for _, c := range []struct {
		name   string
		tables []RouteTable
		want   DefaultRoute
	}{
		{"internet gateway", table("igw-1", true), InternetGateway},
		{"NAT gateway", table("nat-1", true), NATGateway},
		{"transit gateway", table("tgw-1", true), TransitGateway},
		{"NAT instance", table("eni-1", true), NATGateway},
		{"peering", table("pcx-1", true), Unknown},
		{"gone", table("nat-1", false), NoDefault},
		{"none", []RouteTable{{Main: true}}, NoDefault},
		{"denied", nil, Unknown},
		{"own before main", append(table("igw-1", true), RouteTable{Subnets: []string{"subnet-1"}, Routes: []Route{{Destination: "0.0.0.0/0", Target: "nat-1", Active: true}}}), NATGateway},
		{"another's", append(table("igw-1", true), RouteTable{Subnets: []string{"subnet-2"}}), InternetGateway},
	} {
		if got := RouteOf("subnet-1", c.tables); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestPeers(t *testing.T) {
	route := func(to, by string) Route { return Route{Destination: to, Target: by, Active: true} }
	gone := route("10.7.0.0/16", "pcx-2")
	gone.Active = false
	got := Peers([]RouteTable{
		{Main: true, Routes: []Route{route("10.0.0.0/16", "local"), route("10.9.0.0/16", "tgw-1"), route("0.0.0.0/0", "tgw-1"), gone, route("2001:db8::/32", "pcx-1")}},
		{Subnets: []string{"subnet-1"}, Routes: []Route{route("10.8.1.0/16", "pcx-1"), route("10.9.0.0/16", "tgw-1"), route("172.16.0.0/12", "vgw-1"), route("0.0.0.0/0", "nat-1")}},
		{ID: "rtb-unused", Routes: []Route{route("10.6.0.0/16", "pcx-3")}},
	})
	if want := []netip.Prefix{netip.MustParsePrefix("10.8.0.0/16"), netip.MustParsePrefix("10.9.0.0/16")}; !slices.Equal(got, want) {
		t.Errorf("peers are %s, expected %s", got, want)
	}
}

func TestClientToken(t *testing.T) {
	seen := map[string]bool{}
	for _, uid := range []string{"a", "b"} {
		for index := range 3 {
			for epoch := range int64(3) {
				tok := ClientToken(uid, index, epoch)
				if seen[tok] || tok != ClientToken(uid, index, epoch) {
					t.Errorf("%s %d %d", uid, index, epoch)
				}
				seen[tok] = true
			}
		}
	}
}

func TestLimiter(t *testing.T) {
	l := NewLimiter(0.5, nil)
	for range 50 { // half of the bucket of 100
		if err := l.Wait(t.Context(), ActionCreateInterface); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := l.Wait(ctx, ActionCreateInterface); err == nil {
		t.Error("the 51st call of a burst was let through")
	}
	if err := l.Wait(t.Context(), ActionAttachInterface); err != nil {
		t.Error("another action was held back")
	}
	r, full := l.of(ActionCreateInterface)
	if full != 2.5 {
		t.Errorf("%v creates a second, want half of 5", full)
	}
	l.Done(ActionCreateInterface, true)
	if r.Limit() != full/2 {
		t.Errorf("after a throttled call %v", r.Limit())
	}
	for range 10 {
		l.Done(ActionCreateInterface, false)
	}
	if r.Limit() != full {
		t.Errorf("after ten others %v", r.Limit())
	}
}

func TestRegion(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	label := func(context.Context) (string, error) { return "eu-west-1", nil }
	none := func(context.Context) (string, error) { return "", nil }
	if r, source, err := Region(t.Context(), "us-west-2", label); r != "us-west-2" || source != "flag" || err != nil {
		t.Error(r, source, err)
	}
	if r, source, err := Region(t.Context(), "", label); r != "eu-west-1" || source != "node label" || err != nil {
		t.Error(r, source, err)
	}
	if _, _, err := Region(t.Context(), "", none); err == nil || !strings.Contains(err.Error(), "set AWS_REGION") {
		t.Error(err)
	}
	t.Setenv("AWS_REGION", "ap-south-1")
	if r, source, err := Region(t.Context(), "", label); r != "ap-south-1" || source != "environment" || err != nil {
		t.Error(r, source, err)
	}
}
