// Package sigv4 verifies AWS's signature version 4, in the header or in the query of a presigned URL.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Signature is what a request says of itself.
type Signature struct {
	AccessKeyID string
	Date        string
	Region      string
	Service     string
	Token       string
	Time        time.Time
	// Expires is set for a presigned request.
	Expires time.Duration

	signed    []string
	signature string
	presigned bool
}

// Errors of reading and verifying.
var (
	// ErrMissing: the request isn't signed.
	ErrMissing = errors.New("the request has no signature")
	// ErrMalformed: the signature can't be read.
	ErrMalformed = errors.New("the signature is malformed")
	// ErrMismatch: it isn't the secret key's signature of this request.
	ErrMismatch = errors.New("the signature does not match")
	// ErrExpired: it was made too long ago or in the future.
	ErrExpired = errors.New("the signature has expired")
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	timeFormat = "20060102T150405Z"
	skew       = 5 * time.Minute
	longest    = 7 * 24 * time.Hour
)

// Read takes the signature out of a request.
func Read(r *http.Request) (Signature, error) {
	if h := r.Header.Get("Authorization"); h != "" {
		return readHeader(r, h)
	}
	if q := r.URL.Query(); q.Get("X-Amz-Signature") != "" {
		return readQuery(q)
	}
	return Signature{}, ErrMissing
}

func readHeader(r *http.Request, h string) (Signature, error) {
	var s Signature
	rest, ok := strings.CutPrefix(h, algorithm+" ")
	if !ok {
		return s, fmt.Errorf("%w: the algorithm is not %s", ErrMalformed, algorithm)
	}
	for part := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch k {
		case "Credential":
			if err := s.scope(v); err != nil {
				return s, err
			}
		case "SignedHeaders":
			s.signed = strings.Split(v, ";")
		case "Signature":
			s.signature = v
		}
	}
	s.Token = r.Header.Get("X-Amz-Security-Token")
	return s, s.finish(r.Header.Get("X-Amz-Date"))
}

func readQuery(q url.Values) (Signature, error) {
	s := Signature{presigned: true, Token: q.Get("X-Amz-Security-Token"), signature: q.Get("X-Amz-Signature"), signed: strings.Split(q.Get("X-Amz-SignedHeaders"), ";")}
	if q.Get("X-Amz-Algorithm") != algorithm {
		return s, fmt.Errorf("%w: the algorithm is not %s", ErrMalformed, algorithm)
	}
	if err := s.scope(q.Get("X-Amz-Credential")); err != nil {
		return s, err
	}
	n, err := strconv.Atoi(q.Get("X-Amz-Expires"))
	if err != nil || n < 1 || time.Duration(n)*time.Second > longest {
		return s, fmt.Errorf("%w: X-Amz-Expires is %q", ErrMalformed, q.Get("X-Amz-Expires"))
	}
	s.Expires = time.Duration(n) * time.Second
	return s, s.finish(q.Get("X-Amz-Date"))
}

func (s *Signature) scope(credential string) error {
	p := strings.Split(credential, "/")
	if len(p) != 5 || p[4] != "aws4_request" || p[0] == "" {
		return fmt.Errorf("%w: credential %q is not KEY/DATE/REGION/SERVICE/aws4_request", ErrMalformed, credential)
	}
	s.AccessKeyID, s.Date, s.Region, s.Service = p[0], p[1], p[2], p[3]
	return nil
}

func (s *Signature) finish(date string) error {
	t, err := time.Parse(timeFormat, date)
	if err != nil {
		return fmt.Errorf("%w: X-Amz-Date is %q", ErrMalformed, date)
	}
	if t.Format("20060102") != s.Date {
		return fmt.Errorf("%w: the credential's date %q is not the request's", ErrMalformed, s.Date)
	}
	if s.signature == "" || !slices.Contains(s.signed, "host") {
		return fmt.Errorf("%w: the host is not signed", ErrMalformed)
	}
	s.Time = t
	return nil
}

// Verify says whether the secret made the signature of this request, now.
func (s Signature) Verify(r *http.Request, body []byte, secret string, now time.Time) error {
	age := now.Sub(s.Time)
	limit := skew
	if s.presigned {
		limit = s.Expires
	}
	if age > limit || age < -skew {
		return ErrExpired
	}
	scope := strings.Join([]string{s.Date, s.Region, s.Service, "aws4_request"}, "/")
	hash := sha256.Sum256([]byte(s.canonical(r, body)))
	text := strings.Join([]string{algorithm, s.Time.Format(timeFormat), scope, hex.EncodeToString(hash[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{s.Date, s.Region, s.Service, "aws4_request", text} {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(part))
		key = m.Sum(nil)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(key)), []byte(s.signature)) {
		return ErrMismatch
	}
	return nil
}

func (s Signature) canonical(r *http.Request, body []byte) string {
	var b strings.Builder
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	// Every service but S3 encodes the encoded path once more.
	b.WriteString(r.Method + "\n" + encode(path, true) + "\n" + canonicalQuery(r.URL.RawQuery) + "\n")
	for _, name := range s.signed {
		var value string
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		default:
			var all []string
			for _, v := range r.Header.Values(name) {
				all = append(all, strings.Join(strings.Fields(v), " "))
			}
			value = strings.Join(all, ",")
		}
		b.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	sum := sha256.Sum256(body)
	payload := hex.EncodeToString(sum[:])
	b.WriteString("\n" + strings.Join(s.signed, ";") + "\n" + payload)
	return b.String()
}

func canonicalQuery(raw string) string {
	var pairs []string
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		key, err1 := url.QueryUnescape(k)
		value, err2 := url.QueryUnescape(v)
		if err1 != nil || err2 != nil {
			key, value = k, v
		}
		if key == "X-Amz-Signature" {
			continue
		}
		pairs = append(pairs, encode(key, false)+"="+encode(value, false))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// encode is AWS's percent encoding: everything but unreserved characters, and slashes in a path.
func encode(text string, path bool) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_', c == '.', c == '~', path && c == '/':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
