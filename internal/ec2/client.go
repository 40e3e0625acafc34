package ec2

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
)

// Observer is told of every attempt of a call. code is "OK", EC2's error code, or "NoAnswer".
type Observer interface {
	Called(action, code string, took time.Duration)
	Waited(action string, d time.Duration)
}

// Client calls EC2.
type Client struct {
	sdk     *sdk.Client
	limiter *Limiter
}

// Options of a Client.
type Options struct {
	Region   string
	Observer Observer
	// Share of AWS's published rates that may be used; 0 is a half.
	Share float64
	// SDK changes the SDK's own options.
	SDK []func(*sdk.Options)
}

// New makes a client with the credentials and settings of the SDK's standard environment.
func New(ctx context.Context, o Options) (*Client, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(o.Region), config.WithRetryMode(aws.RetryModeStandard),
		config.WithHTTPClient(httpClient(answerTimeout)))
	if err != nil {
		return nil, err
	}
	return FromConfig(cfg, o), nil
}

// FromConfig makes a client of an SDK configuration.
func FromConfig(cfg aws.Config, o Options) *Client {
	if o.Share == 0 {
		o.Share = 0.5
	}
	var waited func(string, time.Duration)
	if o.Observer != nil {
		waited = o.Observer.Waited
	}
	c := &Client{limiter: NewLimiter(o.Share, waited)}
	options := append([]func(*sdk.Options){func(s *sdk.Options) {
		s.AppID = "weft"
		s.Retryer = retry.NewStandard(func(r *retry.StandardOptions) {
			r.MaxAttempts = 4
			r.MaxBackoff = 8 * time.Second
			// The limiter is what holds calls back.
			r.RateLimiter = unlimited{}
		})
		s.APIOptions = append(s.APIOptions, c.observe(o.Observer))
	}}, o.SDK...)
	c.sdk = sdk.NewFromConfig(cfg, options...)
	return c
}

// unlimited is a retry quota without end: the limiter and MaxAttempts bound the retries.
type unlimited struct{}

func (unlimited) GetToken(context.Context, uint) (func() error, error) {
	return func() error { return nil }, nil
}
func (unlimited) AddTokens(uint) error { return nil }

// observe puts the limiter and the observer inside the retry loop: AWS counts attempts, not calls.
func (c *Client) observe(o Observer) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		m := middleware.FinalizeMiddlewareFunc("weftLimiter", func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			action := awsmiddleware.GetOperationName(ctx)
			if err := c.limiter.Wait(ctx, action); err != nil {
				return middleware.FinalizeOutput{}, middleware.Metadata{}, err
			}
			start := time.Now()
			out, meta, err := next.HandleFinalize(ctx, in)
			code := codeOf(err)
			c.limiter.Done(action, kind(action, code) == ErrThrottled)
			if o != nil {
				o.Called(action, code, time.Since(start))
			}
			return out, meta, err
		})
		return stack.Finalize.Insert(m, "Retry", middleware.After)
	}
}

func codeOf(err error) string {
	if err == nil {
		return "OK"
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return "NoAnswer"
}

// onlyThrottled repeats nothing but what EC2 refused for its rate: of a call that has no client token,
// another attempt after a lost answer could be a second one.
func onlyThrottled(o *sdk.Options) {
	o.Retryer = retry.NewStandard(func(r *retry.StandardOptions) {
		r.MaxAttempts = 4
		r.MaxBackoff = 8 * time.Second
		r.RateLimiter = unlimited{}
		r.Retryables = []retry.IsErrorRetryable{retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
			return aws.BoolTernary(kind("", codeOf(err)) == ErrThrottled)
		})}
	})
}
