package aws

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/imds"
)

// rig is the whole emulator behind TLS, reached by AWS's own names: whatever the name, the client dials it.
type rig struct {
	emulator *Emulator
	server   *httptest.Server
	http     *http.Client
	admin    cloud.Credentials
	cluster  cloud.Cluster
	node     cloud.Node
	signer   jose.Signer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	ctx := t.Context()
	c := cloud.New(cloud.Config{Lab: "weft-t", Seed: 5})
	r := &rig{emulator: New(c, nil)}
	var err error
	if r.admin, err = c.CreateUser(ctx, "admin", cloud.AdministratorAccess); err != nil {
		t.Fatal(err)
	}
	if r.cluster, err = c.CreateCluster(ctx, cloud.ClusterSpec{Name: "demo", Version: "1.36", WithOIDC: true}); err != nil {
		t.Fatal(err)
	}
	if _, err = c.CreateNodegroup(ctx, "demo", cloud.NodegroupSpec{Name: "ng-1", Taints: []cloud.Taint{{Key: "node.cilium.io/agent-not-ready", Value: "true", Effect: "NO_EXECUTE"}}}); err != nil {
		t.Fatal(err)
	}
	if r.node, err = c.RunInstance(ctx, "demo", "ng-1"); err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if r.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, nil); err != nil {
		t.Fatal(err)
	}
	jwks, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "RS256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetClusterTrust(ctx, "demo", []byte("the CA"), jwks); err != nil {
		t.Fatal(err)
	}
	if err := c.SetAddon(ctx, "demo", cloud.Addon{Name: "coredns", Version: "v1.15.0-eksbuild.1", Status: "DEGRADED", Issues: []cloud.AddonIssue{{Code: "InsufficientNumberOfReplicas", Message: "none"}}}); err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewTLSServer(r.emulator)
	t.Cleanup(r.server.Close)
	transport := r.server.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.InsecureSkipVerify = true
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, r.server.Listener.Addr().String())
	}
	r.http = &http.Client{Transport: transport}
	return r
}

func (r *rig) config(p awssdk.CredentialsProvider) awssdk.Config {
	return awssdk.Config{Region: "us-west-2", HTTPClient: r.http, Credentials: p, RetryMaxAttempts: 1}
}

func static(c cloud.Credentials) awssdk.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)
}

