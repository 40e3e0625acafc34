package iam

import (
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func providerARN(call *query.Call) string { return call.Params.String("OpenIDConnectProviderArn") }

// providerActions are those of OpenID Connect providers.
func providerActions() []query.Action {
	type created struct {
		ARN string `xml:"OpenIDConnectProviderArn"`
	}
	type entry struct {
		ARN string `xml:"Arn"`
	}
	type list struct {
		Entries []entry `xml:"OpenIDConnectProviderList>member"`
	}
	type one struct {
		URL         string   `xml:"Url"`
		ClientIDs   []string `xml:"ClientIDList>member"`
		Thumbprints []string `xml:"ThumbprintList>member"`
		Created     string   `xml:"CreateDate"`
	}
	missing := func(arn string) error {
		return cloud.NoSuchEntity("OpenIDConnect Provider not found for arn %s", arn)
	}
	return []query.Action{
		{
			Name: "CreateOpenIDConnectProvider", Params: []string{"Url", "ClientIDList", "ThumbprintList", "Tags"},
			Run: func(call *query.Call) (any, error) {
				url := call.Params.Required("Url")
				if err := call.Params.Err(); err != nil {
					return nil, err
				}
				p, err := call.Cloud.CreateOIDCProvider(call.Context, url, call.Params.List("ClientIDList"), call.Params.List("ThumbprintList"))
				return created{p.ARN}, err
			},
		},
		{
			Name: "ListOpenIDConnectProviders",
			Run: func(call *query.Call) (any, error) {
				var out list
				call.Cloud.Read(func(m *cloud.Model) {
					for _, p := range cloud.Sorted(m.OIDCProviders) {
						out.Entries = append(out.Entries, entry{p.ARN})
					}
				})
				return out, nil
			},
		},
		{
			Name: "GetOpenIDConnectProvider", Params: []string{"OpenIDConnectProviderArn"}, Needs: need(providerARN),
			Run: func(call *query.Call) (any, error) {
				var out one
				err := missing(providerARN(call))
				call.Cloud.Read(func(m *cloud.Model) {
					if p := m.OIDCProviders[providerARN(call)]; p != nil {
						out, err = one{p.URL, p.ClientIDs, p.Thumbprints, when(p.Created)}, nil
					}
				})
				return out, err
			},
		},
		{
			Name: "DeleteOpenIDConnectProvider", Params: []string{"OpenIDConnectProviderArn"}, Needs: need(providerARN),
			Run: func(call *query.Call) (any, error) {
				return nil, call.Cloud.ChangeIAM(call.Context, func(m *cloud.Model) error {
					if m.OIDCProviders[providerARN(call)] == nil {
						return missing(providerARN(call))
					}
					delete(m.OIDCProviders, providerARN(call))
					return nil
				})
			},
		},
	}
}
