// Takes a user through a verification, then provokes errors and reads them. Runs against `cairld dev`.
//
//	go run . ENDPOINT SANDBOX [TOKEN_FILE]
//
// ENDPOINT is 127.0.0.1:PORT or unix:/path/to/cairld.sock; over the Unix socket no token is needed.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"reflect"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	cairldv1 "example.com/cairldclient/gen/cairld/v1"
)

// Ties the flow to the user's browser: the hash of a session cookie, say.
const binding = "hash-of-the-browser-session"

// bearer sends the caller's token; only needed where the socket does not tell who calls.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// The daemon's TCP listener is loopback alone, without TLS.
func (bearer) RequireTransportSecurity() bool { return false }

func connect(endpoint, token string) (*grpc.ClientConn, error) {
	// For a Unix socket nothing else is needed: grpc-go sends localhost as :authority.
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(token)))
	}
	return grpc.NewClient(endpoint, options...)
}

// verification makes the two calls of the flow, and the one that reads its result.
type verification struct {
	client cairldv1.IntegrationServiceClient
}

// start answers the session's id, and where to send the browser; the same again, for a requestID that is repeated.
func (v verification) start(
	ctx context.Context, requestID, reference string, scopes []string, options ...grpc.CallOption,
) (id, url string, err error) {
	started, err := v.client.StartAuthorization(ctx, &cairldv1.StartAuthorizationRequest{
		RequestId: requestID,
		Reference: reference,
		Scopes:    scopes,
		Binding:   binding,
	}, options...)
	return started.GetSession().GetId(), started.GetAuthorizationUrl(), err
}

// complete takes the callback as the browser brought it, the whole URL.
func (v verification) complete(
	ctx context.Context, callbackURL string, options ...grpc.CallOption,
) (*cairldv1.Session, error) {
	completed, err := v.client.CompleteAuthorization(ctx, &cairldv1.CompleteAuthorizationRequest{
		Callback: &cairldv1.CompleteAuthorizationRequest_CallbackUrl{CallbackUrl: callbackURL},
		Binding:  binding,
	}, options...)
	return completed.GetSession(), err
}

func (v verification) get(
	ctx context.Context, id string, options ...grpc.CallOption,
) (*cairldv1.Session, error) {
	got, err := v.client.GetSession(ctx, &cairldv1.GetSessionRequest{
		Lookup: &cairldv1.GetSessionRequest_SessionId{SessionId: id},
	}, options...)
	return got.GetSession(), err
}

// claims answers plain values; nil means that the provider could not say, and is not the same as false.
func claims(session *cairldv1.Session) (map[string]any, error) {
	values := make(map[string]any)
	for name, claim := range session.GetClaims() {
		switch kind := claim.GetKind().(type) {
		case *cairldv1.ClaimValue_BoolValue:
			values[name] = kind.BoolValue
		case *cairldv1.ClaimValue_JsonValue:
			var value any
			if err := json.Unmarshal([]byte(kind.JsonValue), &value); err != nil {
				return nil, fmt.Errorf("claim %s: %w", name, err)
			}
			values[name] = value
		default:
			values[name] = nil
		}
	}
	return values, nil
}

// sandbox is the control API of the provider's stand-in: it plays the user and breaks things.
type sandbox struct {
	url string
}

type object map[string]any

// decide answers the callback URL that the user's browser would be sent to.
func (s sandbox) decide(authorizationURL, outcome string, claims object) string {
	decision := object{"authorization_url": authorizationURL, "outcome": outcome}
	if claims != nil {
		decision["claims"] = claims
	}
	var decided struct {
		CallbackURL string `json:"callback_url"`
	}
	must(json.Unmarshal(s.post("decide", decision), &decided))
	return decided.CallbackURL
}

func (s sandbox) fault(fault object) {
	fault["endpoint"] = "token"
	s.post("faults", []object{fault})
}

