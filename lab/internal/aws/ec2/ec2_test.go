package ec2

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/weft-cni/weft/lab/internal/aws/calllog"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/throttle"
)

type rig struct {
	cloud  *cloud.Cloud
	log    *calllog.Log
	server *httptest.Server
	admin  cloud.Credentials
	ec2    *sdk.Client
	node   cloud.Node
}

func newRig(t *testing.T, limiter *throttle.Limiter) *rig {
	t.Helper()
	ctx := t.Context()
	r := &rig{cloud: cloud.New(cloud.Config{Lab: "weft-t", Seed: 3}), log: calllog.New(1000)}
	var err error
	if r.admin, err = r.cloud.CreateUser(ctx, "admin", cloud.AdministratorAccess); err != nil {
		t.Fatal(err)
	}
	if _, err = r.cloud.CreateCluster(ctx, cloud.ClusterSpec{Name: "c", Version: "1.36", WithOIDC: true}); err != nil {
		t.Fatal(err)
	}
	if _, err = r.cloud.CreateNodegroup(ctx, "c", cloud.NodegroupSpec{Name: "ng", InstanceType: "m5.large"}); err != nil {
		t.Fatal(err)
	}
	if r.node, err = r.cloud.RunInstance(ctx, "c", "ng"); err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewServer(New(r.cloud, r.log, nil, limiter).Handler())
	t.Cleanup(r.server.Close)
	r.ec2 = r.client(r.admin)
	return r
}

func (r *rig) client(c cloud.Credentials) *sdk.Client {
	return sdk.New(sdk.Options{
		Region: "us-west-2", BaseEndpoint: aws.String(r.server.URL), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken),
	})
}

func wantCode(t *testing.T, err error, code string) smithy.APIError {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code {
		t.Fatalf("got %v, want the code %s", err, code)
	}
	return e
}

