package query

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/calllog"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/fault"
	"github.com/weft-cni/weft/lab/internal/aws/iampolicy"
)

// Call is one request to an action.
type Call struct {
	Context   context.Context
	Cloud     *cloud.Cloud
	Params    *Params
	Principal cloud.Principal
	RequestID string
	Action    string
	Service   string
}

// Action is one of a service's.
type Action struct {
	Name string
	// Params are the first parts of the names of its parameters; others are refused.
	Params []string
	// Anonymous actions are not signed; Free ones need no permission.
	Anonymous, Free bool
	// NoDryRun: the action has no DryRun parameter.
	NoDryRun bool
	// Needs are the permissions that a request needs; nil means the action itself on *.
	Needs func(*Call) []iampolicy.Request
	// Run does it and returns what is encoded as the answer's body.
	Run func(*Call) (any, error)
}

// Service is one service that speaks the protocol.
type Service struct {
	Name    string
	Version string
	XMLNS   string
	Cloud   *cloud.Cloud
	Log     *calllog.Log
	Logger  *slog.Logger
	Actions []Action
	Dialect Dialect
	// EC2 has its own envelope, DryRun, and words for a denial.
	EC2 bool
	// Throttle takes a token for a call; nil means never throttled.
	Throttle func(*Call) bool
	// Faults make calls fail on demand; nil means that none do.
	Faults *fault.Table
}

const maxBody = 1 << 20

// Handler serves the actions.
func (s *Service) Handler() http.Handler {
	actions := make(map[string]*Action, len(s.Actions))
	for i := range s.Actions {
		actions[s.Actions[i].Name] = &s.Actions[i]
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, actions) })
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request, actions map[string]*Action) {
	start := s.Cloud.Now()
	call := &Call{Context: r.Context(), Cloud: s.Cloud, RequestID: RequestID(), Service: s.Name}
	form, result, err := s.answer(call, r, actions)
	entry := calllog.Entry{
		Time: start, Took: s.Cloud.Now().Sub(start), Service: s.Name, Action: call.Action, Principal: call.Principal.ARN,
		Params: redact(form), RequestID: call.RequestID,
	}
	switch {
	case errors.Is(err, fault.ErrNoAnswer):
		entry.Code = "NoAnswer"
		hangUp(w)
	case err != nil:
		e := apierror.From(err)
		entry.Code, entry.Message = e.Code, e.Message
		if e.HTTPStatus() >= 500 && e.Code == "InternalError" && s.Logger != nil {
			s.Logger.Error("a call failed inside the emulator", "service", s.Name, "action", call.Action, "err", err)
		}
		s.writeError(w, call, e)
	default:
		s.writeResult(w, call, result)
	}
	if s.Log != nil {
		s.Log.Add(entry)
	}
}

// redact leaves secrets out of the log.
func redact(form url.Values) url.Values {
	out := url.Values{}
	for k, v := range form {
		switch {
		case k == "Action" || k == "Version" || strings.HasPrefix(k, "X-Amz-"):
		case k == "WebIdentityToken":
			out[k] = []string{"(token)"}
		default:
			out[k] = v
		}
	}
	return out
}

func (s *Service) answer(call *Call, r *http.Request, actions map[string]*Action) (url.Values, any, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, nil, apierror.New("InvalidRequest", "the request cannot be read: %v", err)
	}
	if len(body) > maxBody {
		return nil, nil, apierror.WithStatus(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "The request has more than %d bytes", maxBody)
	}
	form := r.URL.Query()
	if r.Method == http.MethodPost {
		posted, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, nil, apierror.New("MalformedQueryString", "The query string contains a syntax error: %v", err)
		}
		for k, v := range posted {
			form[k] = append(form[k], v...)
		}
	}
	call.Action = form.Get("Action")
	action := actions[call.Action]
	if action == nil {
		if call.Action == "" {
			return form, nil, apierror.New("MissingAction", "The request must contain the parameter Action")
		}
		return form, nil, apierror.New("InvalidAction", "The action %s is not valid for this web service.", call.Action)
	}
	if v := form.Get("Version"); v != s.Version {
		return form, nil, apierror.New("NoSuchVersion", "The requested version (%s) of service %s does not exist", v, s.Name)
	}
	params, err := ParseParams(form)
	if err != nil {
		return form, nil, err
	}
	call.Params = params
	if !action.Anonymous {
		if call.Principal, err = Authenticate(s.Cloud, s.Dialect, s.Name, r, body); err != nil {
			return form, nil, err
		}
	}
	if s.Throttle != nil && !s.Throttle(call) {
		return form, nil, apierror.WithStatus(http.StatusServiceUnavailable, "RequestLimitExceeded", "Request limit exceeded.")
	}
	if !action.Anonymous && !action.Free {
		if err := s.authorise(call, action); err != nil {
			return form, nil, err
		}
	}
	if err := s.checkNames(action, params); err != nil {
		return form, nil, err
	}
	if s.EC2 && params.Bool("DryRun") {
		if err := params.Err(); err != nil {
			return form, nil, err
		}
		return form, nil, apierror.WithStatus(http.StatusPreconditionFailed, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
	}
	// What was received takes its course, whatever becomes of who sent it.
	call.Context = context.WithoutCancel(call.Context)
	result, err := s.Faults.Around(fault.Call{Service: s.Name, Action: action.Name, Param: params.String}, func() (any, error) {
		result, err := action.Run(call)
		if err == nil {
			err = params.Err()
		}
		return result, err
	})
	return form, result, err
}