func (s sandbox) post(path string, body any) []byte {
	encoded, err := json.Marshal(body)
	must(err)
	answer, err := http.Post(s.url+"/sandbox/"+path, "application/json", bytes.NewReader(encoded))
	must(err)
	defer answer.Body.Close()
	read, err := io.ReadAll(answer.Body)
	must(err)
	if answer.StatusCode >= 300 {
		log.Fatalf("the sandbox answered %s: %s", answer.Status, read)
	}
	return read
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func check(what string, found, wanted any) {
	if !reflect.DeepEqual(found, wanted) {
		log.Fatalf("%s: wanted %v, found %v", what, wanted, found)
	}
}

// checkRefusal reads a refusal in both ways: they must say the same, and what the documentation says.
func checkRefusal(
	what string, err error, trailer metadata.MD, code codes.Code, reason string, step NextStep,
) Refusal {
	refusal, spoke := ReadDetails(err)
	trailers, inTrailers := ReadTrailers(trailer)
	if !spoke || !inTrailers {
		log.Fatalf("%s: the daemon did not refuse: %v", what, err)
	}
	fmt.Printf("%s: %s (%s): %s\n    next: %s\n", what, refusal.Reason, refusal.Code, refusal.Remedy, refusal.NextStep())
	check(what+", code", refusal.Code, code)
	check(what+", reason", refusal.Reason, reason)
	check(what+", next step", refusal.NextStep(), step)
	check(what+", has a remedy", refusal.Remedy != "", true)
	check(what+", trailers", trailers, Trailers{Reason: reason, Retryable: refusal.Retryable, Remedy: refusal.Remedy})
	return refusal
}

func refused(
	what string, call func(...grpc.CallOption) error, code codes.Code, reason string, step NextStep,
) Refusal {
	// Fresh for each call: one that the daemon does not answer leaves it as it was.
	var trailer metadata.MD
	err := call(grpc.Trailer(&trailer))
	return checkRefusal(what, err, trailer, code, reason, step)
}

func run(ctx context.Context, service, stranger verification, sandbox sandbox) {
	complete := cairldv1.SessionStatus_SESSION_STATUS_COMPLETE

	// A request id for each authorization that is wanted, kept with it until the call was answered.
	requestID := rand.Text()
	id, url, err := service.start(ctx, requestID, "order-4711", []string{"age_18_plus", "name_match"})
	must(err)
	idAgain, urlAgain, err := service.start(ctx, requestID, "order-4711", []string{"age_18_plus", "name_match"})
	must(err)
	check("started twice", []string{idAgain, urlAgain}, []string{id, url})
	callback := sandbox.decide(url, "approve", object{"age_18_plus": true, "name_match": nil})
	session, err := service.complete(ctx, callback)
	must(err)
	values, err := claims(session)
	must(err)
	fmt.Println("complete:", session.GetId(), values)
	check("id", session.GetId(), id)
	check("status", session.GetStatus(), complete)
	check("claims", values, map[string]any{"age_18_plus": true, "name_match": nil})

	// A callback that somebody has tampered with, after the true one.
	refused("replayed", func(options ...grpc.CallOption) error {
		_, err := service.complete(ctx, strings.Replace(callback, "code=", "code=x", 1), options...)
		return err
	}, codes.AlreadyExists, "STATE_ALREADY_USED", LookUp)
	session, err = service.get(ctx, id)
	must(err)
	check("looked up", session.GetStatus(), complete)

	_, url, err = service.start(ctx, rand.Text(), "declined", []string{"age_18_plus"})
	must(err)
	refused("declined", func(options ...grpc.CallOption) error {
		_, err := service.complete(ctx, sandbox.decide(url, "decline", nil), options...)
		return err
	}, codes.FailedPrecondition, "ACCESS_DENIED", StartAnew)

	// The provider's wallet is empty: the code lives on, and completes once the wallet is filled.
	id, url, err = service.start(ctx, rand.Text(), "unpaid", []string{"age_18_plus"})
	must(err)
	callback = sandbox.decide(url, "approve", nil)
	sandbox.fault(object{"status": 402, "body": object{"error": "payment_required"}})
	unpaid := refused("unpaid", func(options ...grpc.CallOption) error {
		_, err := service.complete(ctx, callback, options...)
		return err
	}, codes.FailedPrecondition, "PAYMENT_REQUIRED", Resume)
	check("resumable for a while", unpaid.ResumeUntil.After(time.Now()), true)
	// Who has the trailers alone asks the session whether it can be resumed.
	session, err = service.get(ctx, id)
	must(err)
	check("resumable", session.GetFailure().GetResumable(), true)
	check("resume_until", session.GetFailure().GetResumeUntil().AsTime(), unpaid.ResumeUntil)
	session, err = service.complete(ctx, callback)
	must(err)
	check("resumed", session.GetStatus(), complete)

	// The provider is down for all three attempts of one call, and back for the next call.
	_, url, err = service.start(ctx, rand.Text(), "down", []string{"age_18_plus"})
	must(err)
	callback = sandbox.decide(url, "approve", nil)
	sandbox.fault(object{"status": 503, "times": 3, "headers": object{"retry-after": "2"}})
	var heard []Refusal
	var trailer metadata.MD
	err = WithRetries(ctx, func(ctx context.Context) error {
		trailer = nil
		session, err = service.complete(ctx, callback, grpc.Trailer(&trailer))
		return err
	}, func(err error) {
		heard = append(heard, checkRefusal("provider down", err, trailer, codes.Unavailable, "PROVIDER_ERROR", Repeat))
	})
	must(err)
	check("calls that were refused", len(heard), 1)
	check("retry delay", heard[0].RetryDelay, 2*time.Second)
	check("repeated", session.GetStatus(), complete)

	wrong := refused("bad request", func(options ...grpc.CallOption) error {
		_, _, err := service.start(ctx, rand.Text(), strings.Repeat("x", 257), []string{"age 18"}, options...)
		return err
	}, codes.InvalidArgument, "INVALID_ARGUMENT", Mend)
	for field, description := range wrong.Violations {
		fmt.Printf("    %s: %s\n", field, description)
	}
	check("fields", len(wrong.Violations), 2)
	check("field scopes[0]", wrong.Violations["scopes[0]"] != "", true)
	check("field reference", wrong.Violations["reference"] != "", true)

	refused("stranger", func(options ...grpc.CallOption) error {
		_, err := stranger.get(ctx, id, options...)
		return err
	}, codes.Unauthenticated, "CALLER_UNKNOWN", Mend)

	// Nobody listens there: what gRPC itself says carries no reason.
	nowhere := open("unix:/nowhere/cairld.sock", "")
	trailer = nil
	_, err = nowhere.get(ctx, id, grpc.Trailer(&trailer))
	refusal, spoke := ReadDetails(err)
	_, inTrailers := ReadTrailers(trailer)
	check("nobody there, code", refusal.Code, codes.Unavailable)
	check("nobody there, reason", spoke || inTrailers, false)
}

func open(endpoint, token string) verification {
	connection, err := connect(endpoint, token)
	must(err)
	return verification{cairldv1.NewIntegrationServiceClient(connection)}
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 && len(os.Args) != 4 {
		log.Fatal("usage: go run . ENDPOINT SANDBOX [TOKEN_FILE]")
	}
	token := ""
	if len(os.Args) == 4 {
		read, err := os.ReadFile(os.Args[3])
		must(err)
		token = strings.TrimSpace(string(read))
	}
	// A deadline for every call.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	run(ctx, open(os.Args[1], token), open(os.Args[1], "not-a-token"), sandbox{os.Args[2]})
	fmt.Println("all as documented")
}
