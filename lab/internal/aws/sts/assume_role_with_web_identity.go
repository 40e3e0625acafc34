package sts

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/iampolicy"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func assumeRoleWithWebIdentity() query.Action {
	type answer struct {
		Subject     string         `xml:"SubjectFromWebIdentityToken"`
		Audience    string         `xml:"Audience"`
		User        assumedXML     `xml:"AssumedRoleUser"`
		Credentials credentialsXML `xml:"Credentials"`
		Provider    string         `xml:"Provider"`
	}
	return query.Action{
		Name:      "AssumeRoleWithWebIdentity",
		Params:    []string{"RoleArn", "RoleSessionName", "WebIdentityToken", "DurationSeconds", "Policy", "ProviderId"},
		Anonymous: true,
		Run: func(call *query.Call) (any, error) {
			token := call.Params.Required("WebIdentityToken")
			in, err := readAsked(call)
			if err != nil {
				return nil, err
			}
			id, err := verify(call.Cloud, token)
			if err != nil {
				return nil, err
			}
			refused := denied("Not authorized to perform sts:AssumeRoleWithWebIdentity")
			if !in.known {
				return nil, refused
			}
			trust, err := iampolicy.Parse(in.role.Trust, true)
			if err != nil {
				return nil, refused
			}
			decision := iampolicy.EvaluateTrust(trust, iampolicy.Caller{Kind: "Federated", Names: []string{id.provider.ARN}}, "sts:AssumeRoleWithWebIdentity",
				map[string][]string{id.provider.URL + ":sub": {id.subject}, id.provider.URL + ":aud": {id.audience}, "aws:FederatedProvider": {id.provider.ARN}, "sts:RoleSessionName": {in.session}})
			if decision != iampolicy.Allow {
				return nil, refused
			}
			cred, session, err := call.Cloud.Session(call.Context, in.role.Name, in.session, in.life, in.policy)
			// Who this was is known only now.
			call.Principal = session
			return answer{id.subject, id.audience, assumedXML{session.UserID, session.ARN}, newCredentials(cred), id.provider.ARN}, err
		},
	}
}

// identity is what a verified token says.
type identity struct {
	provider          cloud.OIDCProvider
	subject, audience string
}

func invalid(format string, args ...any) error {
	return apierror.New("InvalidIdentityToken", format, args...)
}

// verify checks a service account's token: its issuer is registered with IAM, it is signed by one of the
// issuer's keys, it is for one of the registered audiences, and its time has come and not passed.
func verify(c *cloud.Cloud, token string) (identity, error) {
	var id identity
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil {
		return id, invalid("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
	}
	var claims jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return id, invalid("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
	}
	known := false
	var keys []byte
	c.Read(func(m *cloud.Model) {
		for _, p := range m.OIDCProviders {
			if "https://"+p.URL == claims.Issuer {
				id.provider, known = *p, true
			}
		}
		for _, cl := range m.Clusters {
			if cl.Issuer == claims.Issuer {
				keys = cl.JWKS
			}
		}
	})
	if !known {
		return id, invalid("No OpenIDConnect provider found in your account for %s", claims.Issuer)
	}
	var set jose.JSONWebKeySet
	if len(keys) == 0 || json.Unmarshal(keys, &set) != nil {
		return id, invalid("Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements")
	}
	if err := parsed.Claims(set, &claims); err != nil {
		return id, invalid("Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements")
	}
	now := c.Now()
	if claims.Expiry == nil || !now.Before(claims.Expiry.Time()) {
		end := "none"
		if claims.Expiry != nil {
			end = claims.Expiry.Time().UTC().Format(time.RFC3339)
		}
		return id, apierror.WithStatus(http.StatusBadRequest, "ExpiredTokenException", "Token expired: current date/time %s must be before the expiration date/time %s", now.UTC().Format(time.RFC3339), end)
	}
	// A machine's clock may be a little behind the issuer's.
	if claims.NotBefore != nil && now.Add(time.Minute).Before(claims.NotBefore.Time()) {
		return id, invalid("The ID token is not valid before %s", claims.NotBefore.Time().UTC().Format(time.RFC3339))
	}
	i := slices.IndexFunc(claims.Audience, func(a string) bool { return slices.Contains(id.provider.ClientIDs, a) })
	if i < 0 {
		return id, invalid("Incorrect token audience: the token is for %s", strings.Join(claims.Audience, ", "))
	}
	id.subject, id.audience = claims.Subject, claims.Audience[i]
	if id.subject == "" {
		return id, invalid("The ID token has no subject")
	}
	return id, nil
}