func (r *rig) token(t *testing.T, change func(*jwt.Claims)) string {
	t.Helper()
	now := time.Now()
	claims := jwt.Claims{
		Issuer: r.cluster.Issuer, Subject: "system:serviceaccount:kube-system:cilium-operator", Audience: jwt.Audience{"sts.amazonaws.com"},
		Expiry: jwt.NewNumericDate(now.Add(time.Hour)), IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now),
	}
	if change != nil {
		change(&claims)
	}
	text, err := jwt.Signed(r.signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func wantCode(t *testing.T, err error, code string) smithy.APIError {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code {
		t.Fatalf("got %v, want the code %s", err, code)
	}
	return e
}

// operatorRole makes the guide's role with its trust policy and its permissions, with IAM's own calls.
func (r *rig) operatorRole(t *testing.T) string {
	t.Helper()
	ctx := t.Context()
	c := r.emulator.Cloud
	provider := strings.TrimPrefix(r.cluster.Issuer, "https://")
	trust := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::111122223333:oidc-provider/%[1]s"},
		"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{"%[1]s:sub":"system:serviceaccount:kube-system:cilium-operator","%[1]s:aud":"sts.amazonaws.com"}}},
		{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}]}`, provider)
	role, err := c.CreateRole(ctx, cloud.Role{Name: "operator", Trust: trust})
	if err != nil {
		t.Fatal(err)
	}
	policy, err := c.CreatePolicy(ctx, cloud.Policy{Name: "operator", Document: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ec2:CreateNetworkInterface","ec2:DescribeSubnets","ec2:DescribeVpcs","ec2:CreateTags"],"Resource":"*"}]}`})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ChangeIAM(ctx, func(m *cloud.Model) error {
		m.Roles["operator"].Attached = []string{policy.ARN}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return role.ARN
}

// TestIRSA goes the whole way that a pod's SDK goes: its environment, a token file, STS, then EC2.
func TestIRSA(t *testing.T) {
	r := newRig(t)
	arn := r.operatorRole(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(r.token(t, nil)), 0o600); err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"AWS_ROLE_ARN": arn, "AWS_WEB_IDENTITY_TOKEN_FILE": file, "AWS_REGION": "us-west-2", "AWS_CA_BUNDLE": "", "AWS_STS_REGIONAL_ENDPOINTS": "regional",
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none"} {
		t.Setenv(k, v)
	}
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithHTTPClient(r.http), config.WithRetryMaxAttempts(1))
	if err != nil {
		t.Fatal(err)
	}
	who, err := sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil || !strings.HasPrefix(*who.Arn, "arn:aws:sts::111122223333:assumed-role/operator/") {
		t.Fatalf("identity %+v %v", who, err)
	}
	client := ec2.NewFromConfig(cfg)
	if _, err := client.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: &r.node.SubnetID, TagSpecifications: []types.TagSpecification{{
		ResourceType: types.ResourceTypeNetworkInterface, Tags: []types.Tag{{Key: awssdk.String("a"), Value: awssdk.String("b")}}}}}); err != nil {
		t.Fatal(err)
	}
	_, err = client.DescribeRouteTables(t.Context(), &ec2.DescribeRouteTablesInput{})
	e := wantCode(t, err, "UnauthorizedOperation")
	if !strings.Contains(e.ErrorMessage(), "ec2:DescribeRouteTables") || !strings.Contains(e.ErrorMessage(), *who.Arn) {
		t.Fatalf("message %q", e.ErrorMessage())
	}
}

func TestWebIdentityRefused(t *testing.T) {
	r := newRig(t)
	arn := r.operatorRole(t)
	client := sts.NewFromConfig(r.config(awssdk.AnonymousCredentials{}))
	take := func(role, token string) error {
		_, err := client.AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{RoleArn: &role, RoleSessionName: awssdk.String("session"), WebIdentityToken: &token})
		return err
	}
	if err := take(arn, r.token(t, nil)); err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: other, KeyID: "k1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	forged := &rig{cluster: r.cluster, signer: signer}
	for name, tc := range map[string]struct{ role, token, code string }{
		"other service account": {arn, r.token(t, func(c *jwt.Claims) { c.Subject = "system:serviceaccount:default:op" }), "AccessDenied"},
		"other audience":        {arn, r.token(t, func(c *jwt.Claims) { c.Audience = jwt.Audience{"https://kubernetes.default.svc"} }), "InvalidIdentityToken"},
		"other issuer":          {arn, r.token(t, func(c *jwt.Claims) { c.Issuer += "0" }), "InvalidIdentityToken"},
		"expired":               {arn, r.token(t, func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Second)) }), "ExpiredTokenException"},
		"no end":                {arn, r.token(t, func(c *jwt.Claims) { c.Expiry = nil }), "ExpiredTokenException"},
		"other key":             {arn, forged.token(t, nil), "InvalidIdentityToken"},
		"no token":              {arn, "abcdef", "InvalidIdentityToken"},
		"no such role":          {arn + "x", r.token(t, nil), "AccessDenied"},
		"role of nodes":         {nodeRole(t, r), r.token(t, nil), "AccessDenied"},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, take(tc.role, tc.token), tc.code) })
	}
}

func nodeRole(t *testing.T, r *rig) string {
	t.Helper()
	arn := ""
	r.emulator.Cloud.Read(func(m *cloud.Model) { arn = m.NodeRole(m.Instances[r.node.ID]).ARN })
	return arn
}