func TestLifeOfAnInterface(t *testing.T) {
	r := newRig(t, throttle.NewLimiter())
	ctx := t.Context()
	cl, _ := r.cloud.Cluster("c")
	made, err := r.ec2.CreateNetworkInterface(ctx, &sdk.CreateNetworkInterfaceInput{
		SubnetId: &r.node.SubnetID, Description: aws.String("weft " + r.node.ID), Groups: []string{cl.SecurityGroup}, SecondaryPrivateIpAddressCount: aws.Int32(4),
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeNetworkInterface, Tags: []types.Tag{{Key: aws.String("weft.dev/managed"), Value: aws.String("true")}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	id := *made.NetworkInterface.NetworkInterfaceId
	if len(made.NetworkInterface.PrivateIpAddresses) != 5 || made.NetworkInterface.Status != "pending" || len(made.NetworkInterface.TagSet) != 1 {
		t.Fatalf("created %+v", made.NetworkInterface)
	}
	attached, err := r.ec2.AttachNetworkInterface(ctx, &sdk.AttachNetworkInterfaceInput{InstanceId: &r.node.ID, NetworkInterfaceId: &id, DeviceIndex: aws.Int32(1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = r.ec2.ModifyNetworkInterfaceAttribute(ctx, &sdk.ModifyNetworkInterfaceAttributeInput{
		NetworkInterfaceId: &id, Attachment: &types.NetworkInterfaceAttachmentChanges{AttachmentId: attached.AttachmentId, DeleteOnTermination: aws.Bool(true)},
	}); err != nil {
		t.Fatal(err)
	}
	more, err := r.ec2.AssignPrivateIpAddresses(ctx, &sdk.AssignPrivateIpAddressesInput{NetworkInterfaceId: &id, SecondaryPrivateIpAddressCount: aws.Int32(3)})
	if err != nil || len(more.AssignedPrivateIpAddresses) != 3 {
		t.Fatalf("assign %+v %v", more, err)
	}
	blocks, err := r.ec2.AssignPrivateIpAddresses(ctx, &sdk.AssignPrivateIpAddressesInput{NetworkInterfaceId: &id, Ipv4PrefixCount: aws.Int32(1)})
	if err != nil || len(blocks.AssignedIpv4Prefixes) != 1 {
		t.Fatalf("assign a prefix %+v %v", blocks, err)
	}
	got, err := r.ec2.DescribeInstances(ctx, &sdk.DescribeInstancesInput{InstanceIds: []string{r.node.ID}})
	if err != nil {
		t.Fatal(err)
	}
	i := got.Reservations[0].Instances[0]
	if *i.PrivateDnsName != r.node.PrivateDNSName || *i.PublicIpAddress != r.node.PublicIP.String() || len(i.NetworkInterfaces) != 2 || *i.MetadataOptions.HttpPutResponseHopLimit != 2 {
		t.Fatalf("instance %+v", i)
	}
	second := i.NetworkInterfaces[1]
	if *second.Attachment.DeviceIndex != 1 || !*second.Attachment.DeleteOnTermination || len(second.PrivateIpAddresses) != 8 || len(second.Ipv4Prefixes) != 1 {
		t.Fatalf("second interface %+v", second)
	}
	if _, err := r.ec2.UnassignPrivateIpAddresses(ctx, &sdk.UnassignPrivateIpAddressesInput{NetworkInterfaceId: &id, PrivateIpAddresses: []string{*more.AssignedPrivateIpAddresses[0].PrivateIpAddress}}); err != nil {
		t.Fatal(err)
	}
	_, err = r.ec2.DeleteNetworkInterface(ctx, &sdk.DeleteNetworkInterfaceInput{NetworkInterfaceId: &id})
	if e := wantCode(t, err, "InvalidParameterValue"); e.ErrorMessage() != "Network interface '"+id+"' is currently in use." {
		t.Fatalf("message %q", e.ErrorMessage())
	}
	if _, err := r.ec2.DetachNetworkInterface(ctx, &sdk.DetachNetworkInterfaceInput{AttachmentId: attached.AttachmentId, Force: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ec2.DeleteNetworkInterface(ctx, &sdk.DeleteNetworkInterfaceInput{NetworkInterfaceId: &id}); err != nil {
		t.Fatal(err)
	}
	_, err = r.ec2.DescribeNetworkInterfaces(ctx, &sdk.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{id}})
	wantCode(t, err, "InvalidNetworkInterfaceID.NotFound")
	if n := r.log.Count(0, "ec2", "AssignPrivateIpAddresses"); n != 2 {
		t.Errorf("the log has %d assignments", n)
	}
}

func TestDescribes(t *testing.T) {
	r := newRig(t, nil)
	// Of large answers one in some tens ends in the client with "use of closed network connection", which the SDK
	// itself counts as a reason to try again.
	r.ec2 = sdk.New(sdk.Options{
		Region: "us-west-2", BaseEndpoint: aws.String(r.server.URL),
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff, o.RateLimiter = 10, 50*time.Millisecond, ratelimit.None
		}),
		Credentials: credentials.NewStaticCredentialsProvider(r.admin.AccessKeyID, r.admin.SecretAccessKey, r.admin.SessionToken),
	})
	ctx := t.Context()
	subnets, err := r.ec2.DescribeSubnets(ctx, &sdk.DescribeSubnetsInput{Filters: []types.Filter{
		{Name: aws.String("tag:kubernetes.io/role/elb"), Values: []string{"1"}}, {Name: aws.String("availability-zone"), Values: []string{"us-west-2?"}}}})
	if err != nil || len(subnets.Subnets) != 3 || !*subnets.Subnets[0].MapPublicIpOnLaunch {
		t.Fatalf("subnets %+v %v", subnets, err)
	}
	vpcs, err := r.ec2.DescribeVpcs(ctx, &sdk.DescribeVpcsInput{})
	if err != nil || *vpcs.Vpcs[0].CidrBlockAssociationSet[0].CidrBlock != "192.168.0.0/16" {
		t.Fatalf("vpcs %+v %v", vpcs, err)
	}
	tables, err := r.ec2.DescribeRouteTables(ctx, &sdk.DescribeRouteTablesInput{Filters: []types.Filter{{Name: aws.String("association.subnet-id"), Values: []string{*subnets.Subnets[0].SubnetId}}}})
	if err != nil || len(tables.RouteTables) != 1 || !strings.HasPrefix(*tables.RouteTables[0].Routes[1].GatewayId, "igw-") {
		t.Fatalf("tables %+v %v", tables, err)
	}
	groups, err := r.ec2.DescribeSecurityGroups(ctx, &sdk.DescribeSecurityGroupsInput{Filters: []types.Filter{{Name: aws.String("tag:aws:eks:cluster-name"), Values: []string{"c"}}}})
	if err != nil || len(groups.SecurityGroups) != 1 || *groups.SecurityGroups[0].IpPermissions[0].UserIdGroupPairs[0].GroupId != *groups.SecurityGroups[0].GroupId {
		t.Fatalf("groups %+v %v", groups, err)
	}
	kinds, err := r.ec2.DescribeInstanceTypes(ctx, &sdk.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"p5.48xlarge"}})
	if err != nil || *kinds.InstanceTypes[0].NetworkInfo.MaximumNetworkInterfaces != 64 || *kinds.InstanceTypes[0].NetworkInfo.NetworkCards[0].MaximumNetworkInterfaces != 2 {
		t.Fatalf("types %+v %v", kinds, err)
	}
	pages := sdk.NewDescribeInstanceTypesPaginator(r.ec2, &sdk.DescribeInstanceTypesInput{MaxResults: aws.Int32(50)})
	seen := map[string]bool{}
	for pages.HasMorePages() {
		p, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range p.InstanceTypes {
			if seen[string(it.InstanceType)] {
				t.Fatalf("%s is on two pages", it.InstanceType)
			}
			seen[string(it.InstanceType)] = true
		}
	}
	if len(seen) != len(cloud.Types()) {
		t.Fatalf("%d types on all pages, %d in all", len(seen), len(cloud.Types()))
	}
	control, err := r.ec2.DescribeNetworkInterfaces(ctx, &sdk.DescribeNetworkInterfacesInput{Filters: []types.Filter{{Name: aws.String("description"), Values: []string{"Amazon EKS c"}}}})
	if err != nil || len(control.NetworkInterfaces) != 2 || !*control.NetworkInterfaces[0].RequesterManaged {
		t.Fatalf("control plane %+v %v", control, err)
	}
	byName, err := r.ec2.DescribeInstances(ctx, &sdk.DescribeInstancesInput{Filters: []types.Filter{{Name: aws.String("private-dns-name"), Values: []string{r.node.PrivateDNSName}}}})
	if err != nil || len(byName.Reservations) != 1 {
		t.Fatalf("by name %+v %v", byName, err)
	}
	zones, err := r.ec2.DescribeAvailabilityZones(ctx, &sdk.DescribeAvailabilityZonesInput{})
	if err != nil || len(zones.AvailabilityZones) != 3 || *zones.AvailabilityZones[0].ZoneId != "usw2-az1" {
		t.Fatalf("zones %+v %v", zones, err)
	}
	if _, err := r.ec2.CreateTags(ctx, &sdk.CreateTagsInput{Resources: []string{r.node.ID}, Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}}); err != nil {
		t.Fatal(err)
	}
	tags, err := r.ec2.DescribeTags(ctx, &sdk.DescribeTagsInput{Filters: []types.Filter{{Name: aws.String("key"), Values: []string{"k"}}}})
	if err != nil || len(tags.Tags) != 1 || tags.Tags[0].ResourceType != types.ResourceTypeInstance {
		t.Fatalf("tags %+v %v", tags, err)
	}
}

func TestErrors(t *testing.T) {
	r := newRig(t, nil)
	ctx := t.Context()
	for name, tc := range map[string]struct {
		call func() error
		code string
	}{
		"unknown filter": {func() error {
			_, err := r.ec2.DescribeNetworkInterfaces(ctx, &sdk.DescribeNetworkInterfacesInput{Filters: []types.Filter{{Name: aws.String("colour"), Values: []string{"x"}}}})
			return err
		}, "InvalidParameterValue"},
		"ids and pages": {func() error {
			_, err := r.ec2.DescribeInstances(ctx, &sdk.DescribeInstancesInput{InstanceIds: []string{r.node.ID}, MaxResults: aws.Int32(10)})
			return err
		}, "InvalidParameterCombination"},
		"page too small": {func() error {
			_, err := r.ec2.DescribeSubnets(ctx, &sdk.DescribeSubnetsInput{MaxResults: aws.Int32(4)})
			return err
		}, "InvalidParameterValue"},
		"token of nobody": {func() error {
			_, err := r.ec2.DescribeSubnets(ctx, &sdk.DescribeSubnetsInput{MaxResults: aws.Int32(5), NextToken: aws.String("abc")})
			return err
		}, "InvalidNextToken"},
		"malformed id": {func() error {
			_, err := r.ec2.DescribeSubnets(ctx, &sdk.DescribeSubnetsInput{SubnetIds: []string{"subnet-x"}})
			return err
		}, "InvalidSubnetID.Malformed"},
		"unknown id": {func() error {
			_, err := r.ec2.DescribeInstances(ctx, &sdk.DescribeInstancesInput{InstanceIds: []string{"i-00000000000000001"}})
			return err
		}, "InvalidInstanceID.NotFound"},
		"unknown type": {func() error {
			_, err := r.ec2.DescribeInstanceTypes(ctx, &sdk.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"zz.large"}})
			return err
		}, "InvalidInstanceType"},
		"dry run": {func() error {
			_, err := r.ec2.CreateNetworkInterface(ctx, &sdk.CreateNetworkInterfaceInput{SubnetId: &r.node.SubnetID, DryRun: aws.Bool(true)})
			return err
		}, "DryRunOperation"},
		"two attributes": {func() error {
			_, err := r.ec2.ModifyNetworkInterfaceAttribute(ctx, &sdk.ModifyNetworkInterfaceAttributeInput{NetworkInterfaceId: &r.node.ENIs[0],
				Description: &types.AttributeValue{Value: aws.String("x")}, SourceDestCheck: &types.AttributeBooleanValue{Value: aws.Bool(false)}})
			return err
		}, "InvalidParameterCombination"},
		"not there": {func() error {
			_, err := r.ec2.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{})
			return err
		}, "InvalidAction"},
		"unknown parameter": {func() error {
			_, err := r.ec2.ModifyInstanceMetadataOptions(ctx, &sdk.ModifyInstanceMetadataOptionsInput{InstanceId: &r.node.ID, HttpProtocolIpv6: "enabled"})
			return err
		}, "UnknownParameter"},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, tc.call(), tc.code) })
	}
}

