// Package oidc publishes the keys of the clusters' token issuers, as EKS does at oidc.eks.<region>.amazonaws.com.
package oidc

import (
	"encoding/json"
	"net/http"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
)

// Handler serves /id/<ID>/.well-known/openid-configuration and /id/<ID>/keys of every cluster.
func Handler(c *cloud.Cloud) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /id/{id}/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		issuer, _, ok := find(c, r.PathValue("id"))
		if !ok {
			http.NotFound(w, r)
			return
		}
		b, err := json.Marshal(map[string]any{
			"issuer": issuer, "jwks_uri": issuer + "/keys", "authorization_endpoint": "urn:kubernetes:programmatic_authorization",
			"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256"}, "claims_supported": []string{"sub", "iss"},
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		write(w, b)
	})
	mux.HandleFunc("GET /id/{id}/keys", func(w http.ResponseWriter, r *http.Request) {
		_, keys, ok := find(c, r.PathValue("id"))
		if !ok || len(keys) == 0 {
			http.NotFound(w, r)
			return
		}
		write(w, keys)
	})
	return mux
}

func write(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Type", "application/json")
	// A client that went away needs no answer.
	_, _ = w.Write(b)
}

func find(c *cloud.Cloud, id string) (issuer string, keys []byte, ok bool) {
	c.Read(func(m *cloud.Model) {
		for _, cl := range m.Clusters {
			if cl.ID == id {
				issuer, keys, ok = cl.Issuer, cl.JWKS, true
			}
		}
	})
	return issuer, keys, ok
}
