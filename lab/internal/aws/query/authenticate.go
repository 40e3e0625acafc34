package query

import (
	"errors"
	"net/http"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/iampolicy"
	"github.com/weft-cni/weft/lab/internal/aws/sigv4"
)

// Dialect is how a family of services words its refusals.
type Dialect struct {
	Missing, UnknownKey, BadToken, Mismatch, Malformed, Expired, ExpiredToken *apierror.Error
}

// EC2Dialect is EC2's.
func EC2Dialect() Dialect {
	bad := apierror.WithStatus(http.StatusUnauthorized, "AuthFailure", "AWS was not able to validate the provided access credentials")
	return Dialect{
		Missing: apierror.New("MissingAuthenticationToken", "Request is missing Authentication Token"), UnknownKey: bad, BadToken: bad, Mismatch: bad,
		Malformed:    apierror.WithStatus(http.StatusUnauthorized, "AuthFailure", "Authorization header is not well formed"),
		Expired:      apierror.New("RequestExpired", "Request has expired."),
		ExpiredToken: apierror.New("RequestExpired", "Request has expired."),
	}
}

// CommonDialect is that of STS, IAM and most others.
func CommonDialect() Dialect {
	return Dialect{
		Missing:      apierror.WithStatus(http.StatusForbidden, "MissingAuthenticationToken", "Request is missing Authentication Token"),
		UnknownKey:   apierror.WithStatus(http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid."),
		BadToken:     apierror.WithStatus(http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid."),
		Mismatch:     apierror.WithStatus(http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."),
		Malformed:    apierror.New("IncompleteSignature", "The request signature does not conform to AWS standards."),
		Expired:      apierror.WithStatus(http.StatusForbidden, "SignatureDoesNotMatch", "Signature expired."),
		ExpiredToken: apierror.WithStatus(http.StatusForbidden, "ExpiredToken", "The security token included in the request is expired"),
	}
}

// Authenticate finds who signed a request and verifies it.
func Authenticate(c *cloud.Cloud, d Dialect, service string, r *http.Request, body []byte) (cloud.Principal, error) {
	s, err := sigv4.Read(r)
	switch {
	case errors.Is(err, sigv4.ErrMissing):
		return cloud.Principal{}, d.Missing
	case err != nil:
		return cloud.Principal{}, d.Malformed
	}
	key, who, ok := c.Key(s.AccessKeyID)
	switch {
	case !ok:
		return who, d.UnknownKey
	case key.Token != s.Token:
		return who, d.BadToken
	case !key.Expires.IsZero() && c.Now().After(key.Expires):
		return who, d.ExpiredToken
	}
	if s.Service != service || s.Region != c.Region() && s.Region != "us-east-1" {
		return who, apierror.WithStatus(http.StatusForbidden, d.Mismatch.Code, "Credential should be scoped to a valid region and to service %s; it is scoped to %s in %s.", service, s.Service, s.Region)
	}
	switch err := s.Verify(r, body, key.Secret, c.Now()); {
	case errors.Is(err, sigv4.ErrExpired):
		return who, d.Expired
	case err != nil:
		return who, d.Mismatch
	}
	return who, nil
}

// Decide says whether a principal may do something, and how it was decided.
func Decide(who cloud.Principal, r iampolicy.Request) iampolicy.Decision {
	decision := iampolicy.Evaluate(documents(who.Policies), r)
	if decision == iampolicy.Allow && who.Boundary != "" {
		return iampolicy.Evaluate(documents([]string{who.Boundary}), r)
	}
	return decision
}

// documents parses policies. Those in the model were checked when they came in; one that can't be read
// must not allow anything.
func documents(texts []string) []iampolicy.Document {
	var out []iampolicy.Document
	for _, t := range texts {
		if d, err := iampolicy.Parse(t, false); err == nil {
			out = append(out, d)
		}
	}
	return out
}

// Because is how AWS words the reason of a denial.
func Because(d iampolicy.Decision, action string) string {
	if d == iampolicy.ExplicitDeny {
		return "with an explicit deny in an identity-based policy"
	}
	return "because no identity-based policy allows the " + action + " action"
}
