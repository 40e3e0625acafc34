package ec2

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
)

// A connection that takes calls and never answers costs an attempt, not the operator: the next one goes by
// another connection.
func TestSilentConnection(t *testing.T) {
	var calls atomic.Int32
	gone := make(chan struct{})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			select { // as if the packets were dropped
			case <-gone:
			case <-r.Context().Done():
			}
			return
		}
		if r.ProtoMajor != 1 {
			t.Errorf("the call came by %s", r.Proto)
		}
		_, _ = w.Write([]byte(`<DescribeSubnetsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><subnetSet/></DescribeSubnetsResponse>`))
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(gone) })
	// Twice changed, as the SDK does for a bundle of authorities: each change is of a copy.
	hc := httpClient(200 * time.Millisecond).WithTransportOptions(func(tr *http.Transport) {
		if tr.TLSClientConfig == nil {
			tr.TLSClientConfig = &tls.Config{}
		}
		tr.TLSClientConfig.RootCAs = srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	}).WithTransportOptions(func(*http.Transport) {})
	cfg := aws.Config{Region: "us-west-2", HTTPClient: hc, Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: "secret"}, nil
	})}
	c := FromConfig(cfg, Options{SDK: []func(*sdk.Options){func(o *sdk.Options) { o.BaseEndpoint = aws.String(srv.URL) }}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.DescribeSubnets(ctx, "vpc-1"); err != nil {
		t.Fatalf("a describe isn't repeated: %v", err)
	}
	if n := calls.Load(); n != 2 {
		t.Errorf("%d attempts, want 2", n)
	}
	// What has no token isn't: nobody knows what became of it.
	calls.Store(0)
	_, err := c.AssignAddresses(ctx, "eni-1", 1)
	if !errors.Is(err, ErrUncertain) || calls.Load() != 1 {
		t.Errorf("after a lost answer: %v, %d attempts", err, calls.Load())
	}
}
