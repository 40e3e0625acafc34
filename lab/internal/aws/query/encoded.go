package query

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/json"

	"github.com/weft-cni/weft/lab/internal/aws/iampolicy"
)

// encodedMessage is the opaque text at the end of a denial. At AWS it is encrypted, here it is compressed.
func encodedMessage(call *Call, n iampolicy.Request, d iampolicy.Decision) string {
	text, err := json.Marshal(map[string]any{
		"allowed": false, "explicitDeny": d == iampolicy.ExplicitDeny,
		"context": map[string]any{"principal": map[string]string{"id": call.Principal.UserID, "arn": call.Principal.ARN}, "action": n.Action, "resource": n.Resource},
	})
	if err != nil {
		return ""
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		return ""
	}
	if _, err := w.Write(text); err != nil {
		return ""
	}
	if err := w.Close(); err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b.Bytes())
}
