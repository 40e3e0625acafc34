// Package eks is EKS's REST API on the model of the cloud.
package eks

import (
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/calllog"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/iampolicy"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

// Service is the API.
type Service struct {
	cloud  *cloud.Cloud
	log    *calllog.Log
	logger *slog.Logger
}

// New makes it.
func New(c *cloud.Cloud, log *calllog.Log, logger *slog.Logger) *Service {
	return &Service{cloud: c, log: log, logger: logger}
}

// call is one request.
type call struct {
	r       *http.Request
	model   *cloud.Model
	cluster *cloud.Cluster
}

// action answers from the model, under its lock.
type action struct {
	name    string
	pattern string
	// resource is the ARN that the action is on.
	resource func(m *cloud.Model, r *http.Request) string
	run      func(c call) (any, error)
}

func actions() []action {
	return []action{listClusters(), describeCluster(), listNodegroups(), describeNodegroup(), listAddons(), describeAddon()}
}

// Handler serves the actions.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, a := range actions() {
		mux.HandleFunc(a.pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, a) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, r, action{name: r.Method + " " + r.URL.Path, run: func(call) (any, error) {
			return nil, apierror.WithStatus(http.StatusNotFound, "UnknownOperationException", "%s %s is not an operation that the lab's EKS has", r.Method, r.URL.Path)
		}})
	})
	return mux
}

func dialect() query.Dialect {
	forbidden := func(code, text string) *apierror.Error {
		return apierror.WithStatus(http.StatusForbidden, code, "%s", text)
	}
	unknown := forbidden("UnrecognizedClientException", "The security token included in the request is invalid.")
	return query.Dialect{
		Missing:    forbidden("MissingAuthenticationTokenException", "Missing Authentication Token"),
		UnknownKey: unknown, BadToken: unknown,
		Mismatch:  forbidden("InvalidSignatureException", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."),
		Malformed: forbidden("IncompleteSignatureException", "The request signature does not conform to AWS standards."),
		Expired:   forbidden("InvalidSignatureException", "Signature expired."), ExpiredToken: forbidden("ExpiredTokenException", "The security token included in the request is expired"),
	}
}

const maxBody = 1 << 20

func (s *Service) serve(w http.ResponseWriter, r *http.Request, a action) {
	id := query.RequestID()
	start := s.cloud.Now()
	who, result, err := s.answer(r, a)
	entry := calllog.Entry{
		Time: start, Took: s.cloud.Now().Sub(start), Service: "eks", Action: a.name, Principal: who.ARN, RequestID: id,
		Params: url.Values{"path": {r.URL.Path}},
	}
	status := http.StatusOK
	if err != nil {
		e := apierror.From(err)
		if e.Code == "InternalError" {
			e.Code = "ServerException"
		}
		entry.Code, entry.Message, status = e.Code, e.Message, e.HTTPStatus()
		w.Header().Set("X-Amzn-Errortype", e.Code)
		result = map[string]string{"__type": e.Code, "message": e.Message}
	}
	s.log.Add(entry)
	w.Header().Set("X-Amzn-Requestid", id)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(result); err != nil && s.logger != nil {
		s.logger.Debug("a client went away", "err", err)
	}
}

func (s *Service) answer(r *http.Request, a action) (cloud.Principal, any, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return cloud.Principal{}, nil, apierror.New("ClientException", "the request cannot be read: %v", err)
	}
	who, err := query.Authenticate(s.cloud, dialect(), "eks", r, body)
	if err != nil {
		return who, nil, err
	}
	var result any
	s.cloud.Read(func(m *cloud.Model) {
		need := iampolicy.Request{Action: "eks:" + a.name, Resource: "*"}
		if a.resource == nil {
			need.Action = ""
		} else {
			need.Resource = a.resource(m, r)
		}
		if need.Action != "" {
			if d := query.Decide(who, need); d != iampolicy.Allow {
				err = apierror.WithStatus(http.StatusForbidden, "AccessDeniedException", "User: %s is not authorized to perform: %s on resource: %s", who.ARN, need.Action, need.Resource)
				return
			}
		}
		c := call{r: r, model: m}
		if name := r.PathValue("cluster"); name != "" {
			if c.cluster = m.Clusters[name]; c.cluster == nil {
				err = apierror.WithStatus(http.StatusNotFound, "ResourceNotFoundException", "No cluster found for name: %s.", name)
				return
			}
		}
		result, err = a.run(c)
	})
	return who, result, err
}

func clusterARN(m *cloud.Model, r *http.Request) string { return m.ClusterARN(r.PathValue("cluster")) }

// names are sorted keys; never null in JSON.
func names[V any](m map[string]V) []string {
	out := slices.Sorted(maps.Keys(m))
	if out == nil {
		out = []string{}
	}
	return out
}