func TestSecurityGroups(t *testing.T) {
	r := newRig(t, nil)
	ctx := t.Context()
	cl, _ := r.cloud.Cluster("c")
	open := []types.IpPermission{
		{IpProtocol: aws.String("icmp"), FromPort: aws.Int32(-1), ToPort: aws.Int32(-1), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}},
		{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(30000), ToPort: aws.Int32(32767), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0"), Description: aws.String("node ports")}}},
	}
	got, err := r.ec2.AuthorizeSecurityGroupIngress(ctx, &sdk.AuthorizeSecurityGroupIngressInput{GroupId: &cl.SecurityGroup, IpPermissions: open})
	if err != nil || len(got.SecurityGroupRules) != 2 {
		t.Fatalf("%+v %v", got, err)
	}
	_, err = r.ec2.AuthorizeSecurityGroupIngress(ctx, &sdk.AuthorizeSecurityGroupIngressInput{GroupId: &cl.SecurityGroup, IpPermissions: open[:1]})
	wantCode(t, err, "InvalidPermission.Duplicate")
	var rules int
	r.cloud.Read(func(m *cloud.Model) { rules = len(m.FabricState().Groups[cl.SecurityGroup].Ingress) })
	if rules != 3 {
		t.Fatalf("the fabric has %d rules", rules)
	}
	if _, err := r.ec2.RevokeSecurityGroupIngress(ctx, &sdk.RevokeSecurityGroupIngressInput{GroupId: &cl.SecurityGroup, IpPermissions: open}); err != nil {
		t.Fatal(err)
	}
	_, err = r.ec2.RevokeSecurityGroupIngress(ctx, &sdk.RevokeSecurityGroupIngressInput{GroupId: &cl.SecurityGroup, IpPermissions: open})
	wantCode(t, err, "InvalidPermission.NotFound")
}

