package sigv4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

func signed(t *testing.T, target, body string, at time.Time) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, target, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: "s3cret", SessionToken: "tok"}, r, hex.EncodeToString(sum[:]), "ec2", "us-west-2", at); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerify(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, target := range []string{"https://ec2.us-west-2.amazonaws.com/", "https://eks.us-west-2.amazonaws.com/clusters/a%20b/addons/x:y?n=1&m=a+b%2F&z", "http://127.0.0.1:8080/a//b"} {
		r := signed(t, target, "Action=X", now)
		s, err := Read(r)
		if err != nil {
			t.Fatal(err)
		}
		if s.AccessKeyID != "AKIA" || s.Region != "us-west-2" || s.Service != "ec2" || s.Token != "tok" {
			t.Errorf("read %+v", s)
		}
		if err := s.Verify(r, []byte("Action=X"), "s3cret", now.Add(time.Minute)); err != nil {
			t.Errorf("%s: %v", target, err)
		}
		for name, tc := range map[string]struct {
			body, secret string
			at           time.Time
			want         error
		}{
			"other body":   {"Action=Y", "s3cret", now, ErrMismatch},
			"other secret": {"Action=X", "guess", now, ErrMismatch},
			"too old":      {"Action=X", "s3cret", now.Add(6 * time.Minute), ErrExpired},
			"from ahead":   {"Action=X", "s3cret", now.Add(-6 * time.Minute), ErrExpired},
		} {
			if err := s.Verify(r, []byte(tc.body), tc.secret, tc.at); !errors.Is(err, tc.want) {
				t.Errorf("%s, %s: %v", target, name, err)
			}
		}
		r.Host = "other.example"
		if err := s.Verify(r, []byte("Action=X"), "s3cret", now); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s, another host: %v", target, err)
		}
	}
}

func TestPresigned(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r, err := http.NewRequest(http.MethodGet, "https://sts.us-west-2.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Expires=60", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("x-k8s-aws-id", "demo")
	sum := sha256.Sum256(nil)
	signedURL, _, err := v4.NewSigner().PresignHTTP(context.Background(), aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: "s3cret"}, r, hex.EncodeToString(sum[:]), "sts", "us-west-2", now)
	if err != nil {
		t.Fatal(err)
	}
	got, err := http.NewRequest(http.MethodGet, signedURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	got.Header.Set("x-k8s-aws-id", "demo")
	s, err := Read(got)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(got, nil, "s3cret", now.Add(59*time.Second)); err != nil {
		t.Error(err)
	}
	if err := s.Verify(got, nil, "s3cret", now.Add(61*time.Second)); !errors.Is(err, ErrExpired) {
		t.Errorf("after its end: %v", err)
	}
	got.Header.Set("x-k8s-aws-id", "other")
	if err := s.Verify(got, nil, "s3cret", now); !errors.Is(err, ErrMismatch) {
		t.Errorf("another cluster: %v", err)
	}
}

func TestUnreadable(t *testing.T) {
	for name, tc := range map[string]struct {
		header string
		want   error
	}{
		"none":          {"", ErrMissing},
		"other scheme":  {"Basic abc", ErrMalformed},
		"short scope":   {"AWS4-HMAC-SHA256 Credential=A/20260102/us-west-2, SignedHeaders=host, Signature=x", ErrMalformed},
		"no date":       {"AWS4-HMAC-SHA256 Credential=A/20260102/us-west-2/ec2/aws4_request, SignedHeaders=host, Signature=x", ErrMalformed},
		"host unsigned": {"AWS4-HMAC-SHA256 Credential=A/20260102/us-west-2/ec2/aws4_request, SignedHeaders=x-amz-date, Signature=x", ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequest(http.MethodGet, "https://x/", nil)
			if err != nil {
				t.Fatal(err)
			}
			if tc.header != "" {
				r.Header.Set("Authorization", tc.header)
			}
			if name == "host unsigned" {
				r.Header.Set("X-Amz-Date", "20260102T030405Z")
			}
			if _, err := Read(r); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=A/20260102/us-west-2/ec2/aws4_request, SignedHeaders=host, Signature=x", "X-Amz-Signature=1&X-Amz-Credential=a")
	f.Fuzz(func(t *testing.T, header, query string) {
		r := &http.Request{Method: "GET", Header: http.Header{}, Host: "h"}
		var err error
		if r.URL, err = url.Parse("https://h/"); err != nil {
			return
		}
		r.URL.RawQuery = query
		r.Header.Set("Authorization", header)
		r.Header.Set("X-Amz-Date", "20260102T030405Z")
		s, err := Read(r)
		if err != nil {
			return
		}
		if s.Verify(r, nil, "secret", s.Time) == nil && len(s.signature) != 64 {
			t.Fatalf("accepted %q", header)
		}
	})
}
