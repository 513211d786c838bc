package main

import (
	"context"
	"net/url"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Refusal says why the daemon refused a call, from the status's rich details.
type Refusal struct {
	Code   codes.Code
	Reason string
	Remedy string
	// Retryable is true exactly where the same call, with the same arguments, is safe to repeat, after RetryDelay.
	Retryable  bool
	RetryDelay time.Duration
	// ResumeUntil is set where the same callback can still complete, once the cause is mended.
	ResumeUntil time.Time
	// Violations says what is wrong with the request, by field.
	Violations map[string]string
}

// ReadDetails answers false where the daemon did not speak: then gRPC itself gave up, on a connection or a deadline.
func ReadDetails(err error) (Refusal, bool) {
	refused := status.Convert(err)
	refusal := Refusal{Code: refused.Code(), Violations: map[string]string{}}
	spoke := false
	for _, detail := range refused.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			spoke = detail.GetDomain() == "cairld"
			refusal.Reason = detail.GetReason()
			refusal.Remedy = detail.GetMetadata()["remedy"]
			if detail.GetMetadata()["resumable"] == "true" {
				// Malformed, it stays zero: not resumable.
				refusal.ResumeUntil, _ = time.Parse(time.RFC3339, detail.GetMetadata()["resume_until"])
			}
		case *errdetails.RetryInfo:
			refusal.Retryable = true
			refusal.RetryDelay = detail.GetRetryDelay().AsDuration()
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				refusal.Violations[violation.GetField()] = violation.GetDescription()
			}
		}
	}
	return refusal, spoke
}

// Trailers is the short form, for services that decode no details.
type Trailers struct {
	Reason    string
	Retryable bool
	Remedy    string
}

// ReadTrailers reads what the call option grpc.Trailer has collected; false where the daemon did not speak. Give each
// call metadata of its own: one that is not answered leaves it as it was.
func ReadTrailers(trailer metadata.MD) (Trailers, bool) {
	first := func(key string) string {
		if values := trailer.Get(key); len(values) > 0 {
			return values[0]
		}
		return ""
	}
	// Percent-encoded UTF-8, as in a path: QueryUnescape would make spaces of plus signs.
	remedy, err := url.PathUnescape(first("cairld-remedy"))
	if err != nil {
		remedy = first("cairld-remedy")
	}
	reason := first("cairld-reason")
	return Trailers{Reason: reason, Retryable: first("cairld-retryable") == "true", Remedy: remedy}, reason != ""
}

// NextStep says what to do about a refusal.
type NextStep string

// What there is to do.
const (
	Repeat    NextStep = "make the same call again after RetryDelay"
	Resume    NextStep = "mend the cause, then present the same callback again, before ResumeUntil"
	LookUp    NextStep = "GetSession tells what became of this callback"
	StartAnew NextStep = "this flow is over: offer the user a new StartAuthorization"
	Mend      NextStep = "a bug or a wrong configuration: no repetition helps"
)

// NextStep says what to do about a callback that CompleteAuthorization refused.
func (r Refusal) NextStep() NextStep {
	switch {
	case r.Retryable:
		return Repeat
	case !r.ResumeUntil.IsZero():
		return Resume
	case r.Reason == "STATE_ALREADY_USED", r.Reason == "EXCHANGE_IN_PROGRESS", r.Reason == "DEADLINE_EXCEEDED":
		return LookUp
	case r.Code == codes.FailedPrecondition, r.Code == codes.NotFound, r.Code == codes.AlreadyExists:
		return StartAnew
	default:
		return Mend
	}
}

// WithRetries repeats a call while the daemon says that this is safe and the pause fits into the context's deadline.
func WithRetries(ctx context.Context, call func(context.Context) error, heard func(error)) error {
	for {
		err := call(ctx)
		if err == nil {
			return nil
		}
		heard(err)
		refusal, spoke := ReadDetails(err)
		if !spoke || !refusal.Retryable {
			return err
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < refusal.RetryDelay {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(refusal.RetryDelay):
		}
	}
}
