// Package iam is AWS's Identity and Access Management on the model of the cloud: roles, policies and the
// providers of identities.
package iam

import (
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/calllog"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/iampolicy"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

// New makes the service.
func New(c *cloud.Cloud, log *calllog.Log, logger *slog.Logger) *query.Service {
	s := &query.Service{
		Name: "iam", Version: "2010-05-08", XMLNS: "https://iam.amazonaws.com/doc/2010-05-08/", Cloud: c, Log: log, Logger: logger, Dialect: query.CommonDialect(),
	}
	s.Actions = append(s.Actions, roleActions()...)
	s.Actions = append(s.Actions, policyActions()...)
	s.Actions = append(s.Actions, attachmentActions()...)
	s.Actions = append(s.Actions, providerActions()...)
	s.Actions = append(s.Actions, profileActions()...)
	return s
}

func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// document is a policy as IAM hands it out: encoded for a URL.
func document(text string) string { return url.PathEscape(text) }

// checked parses a policy document that comes in.
func checked(text string, trust bool) error {
	if _, err := iampolicy.Parse(text, trust); err != nil {
		return apierror.New("MalformedPolicyDocument", "%v", err)
	}
	return nil
}

// need is the permission for an action on one resource.
func need(build func(*query.Call) string) func(*query.Call) []iampolicy.Request {
	return func(call *query.Call) []iampolicy.Request {
		return []iampolicy.Request{{Action: "iam:" + call.Action, Resource: build(call)}}
	}
}

func roleARN(call *query.Call) string {
	name := call.Params.String("RoleName")
	arn := fmt.Sprintf("arn:aws:iam::%s:role/%s", call.Cloud.Account(), name)
	call.Cloud.Read(func(m *cloud.Model) {
		if r := m.Roles[name]; r != nil {
			arn = r.ARN
		}
	})
	return arn
}

func role(m *cloud.Model, name string) (*cloud.Role, error) {
	if r := m.Roles[name]; r != nil {
		return r, nil
	}
	return nil, cloud.NoSuchEntity("The role with name %s cannot be found.", name)
}

type tagXML struct {
	Key   string `xml:"Key"`
	Value string `xml:"Value"`
}

func readTags(p *query.Params) map[string]string {
	out := map[string]string{}
	for _, t := range p.Structs("Tags") {
		out[t.String("Key")] = t.String("Value")
	}
	return out
}