func TestSignatures(t *testing.T) {
	r := newRig(t, nil)
	ctx := t.Context()
	bad := r.admin
	bad.SecretAccessKey = "wrong"
	_, err := r.client(bad).DescribeVpcs(ctx, &sdk.DescribeVpcsInput{})
	wantCode(t, err, "AuthFailure")
	bad = r.admin
	bad.AccessKeyID = "AKIAAAAAAAAAAAAAAAAA"
	_, err = r.client(bad).DescribeVpcs(ctx, &sdk.DescribeVpcsInput{})
	wantCode(t, err, "AuthFailure")
	session, err := r.cloud.InstanceCredentials(ctx, r.node.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.client(session).DescribeVpcs(ctx, &sdk.DescribeVpcsInput{}); err != nil {
		t.Fatal(err)
	}
	session.SessionToken = ""
	_, err = r.client(session).DescribeVpcs(ctx, &sdk.DescribeVpcsInput{})
	wantCode(t, err, "AuthFailure")
}

func TestDenied(t *testing.T) {
	r := newRig(t, nil)
	ctx := t.Context()
	session, err := r.cloud.InstanceCredentials(ctx, r.node.ID)
	if err != nil {
		t.Fatal(err)
	}
	node := r.client(session)
	if _, err := node.CreateNetworkInterface(ctx, &sdk.CreateNetworkInterfaceInput{SubnetId: &r.node.SubnetID}); err != nil {
		t.Fatalf("the CNI policy allows it: %v", err)
	}
	_, err = node.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{r.node.ID}})
	e := wantCode(t, err, "UnauthorizedOperation")
	for _, part := range []string{":assumed-role/", r.node.ID, "ec2:TerminateInstances", "no identity-based policy", "Encoded authorization failure message"} {
		if !strings.Contains(e.ErrorMessage(), part) {
			t.Errorf("%q lacks %q", e.ErrorMessage(), part)
		}
	}
	// A dry run asks for the right first.
	_, err = node.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{r.node.ID}, DryRun: aws.Bool(true)})
	wantCode(t, err, "UnauthorizedOperation")
	// The CNI policy lets tags be set on interfaces only.
	_, err = node.CreateTags(ctx, &sdk.CreateTagsInput{Resources: []string{r.node.SubnetID}, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}})
	wantCode(t, err, "UnauthorizedOperation")
}

