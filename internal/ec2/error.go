package ec2

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/smithy-go"
)

// Outcomes that callers tell apart with errors.Is.
var (
	ErrUnauthorized = errors.New("the role may not call the action")
	ErrSubnetFull   = errors.New("the subnet has no free address")
	ErrLimit        = errors.New("a limit of the instance or the account is reached")
	ErrNotFound     = errors.New("the resource doesn't exist, or not yet")
	ErrThrottled    = errors.New("EC2 throttles the account")
	ErrInUse        = errors.New("the resource is in use")
	ErrConflict     = errors.New("the resource is in another state than expected")
	ErrMismatch     = errors.New("the client token was used with other parameters")
	// ErrUncertain: the action may or may not have been carried out.
	ErrUncertain = errors.New("the answer was lost or is no answer")
	// ErrRejected is every other refusal by EC2.
	ErrRejected = errors.New("EC2 refused the request")
)

// Error is a failed call.
type Error struct {
	Action string
	// Code is EC2's error code; empty if there was no answer.
	Code    string
	Message string
	// Kind is one of the errors above.
	Kind error
	Err  error
}

func (e *Error) Error() string {
	switch {
	case e.Kind == ErrUnauthorized && e.Action == ActionCreateInterface:
		// Tags are part of the call, and EC2 doesn't say which of the two it misses.
		return fmt.Sprintf("ec2:%s: the role of the operator may not call it (%s); add the action to the operator's IAM policy, and ec2:CreateTags if that is absent too", e.Action, e.Code)
	case e.Kind == ErrUnauthorized:
		return fmt.Sprintf("ec2:%s: the role of the operator may not call it (%s); add the action to the operator's IAM policy", e.Action, e.Code)
	case e.Code != "":
		return fmt.Sprintf("ec2:%s: %s: %s", e.Action, e.Code, e.Message)
	default:
		return fmt.Sprintf("ec2:%s: %v", e.Action, e.Err)
	}
}

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error {
	out := []error{e.Kind}
	if e.Err != nil {
		out = append(out, e.Err)
	}
	return out
}

// Describe returns the action and the code of a failed call in err's chain; ok is false if there is none.
func Describe(err error) (action, code string, ok bool) {
	var e *Error
	if !errors.As(err, &e) {
		return "", "", false
	}
	return e.Action, e.Code, true
}

// NewError is the failure of action with EC2's code.
func NewError(action, code, message string) *Error {
	return &Error{Action: action, Code: code, Message: message, Kind: kind(action, code)}
}

// kind decides by action and code; the text of a message is AWS's to change.
func kind(action, code string) error {
	switch code {
	case "UnauthorizedOperation", "AccessDenied", "AccessDeniedException":
		return ErrUnauthorized
	case "InsufficientFreeAddressesInSubnet", "InsufficientCidrBlocks":
		return ErrSubnetFull
	case "AttachmentLimitExceeded", "PrivateIpAddressLimitExceeded", "NetworkInterfaceLimitExceeded", "SecurityGroupsPerInterfaceLimitExceeded", "TagLimitExceeded":
		return ErrLimit
	case "RequestLimitExceeded", "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException", "EC2ThrottledException", "TooManyRequestsException":
		return ErrThrottled
	case "InvalidNetworkInterfaceID.NotFound", "InvalidInstanceID.NotFound", "InvalidSubnetID.NotFound", "InvalidAttachmentID.NotFound",
		"InvalidVpcID.NotFound", "InvalidSecurityGroupID.NotFound", "InvalidGroup.NotFound", "InvalidRouteTableID.NotFound":
		return ErrNotFound
	case "InvalidNetworkInterface.InUse", "InvalidIPAddress.InUse", "DependencyViolation":
		return ErrInUse
	case "IncorrectState", "IncorrectInstanceState", "OperationNotPermitted":
		return ErrConflict
	case "IdempotentParameterMismatch":
		return ErrMismatch
	case "InternalError", "InternalFailure", "Unavailable", "ServiceUnavailable", "RequestTimeout", "RequestTimeoutException":
		return ErrUncertain
	case "InvalidParameterValue":
		// One code, as many meanings as actions.
		switch action {
		case ActionDeleteInterface:
			return ErrInUse
		case ActionAttachInterface, ActionAssignAddresses, ActionUnassignAddresses:
			return ErrConflict
		}
	}
	return ErrRejected
}

// wrap gives the error of a call its type.
func wrap(action string, err error) error {
	if err == nil {
		return nil
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		return &Error{Action: action, Code: api.ErrorCode(), Message: api.ErrorMessage(), Kind: kind(action, api.ErrorCode()), Err: err}
	}
	if errors.Is(err, context.Canceled) {
		return &Error{Action: action, Kind: ErrUncertain, Err: context.Canceled}
	}
	return &Error{Action: action, Kind: ErrUncertain, Err: err}
}