func TestAssumeRole(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	c := r.emulator.Cloud
	poor, err := c.CreateUser(ctx, "poor")
	if err != nil {
		t.Fatal(err)
	}
	for name, principal := range map[string]string{"wide": "arn:aws:iam::111122223333:root", "narrow": "arn:aws:iam::111122223333:user/poor"} {
		if _, err := c.CreateRole(ctx, cloud.Role{Name: name, Trust: `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":"sts:AssumeRole"}}`}); err != nil {
			t.Fatal(err)
		}
	}
	take := func(who cloud.Credentials, role string) error {
		_, err := sts.NewFromConfig(r.config(static(who))).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: awssdk.String("arn:aws:iam::111122223333:role/" + role), RoleSessionName: awssdk.String("me")})
		return err
	}
	if err := take(r.admin, "wide"); err != nil {
		t.Error(err)
	}
	if err := take(poor, "narrow"); err != nil {
		t.Error(err)
	}
	wantCode(t, take(poor, "wide"), "AccessDenied")
	wantCode(t, take(r.admin, "narrow"), "AccessDenied")
}

func TestEKS(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	client := eks.NewFromConfig(r.config(static(r.admin)))
	got, err := client.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: awssdk.String("demo")})
	if err != nil {
		t.Fatal(err)
	}
	cl := got.Cluster
	if *cl.Identity.Oidc.Issuer != r.cluster.Issuer || *cl.Endpoint != r.cluster.Endpoint || *cl.CertificateAuthority.Data != "dGhlIENB" || *cl.ResourcesVpcConfig.ClusterSecurityGroupId != r.cluster.SecurityGroup {
		t.Fatalf("cluster %+v", cl)
	}
	groups, err := client.ListNodegroups(ctx, &eks.ListNodegroupsInput{ClusterName: awssdk.String("demo")})
	if err != nil || !slices.Equal(groups.Nodegroups, []string{"ng-1"}) {
		t.Fatalf("%+v %v", groups, err)
	}
	group, err := client.DescribeNodegroup(ctx, &eks.DescribeNodegroupInput{ClusterName: awssdk.String("demo"), NodegroupName: awssdk.String("ng-1")})
	if err != nil || group.Nodegroup.Taints[0].Effect != "NO_EXECUTE" {
		t.Fatalf("%+v %v", group, err)
	}
	addon, err := client.DescribeAddon(ctx, &eks.DescribeAddonInput{ClusterName: awssdk.String("demo"), AddonName: awssdk.String("coredns")})
	if err != nil || addon.Addon.Status != "DEGRADED" || addon.Addon.Health.Issues[0].Code != "InsufficientNumberOfReplicas" {
		t.Fatalf("%+v %v", addon, err)
	}
	_, err = client.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: awssdk.String("nobody")})
	wantCode(t, err, "ResourceNotFoundException")
	session, err := r.emulator.Cloud.InstanceCredentials(ctx, r.node.ID)
	if err != nil {
		t.Fatal(err)
	}
	node := eks.NewFromConfig(r.config(static(session)))
	if _, err := node.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: awssdk.String("demo")}); err != nil {
		t.Fatalf("the worker policy allows it: %v", err)
	}
	_, err = node.ListClusters(ctx, &eks.ListClustersInput{})
	wantCode(t, err, "AccessDeniedException")
}

func TestIssuer(t *testing.T) {
	r := newRig(t)
	get := func(url string, into any) {
		t.Helper()
		res, err := r.http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(into); err != nil {
			t.Fatalf("%s: %s: %v", url, res.Status, err)
		}
	}
	var discovery struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	get(r.cluster.Issuer+"/.well-known/openid-configuration", &discovery)
	var keys jose.JSONWebKeySet
	get(discovery.Keys, &keys)
	if discovery.Issuer != r.cluster.Issuer || len(keys.Key("k1")) != 1 {
		t.Fatalf("%+v %+v", discovery, keys)
	}
}

