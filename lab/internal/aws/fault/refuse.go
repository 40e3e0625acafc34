package fault

import (
	"cmp"
	"errors"
	"net/http"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
)

// Refuse answers with an error code of AWS's: RequestLimitExceeded is throttling, InternalError an outage.
const Refuse = "refuse"

func refuse() kind {
	return kind{
		check: func(f Fault) error {
			if f.Code == "" {
				return errors.New("fault: a refusal needs one of AWS's error codes, such as RequestLimitExceeded")
			}
			return nil
		},
		run: func(a *armed, _ func() (any, error)) (any, error) {
			message := cmp.Or(a.Message, "This is a fault that was asked for.")
			if status, ok := refusalStatus()[a.Code]; ok {
				return nil, apierror.WithStatus(status, a.Code, "%s", message)
			}
			return nil, apierror.New(a.Code, "%s", message)
		},
	}
}

// refusalStatus has the codes that come with another status than 400: clients decide by it too.
func refusalStatus() map[string]int {
	return map[string]int{
		"RequestLimitExceeded": http.StatusServiceUnavailable, "Unavailable": http.StatusServiceUnavailable, "ServiceUnavailable": http.StatusServiceUnavailable,
		"InternalError": http.StatusInternalServerError, "InternalFailure": http.StatusInternalServerError,
		"UnauthorizedOperation": http.StatusForbidden, "AccessDenied": http.StatusForbidden,
	}
}