func TestThrottling(t *testing.T) {
	r := newRig(t, throttle.NewLimiter())
	deadline := time.Now().Add(20 * time.Second)
	for n := 0; time.Now().Before(deadline); n++ {
		_, err := r.ec2.DescribeInstances(context.Background(), &sdk.DescribeInstancesInput{})
		if err == nil {
			continue
		}
		wantCode(t, err, "RequestLimitExceeded")
		if n < 50 {
			t.Fatalf("throttled after %d calls, the bucket has 50", n)
		}
		if _, err := r.ec2.DescribeInstances(context.Background(), &sdk.DescribeInstancesInput{MaxResults: aws.Int32(100)}); err != nil {
			t.Fatalf("a paged call has its own bucket: %v", err)
		}
		return
	}
	t.Fatal("never throttled")
}

// TestCommandLine calls the distribution's aws, which reads XML by names exactly as AWS writes them.
func TestCommandLine(t *testing.T) {
	const path = "/usr/bin/aws"
	if _, err := os.Stat(path); err != nil {
		t.Skip("no /usr/bin/aws: package awscli is not installed")
	}
	r := newRig(t, nil)
	home := t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), path, append([]string{"--endpoint-url", r.server.URL, "--region", "us-west-2", "--output", "text"}, args...)...)
		cmd.Env = []string{"AWS_ACCESS_KEY_ID=" + r.admin.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + r.admin.SecretAccessKey, "HOME=" + home, "AWS_PAGER=",
			"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=" + filepath.Join(home, "none"), "PATH=/usr/bin:/bin"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got := run("ec2", "describe-instances", "--filters", "Name=private-dns-name,Values="+r.node.PrivateDNSName, "--query", "Reservations[].Instances[].InstanceId"); got != r.node.ID {
		t.Fatalf("describe-instances: %q, want %q", got, r.node.ID)
	}
	eni := run("ec2", "create-network-interface", "--subnet-id", r.node.SubnetID, "--secondary-private-ip-address-count", "2", "--query", "NetworkInterface.NetworkInterfaceId")
	if got := run("ec2", "describe-network-interfaces", "--network-interface-ids", eni, "--query", "length(NetworkInterfaces[0].PrivateIpAddresses)"); got != "3" {
		t.Fatalf("the interface has %s addresses", got)
	}
	cidrs := strings.Fields(run("ec2", "describe-subnets", "--query", "Subnets[].CidrBlock"))
	if !slices.Contains(cidrs, "192.168.160.0/19") {
		t.Fatalf("subnets %v", cidrs)
	}
}
