package imds

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
)

type rig struct {
	cloud  *cloud.Cloud
	node   cloud.Node
	server *httptest.Server
	from   string
	now    time.Time
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	r.cloud = cloud.New(cloud.Config{Lab: "weft-t", Seed: 13, Now: func() time.Time { return r.now }})
	ctx := t.Context()
	if _, err := r.cloud.CreateCluster(ctx, cloud.ClusterSpec{Name: "c"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.cloud.CreateNodegroup(ctx, "c", cloud.NodegroupSpec{Name: "ng"}); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.node, err = r.cloud.RunInstance(ctx, "c", "ng"); err != nil {
		t.Fatal(err)
	}
	r.from = r.node.PrivateIP.String()
	s, err := New(r.cloud, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.RemoteAddr = r.from + ":1234"
		s.ServeHTTP(w, req)
	}))
	r.server.Config.ConnContext = ConnContext
	r.server.Start()
	t.Cleanup(r.server.Close)
	return r
}

func (r *rig) do(t *testing.T, method, path string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func (r *rig) token(t *testing.T) string {
	t.Helper()
	status, token := r.do(t, http.MethodPut, "/latest/api/token", ttlHeader, "60")
	if status != http.StatusOK {
		t.Fatalf("token: %d", status)
	}
	return token
}

func TestTokens(t *testing.T) {
	r := newRig(t)
	token := r.token(t)
	for name, tc := range map[string]struct {
		method, path string
		header       []string
		want         int
	}{
		"with a token":   {"GET", "/latest/meta-data/instance-id", []string{tokenHeader, token}, 200},
		"without":        {"GET", "/latest/meta-data/instance-id", nil, 401},
		"another token":  {"GET", "/latest/meta-data/instance-id", []string{tokenHeader, "AAAA"}, 401},
		"no TTL":         {"PUT", "/latest/api/token", nil, 400},
		"TTL too long":   {"PUT", "/latest/api/token", []string{ttlHeader, "21601"}, 400},
		"forwarded":      {"PUT", "/latest/api/token", []string{ttlHeader, "60", "X-Forwarded-For", "1.2.3.4"}, 403},
		"token by GET":   {"GET", "/latest/api/token", []string{ttlHeader, "60"}, 405},
		"unknown path":   {"GET", "/latest/meta-data/spot/instance-action", []string{tokenHeader, token}, 404},
		"before a token": {"POST", "/latest/meta-data/", []string{tokenHeader, token}, 405},
	} {
		t.Run(name, func(t *testing.T) {
			if got, _ := r.do(t, tc.method, tc.path, tc.header...); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
	r.now = r.now.Add(61 * time.Second)
	if got, _ := r.do(t, "GET", "/latest/meta-data/", tokenHeader, token); got != 401 {
		t.Errorf("an ended token gives %d", got)
	}
	fresh := r.token(t)
	other, err := r.cloud.RunInstance(t.Context(), "c", "ng")
	if err != nil {
		t.Fatal(err)
	}
	r.from = other.PrivateIP.String()
	if got, _ := r.do(t, "GET", "/latest/meta-data/", tokenHeader, fresh); got != 401 {
		t.Errorf("another instance's token gives %d", got)
	}
	if _, err := r.cloud.SetMetadataOptions(t.Context(), other.ID, cloud.Metadata{HTTPTokens: "optional"}); err != nil {
		t.Fatal(err)
	}
	if got, text := r.do(t, "GET", "/latest/meta-data/instance-id"); got != 200 || text != other.ID {
		t.Errorf("version 1, allowed: %d %s", got, text)
	}
	if _, err := r.cloud.SetMetadataOptions(t.Context(), other.ID, cloud.Metadata{HTTPEndpoint: "disabled"}); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.do(t, "GET", "/latest/meta-data/instance-id"); got != 403 {
		t.Errorf("switched off it gives %d", got)
	}
	r.from = "192.0.2.1"
	if got, _ := r.do(t, "GET", "/latest/meta-data/instance-id"); got != 404 {
		t.Errorf("a stranger gets %d", got)
	}
}

func TestTree(t *testing.T) {
	r := newRig(t)
	r.cloud.SetLatency(cloud.Latency{Attach: time.Second})
	ctx := t.Context()
	eni, err := r.cloud.CreateENI(ctx, cloud.CreateENIInput{SubnetID: r.node.SubnetID, SecondaryCount: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.cloud.Attach(ctx, cloud.AttachInput{ENI: eni.ID, Instance: r.node.ID, DeviceIndex: 1}); err != nil {
		t.Fatal(err)
	}
	token := r.token(t)
	get := func(path string) string {
		t.Helper()
		status, text := r.do(t, "GET", "/latest/"+path, tokenHeader, token)
		if status != 200 {
			return http.StatusText(status)
		}
		return text
	}
	macs := "meta-data/network/interfaces/macs/"
	if got := get(macs); got != r.node.MAC+"/" {
		t.Fatalf("an attaching interface is seen: %q", got)
	}
	r.now = r.now.Add(2 * time.Second)
	if got := strings.Split(get(macs), "\n"); len(got) != 2 {
		t.Fatalf("interfaces %q", got)
	}
	root := macs + eni.MAC + "/"
	for path, want := range map[string]string{
		"meta-data/instance-id":                 r.node.ID,
		"meta-data/local-hostname":              r.node.PrivateDNSName,
		"meta-data/placement/availability-zone": r.node.AZ,
		"meta-data/public-ipv4":                 r.node.PublicIP.String(),
		root + "device-number":                  "1",
		root + "interface-id":                   eni.ID,
		root + "local-ipv4s":                    eni.Addresses[0].IP.String() + "\n" + eni.Addresses[1].IP.String() + "\n" + eni.Addresses[2].IP.String(),
		root + "ipv4-prefix":                    "Not Found",
		root + "network-card":                   "Not Found",
		root + "vpc-ipv4-cidr-blocks":           "192.168.0.0/16",
		root + "subnet-ipv4-cidr-block/":        r.node.Subnet.String(),
		"user-data":                             "Not Found",
	} {
		if got := get(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	role := get("meta-data/iam/security-credentials/")
	if !strings.HasPrefix(role, "eksctl-c-nodegroup-ng-NodeInstanceRole-") {
		t.Fatalf("role %q", role)
	}
	one, two := get("meta-data/iam/security-credentials/"+role), get("meta-data/iam/security-credentials/"+role)
	if !strings.Contains(one, `"Code": "Success"`) || one != two {
		t.Errorf("credentials %s then %s", one, two)
	}
	if doc := get("dynamic/instance-identity/document"); !strings.Contains(doc, `"accountId": "111122223333"`) || !strings.Contains(doc, r.node.ID) {
		t.Errorf("document %s", doc)
	}
}
