// Package sts is AWS's Security Token Service on the model of the cloud.
package sts

import (
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/calllog"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/iampolicy"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

// New makes the service.
func New(c *cloud.Cloud, log *calllog.Log, logger *slog.Logger) *query.Service {
	return &query.Service{
		Name: "sts", Version: "2011-06-15", XMLNS: "https://sts.amazonaws.com/doc/2011-06-15/", Cloud: c, Log: log, Logger: logger,
		Dialect: query.CommonDialect(), Actions: []query.Action{assumeRole(), assumeRoleWithWebIdentity(), getCallerIdentity()},
	}
}

type credentialsXML struct {
	AccessKeyID     string `xml:"AccessKeyId"`
	SecretAccessKey string `xml:"SecretAccessKey"`
	SessionToken    string `xml:"SessionToken"`
	Expiration      string `xml:"Expiration"`
}

type assumedXML struct {
	ID  string `xml:"AssumedRoleId"`
	ARN string `xml:"Arn"`
}

func newCredentials(c cloud.Credentials) credentialsXML {
	return credentialsXML{c.AccessKeyID, c.SecretAccessKey, c.SessionToken, c.Expiration.UTC().Format(time.RFC3339)}
}

// asked is what both ways of taking a role have in common.
type asked struct {
	role    cloud.Role
	known   bool
	session string
	life    time.Duration
	policy  string
}

var sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

func readAsked(call *query.Call) (asked, error) {
	p := call.Params
	arn := p.Required("RoleArn")
	out := asked{session: p.Required("RoleSessionName"), policy: p.String("Policy"), life: time.Duration(p.Int("DurationSeconds", 3600)) * time.Second}
	if err := p.Err(); err != nil {
		return out, err
	}
	if !sessionName.MatchString(out.session) {
		return out, apierror.New("ValidationError", "1 validation error detected: Value '%s' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*", out.session)
	}
	call.Cloud.Read(func(m *cloud.Model) {
		if r := m.RoleByARN(arn); r != nil {
			out.role, out.known = *r, true
		}
	})
	longest := 3600
	if out.known {
		longest = out.role.MaxSession
	}
	if out.life < 15*time.Minute || out.life > time.Duration(longest)*time.Second {
		return out, apierror.New("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	if out.policy != "" {
		if _, err := iampolicy.Parse(out.policy, false); err != nil {
			return out, apierror.New("MalformedPolicyDocument", "%v", err)
		}
	}
	return out, nil
}

func denied(format string, args ...any) error {
	return apierror.WithStatus(http.StatusForbidden, "AccessDenied", format, args...)
}
