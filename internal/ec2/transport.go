package ec2

import (
	"crypto/tls"
	"net"
	"net/http"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

const (
	// answerTimeout is how long an attempt may take. The SDK has no limit of its own: without one, a call whose
	// connection died unseen would hold its node, and every describe behind it, until the kernel gives up.
	answerTimeout = 20 * time.Second
	dialTimeout   = 5 * time.Second
)

// httpClient is for every service that the SDK calls, STS among them. A connection on which an answer is
// overdue is closed with the attempt: HTTP/2 would keep it, and put the next attempt onto it as well.
func httpClient(answer time.Duration) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTimeout(answer).
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).
		WithTransportOptions(func(t *http.Transport) {
			t.Protocols = new(http.Protocols)
			t.Protocols.SetHTTP1(true)
			// The SDK's transport was made for HTTP/2 and goes on offering it in its greeting.
			t.ForceAttemptHTTP2 = false
			t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			if t.TLSClientConfig != nil {
				t.TLSClientConfig.NextProtos = []string{"http/1.1"}
			}
		})
}