// TestMetadataCredentials takes the node's role from IMDS as the SDK does and calls EC2 with it.
func TestMetadataCredentials(t *testing.T) {
	r := newRig(t)
	md, err := imds.New(r.emulator.Cloud, nil)
	if err != nil {
		t.Fatal(err)
	}
	proxied := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.RemoteAddr = r.node.PrivateIP.String() + ":4321"
		md.ServeHTTP(w, req)
	})
	server := httptest.NewUnstartedServer(proxied)
	server.Config.ConnContext = imds.ConnContext
	server.Start()
	defer server.Close()
	for k, v := range map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": server.URL, "AWS_REGION": "us-west-2", "AWS_CA_BUNDLE": "", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "",
		"AWS_ROLE_ARN": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "", "AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none", "AWS_EC2_METADATA_DISABLED": ""} {
		t.Setenv(k, v)
	}
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithHTTPClient(&http.Client{Transport: split{md: http.DefaultTransport, aws: r.http.Transport}}), config.WithRetryMaxAttempts(1))
	if err != nil {
		t.Fatal(err)
	}
	who, err := sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil || !strings.HasSuffix(*who.Arn, "/"+r.node.ID) {
		t.Fatalf("%+v %v", who, err)
	}
}

// split sends what is for the metadata service there, the rest to AWS.
type split struct{ md, aws http.RoundTripper }

func (s split) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" {
		return s.md.RoundTrip(r)
	}
	return s.aws.RoundTrip(r)
}

func TestCommandLine(t *testing.T) {
	const path = "/usr/bin/aws"
	if _, err := os.Stat(path); err != nil {
		t.Skip("no /usr/bin/aws: package awscli is not installed")
	}
	r := newRig(t)
	home := t.TempDir()
	plain := map[string]*httptest.Server{}
	for name, h := range r.emulator.services {
		plain[name] = httptest.NewServer(h)
		t.Cleanup(plain[name].Close)
	}
	aws := func(service string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), path, append([]string{"--endpoint-url", plain[service].URL, "--region", "us-west-2", "--output", "text", service}, args...)...)
		cmd.Env = []string{"AWS_ACCESS_KEY_ID=" + r.admin.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + r.admin.SecretAccessKey, "HOME=" + home, "AWS_PAGER=", "PATH=/usr/bin:/bin", "AWS_EC2_METADATA_DISABLED=true"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("aws %s %s: %v\n%s", service, strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got := aws("eks", "describe-cluster", "--name", "demo", "--query", "cluster.identity.oidc.issuer"); got != r.cluster.Issuer {
		t.Fatalf("issuer %q", got)
	}
	if got := aws("sts", "get-caller-identity", "--query", "Arn"); got != "arn:aws:iam::111122223333:user/admin" {
		t.Fatalf("identity %q", got)
	}
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}]}`
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ec2:DescribeVpcs"],"Resource":"*"}]}`
	role := aws("iam", "create-role", "--role-name", "weft", "--assume-role-policy-document", trust, "--query", "Role.Arn")
	arn := aws("iam", "create-policy", "--policy-name", "weft", "--policy-document", policy, "--query", "Policy.Arn")
	aws("iam", "attach-role-policy", "--role-name", "weft", "--policy-arn", arn)
	if got := aws("iam", "list-attached-role-policies", "--role-name", "weft", "--query", "AttachedPolicies[].PolicyArn"); got != arn {
		t.Fatalf("attached %q, want %q", got, arn)
	}
	if got := aws("iam", "get-role", "--role-name", "weft", "--query", "Role.[Arn,AssumeRolePolicyDocument.Statement[0].Principal.Service]"); got != role+"\tpods.eks.amazonaws.com" {
		t.Fatalf("role %q", got)
	}
}

func TestUnknownHost(t *testing.T) {
	r := newRig(t)
	res, err := r.http.Get("https://s3.us-west-2.amazonaws.com/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 404 || !strings.Contains(string(text), "s3.us-west-2.amazonaws.com") {
		t.Fatalf("%s %q %v", res.Status, text, err)
	}
	for host, want := range map[string]string{"ec2.us-west-2.amazonaws.com": "ec2", "iam.amazonaws.com": "iam", "sts.amazonaws.com": "sts", "oidc.eks.us-west-2.amazonaws.com": "oidc.eks", "ec2.us-west-2.api.aws": "ec2", "ec2.eu-west-1.amazonaws.com": "", "example.com": ""} {
		if got, _ := ServiceOf(host, "us-west-2"); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}