// hangUp ends the client's connection without an answer.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		// HTTP/2 has no connection to hang up on: a gateway's answer, which no client takes for the service's.
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	_ = conn.Close()
}

func (s *Service) checkNames(action *Action, params *Params) error {
	for _, name := range params.Names() {
		switch {
		case name == "Action", name == "Version", strings.HasPrefix(name, "X-Amz-"), slices.Contains(action.Params, name):
		case name == "DryRun" && s.EC2 && !action.NoDryRun:
		default:
			return apierror.New("UnknownParameter", "The parameter %s is not recognized", name)
		}
	}
	return nil
}

func (s *Service) authorise(call *Call, action *Action) error {
	needs := []iampolicy.Request{{Action: s.Name + ":" + action.Name, Resource: "*"}}
	if action.Needs != nil {
		needs = action.Needs(call)
	}
	for _, n := range needs {
		n.Context = call.withCommon(n.Context)
		if d := Decide(call.Principal, n); d != iampolicy.Allow {
			return s.denied(call, n, d)
		}
	}
	return nil
}

func (call *Call) withCommon(ctx map[string][]string) map[string][]string {
	out := map[string][]string{
		"aws:PrincipalArn": {call.Principal.ARN}, "aws:PrincipalAccount": {call.Principal.Account}, "aws:userid": {call.Principal.UserID},
		"aws:RequestedRegion": {call.Cloud.Region()}, "ec2:Region": {call.Cloud.Region()}, "aws:SecureTransport": {"true"},
		"aws:CurrentTime": {call.Cloud.Now().UTC().Format("2006-01-02T15:04:05Z")},
	}
	if call.Principal.Role != "" {
		out["aws:PrincipalArn"] = []string{call.Principal.Role}
	}
	if _, name, ok := strings.Cut(call.Principal.ARN, ":user/"); ok {
		out["aws:username"] = []string{name}
	}
	for k, v := range call.Principal.Tags {
		out["aws:PrincipalTag/"+k] = []string{v}
	}
	for k, v := range ctx {
		out[k] = v
	}
	return out
}

func (s *Service) denied(call *Call, n iampolicy.Request, d iampolicy.Decision) error {
	who := fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s %s", call.Principal.ARN, n.Action, n.Resource, Because(d, n.Action))
	if !s.EC2 {
		return apierror.WithStatus(http.StatusForbidden, "AccessDenied", "%s", who)
	}
	text := "You are not authorized to perform this operation. " + who + "."
	if !strings.HasPrefix(call.Action, "Describe") {
		text += " Encoded authorization failure message: " + encodedMessage(call, n, d)
	}
	return apierror.WithStatus(http.StatusForbidden, "UnauthorizedOperation", "%s", text)
}

// RequestID is a new request's id.
func RequestID() string {
	var b [16]byte
	// The reader of package rand never fails.
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (s *Service) writeResult(w http.ResponseWriter, call *Call, result any) {
	var inner []byte
	if result != nil {
		var err error
		if inner, err = fields(result); err != nil {
			s.writeError(w, call, apierror.From(fmt.Errorf("encode the answer: %w", err)))
			return
		}
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	if s.EC2 {
		fmt.Fprintf(&b, "<%sResponse xmlns=%q><requestId>%s</requestId>%s</%sResponse>", call.Action, s.XMLNS, call.RequestID, inner, call.Action)
	} else {
		fmt.Fprintf(&b, "<%sResponse xmlns=%q>", call.Action, s.XMLNS)
		if result != nil {
			fmt.Fprintf(&b, "<%sResult>%s</%sResult>", call.Action, inner, call.Action)
		}
		fmt.Fprintf(&b, "<ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></%sResponse>", call.RequestID, call.Action)
	}
	w.Header().Set("X-Amzn-Requestid", call.RequestID)
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.WriteHeader(http.StatusOK)
	if _, err := w.Write(b.Bytes()); err != nil && s.Logger != nil {
		s.Logger.Debug("a client went away", "err", err)
	}
}

// fields encodes a structure without its own element.
func fields(v any) ([]byte, error) {
	var b bytes.Buffer
	e := xml.NewEncoder(&b)
	if err := e.EncodeElement(v, xml.StartElement{Name: xml.Name{Local: "r"}}); err != nil {
		return nil, err
	}
	if err := e.Close(); err != nil {
		return nil, err
	}
	inner, ok := bytes.CutPrefix(b.Bytes(), []byte("<r>"))
	inner, ok2 := bytes.CutSuffix(inner, []byte("</r>"))
	if !ok || !ok2 {
		return nil, errors.New("the answer is not a structure")
	}
	return inner, nil
}

func (s *Service) writeError(w http.ResponseWriter, call *Call, e *apierror.Error) {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	var code, message bytes.Buffer
	_ = xml.EscapeText(&code, []byte(e.Code))
	_ = xml.EscapeText(&message, []byte(e.Message))
	if s.EC2 {
		fmt.Fprintf(&b, "<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>%s</RequestID></Response>", code.String(), message.String(), call.RequestID)
	} else {
		kind := "Sender"
		if e.HTTPStatus() >= 500 {
			kind = "Receiver"
		}
		fmt.Fprintf(&b, "<ErrorResponse xmlns=%q><Error><Type>%s</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>%s</RequestId></ErrorResponse>", s.XMLNS, kind, code.String(), message.String(), call.RequestID)
	}
	w.Header().Set("X-Amzn-Requestid", call.RequestID)
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.WriteHeader(e.HTTPStatus())
	if _, err := w.Write(b.Bytes()); err != nil && s.Logger != nil {
		s.Logger.Debug("a client went away", "err", err)
	}
}
