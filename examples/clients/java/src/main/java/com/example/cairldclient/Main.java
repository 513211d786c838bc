package com.example.cairldclient;

import cairld.v1.ClaimValue;
import cairld.v1.CompleteAuthorizationRequest;
import cairld.v1.GetSessionRequest;
import cairld.v1.IntegrationServiceGrpc;
import cairld.v1.IntegrationServiceGrpc.IntegrationServiceBlockingStub;
import cairld.v1.Session;
import cairld.v1.SessionStatus;
import cairld.v1.StartAuthorizationRequest;
import cairld.v1.StartAuthorizationResponse;
import com.example.cairldclient.Refusal.NextStep;
import com.example.cairldclient.Refusal.Trailers;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonParser;
import io.grpc.Channel;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/**
 * Takes a user through a verification, then provokes errors and reads them. Runs against {@code cairld dev}.
 *
 * <pre>java -cp 'target/classes:target/lib/*' com.example.cairldclient.Main ENDPOINT SANDBOX [TOKEN_FILE]</pre>
 *
 * ENDPOINT is 127.0.0.1:PORT or unix:/path/to/cairld.sock; over the Unix socket no token is needed.
 */
public final class Main {
  /** Ties the flow to the user's browser: the hash of a session cookie, say. */
  private static final String BINDING = "hash-of-the-browser-session";

  static ManagedChannel connect(String endpoint) {
    ManagedChannelBuilder<?> builder = Grpc.newChannelBuilder(endpoint, InsecureChannelCredentials.create());
    if (endpoint.startsWith("unix:")) {
      // Else grpc-java sends the socket's path as :authority, and the daemon's HTTP/2 library resets the call.
      builder.overrideAuthority("localhost");
    }
    return builder.build();
  }

  /** The two calls of the flow, and the one that reads its result. */
  static final class Verification {
    private final IntegrationServiceBlockingStub stub;

    Verification(Channel channel, String token) {
      Metadata headers = new Metadata();
      if (token != null) { // only where the socket does not tell who calls
        headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
      }
      stub =
          IntegrationServiceGrpc.newBlockingStub(channel)
              .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
    }

    /** Answers the session, and where to send the browser. The same again, for a request id that is repeated. */
    StartAuthorizationResponse start(String requestId, String reference, String... scopes) {
      return call()
          .startAuthorization(
              StartAuthorizationRequest.newBuilder()
                  .setRequestId(requestId)
                  .setReference(reference)
                  .addAllScopes(List.of(scopes))
                  .setBinding(BINDING)
                  .build());
    }

    /** Takes the callback as the browser brought it, the whole URL. */
    Session complete(String callbackUrl) {
      return call()
          .completeAuthorization(
              CompleteAuthorizationRequest.newBuilder().setCallbackUrl(callbackUrl).setBinding(BINDING).build())
          .getSession();
    }

    Session get(String sessionId) {
      return call().getSession(GetSessionRequest.newBuilder().setSessionId(sessionId).build()).getSession();
    }

    /** A deadline for every call. */
    private IntegrationServiceBlockingStub call() {
      return stub.withDeadlineAfter(30, TimeUnit.SECONDS);
    }
  }

  /** The claims as plain values. null means that the provider could not say, and is not the same as false. */
  static Map<String, Object> claims(Session session) {
    Map<String, Object> values = new TreeMap<>();
    session.getClaimsMap().forEach((name, claim) -> values.put(name, value(claim)));
    return values;
  }

  private static Object value(ClaimValue claim) {
    return switch (claim.getKindCase()) {
      case BOOL_VALUE -> claim.getBoolValue();
      case JSON_VALUE -> JsonParser.parseString(claim.getJsonValue());
      case NULL_VALUE, KIND_NOT_SET -> null;
    };
  }

  /** The control API of the provider's stand-in: plays the user, breaks things. */
  static final class Sandbox {
    private static final Gson GSON = new GsonBuilder().serializeNulls().create();
    private final HttpClient http = HttpClient.newHttpClient();
    private final String url;

    Sandbox(String url) {
      this.url = url;
    }

    /** Answers the callback URL that the user's browser would be sent to. */
    String decide(String authorizationUrl, String outcome, Map<String, ?> more) throws Exception {
      Map<String, Object> decision = new HashMap<>(more);
      decision.put("authorization_url", authorizationUrl);
      decision.put("outcome", outcome);
      return JsonParser.parseString(post("decide", decision)).getAsJsonObject().get("callback_url").getAsString();
    }

    void fault(Map<String, ?> fault) throws Exception {
      Map<String, Object> atToken = new HashMap<>(fault);
      atToken.put("endpoint", "token");
      post("faults", List.of(atToken));
    }

    private String post(String path, Object body) throws IOException, InterruptedException {
      HttpRequest request =
          HttpRequest.newBuilder(URI.create(url + "/sandbox/" + path))
              .POST(HttpRequest.BodyPublishers.ofString(GSON.toJson(body)))
              .build();
      HttpResponse<String> answer = http.send(request, HttpResponse.BodyHandlers.ofString());
      check("the sandbox's answer", answer.statusCode() / 100, 2);
      return answer.body();
    }
  }

  private static void check(String what, Object found, Object wanted) {
    if (!Objects.equals(found, wanted)) {
      throw new AssertionError(what + ": wanted " + wanted + ", found " + found);
    }
  }

  /** Reads a refusal in both ways: they must say the same, and what the documentation says. */
  private static Refusal checkRefusal(
      String what, StatusRuntimeException error, Status.Code code, String reason, NextStep step) {
    Refusal refusal =
        Refusal.fromDetails(error).orElseThrow(() -> new AssertionError(what + ": the daemon did not speak", error));
    Trailers trailers =
        Trailers.of(error).orElseThrow(() -> new AssertionError(what + ": there are no trailers", error));
    System.out.printf("%s: %s (%s): %s%n", what, refusal.reason(), refusal.code(), refusal.remedy());
    System.out.printf("    next: %s%n", refusal.nextStep().words);
    check(what + ", code", refusal.code(), code);
    check(what + ", reason", refusal.reason(), reason);
    check(what + ", next step", refusal.nextStep(), step);
    check(what + ", has a remedy", !refusal.remedy().isEmpty(), true);
    boolean retryable = refusal.retryDelay().isPresent();
    check(what + ", trailers", trailers, new Trailers(reason, retryable, refusal.remedy()));
    return refusal;
  }

  private static Refusal refused(String what, Runnable call, Status.Code code, String reason, NextStep step) {
    try {
      call.run();
    } catch (StatusRuntimeException error) {
      return checkRefusal(what, error, code, reason, step);
    }
    throw new AssertionError(what + ": was not refused");
  }

  /** A request id: one for each authorization that is wanted, kept with it until the call was answered. */
  private static String fresh() {
    return UUID.randomUUID().toString();
  }

  private static void run(Verification service, Verification stranger, Sandbox sandbox) throws Exception {
    Map<String, Object> known = new TreeMap<>();
    known.put("age_18_plus", true);
    known.put("name_match", null);
    String requestId = fresh();
    var started = service.start(requestId, "order-4711", "age_18_plus", "name_match");
    check("started twice", service.start(requestId, "order-4711", "age_18_plus", "name_match"), started);
    String callback = sandbox.decide(started.getAuthorizationUrl(), "approve", Map.of("claims", known));
    Session session = service.complete(callback);
    System.out.println("complete: " + session.getId() + " " + claims(session));
    check("id", session.getId(), started.getSession().getId());
    check("status", session.getStatus(), SessionStatus.SESSION_STATUS_COMPLETE);
    check("claims", claims(session), known);

    // A callback that somebody has tampered with, after the true one.
    String replayed = callback.replace("code=", "code=x");
    refused(
        "replayed",
        () -> service.complete(replayed),
        Status.Code.ALREADY_EXISTS,
        "STATE_ALREADY_USED",
        NextStep.LOOK_UP);
    check("looked up", service.get(session.getId()).getStatus(), SessionStatus.SESSION_STATUS_COMPLETE);

    started = service.start(fresh(), "declined", "age_18_plus");
    String declined = sandbox.decide(started.getAuthorizationUrl(), "decline", Map.of());
    refused(
        "declined",
        () -> service.complete(declined),
        Status.Code.FAILED_PRECONDITION,
        "ACCESS_DENIED",
        NextStep.START_ANEW);

    // The provider's wallet is empty: the code lives on, and completes once the wallet is filled.
    started = service.start(fresh(), "unpaid", "age_18_plus");
    String unpaidCallback = sandbox.decide(started.getAuthorizationUrl(), "approve", Map.of());
    sandbox.fault(Map.of("status", 402, "body", Map.of("error", "payment_required")));
    Refusal unpaid =
        refused(
            "unpaid",
            () -> service.complete(unpaidCallback),
            Status.Code.FAILED_PRECONDITION,
            "PAYMENT_REQUIRED",
            NextStep.RESUME);
    Instant resumeUntil = unpaid.resumeUntil().orElseThrow();
    check("resumable for a while", resumeUntil.isAfter(Instant.now()), true);
    // Who has the trailers alone asks the session whether it can be resumed.
    var failure = service.get(started.getSession().getId()).getFailure();
    check("resumable", failure.getResumable(), true);
    var until = failure.getResumeUntil();
    check("resume_until", Instant.ofEpochSecond(until.getSeconds(), until.getNanos()), resumeUntil);
    check("resumed", service.complete(unpaidCallback).getStatus(), SessionStatus.SESSION_STATUS_COMPLETE);

    // The provider is down for all three attempts of one call, and back for the next call.
    started = service.start(fresh(), "down", "age_18_plus");
    String downCallback = sandbox.decide(started.getAuthorizationUrl(), "approve", Map.of());
    sandbox.fault(Map.of("status", 503, "times", 3, "headers", Map.of("retry-after", "2")));
    List<StatusRuntimeException> heard = new ArrayList<>();
    session = Refusal.withRetries(() -> service.complete(downCallback), Duration.ofSeconds(30), heard::add);
    check("calls that were refused", heard.size(), 1);
    Refusal down =
        checkRefusal(
            "provider down", heard.get(0), Status.Code.UNAVAILABLE, "PROVIDER_ERROR", NextStep.REPEAT);
    check("retry delay", down.retryDelay().orElseThrow(), Duration.ofSeconds(2));
    check("repeated", session.getStatus(), SessionStatus.SESSION_STATUS_COMPLETE);

    Refusal wrong =
        refused(
            "bad request",
            () -> service.start(fresh(), "x".repeat(257), "age 18"),
            Status.Code.INVALID_ARGUMENT,
            "INVALID_ARGUMENT",
            NextStep.MEND);
    wrong.violations().forEach((field, description) -> System.out.printf("    %s: %s%n", field, description));
    check("fields", wrong.violations().keySet(), Set.of("scopes[0]", "reference"));

    String id = session.getId();
    refused(
        "stranger", () -> stranger.get(id), Status.Code.UNAUTHENTICATED, "CALLER_UNKNOWN", NextStep.MEND);

    // Nobody listens there: what gRPC itself says carries no reason.
    ManagedChannel nowhere = connect("unix:/nowhere/cairld.sock");
    try {
      new Verification(nowhere, null).get(id);
      throw new AssertionError("nobody there: was answered");
    } catch (StatusRuntimeException error) {
      check("nobody there, code", error.getStatus().getCode(), Status.Code.UNAVAILABLE);
      check("nobody there, details", Refusal.fromDetails(error).isPresent(), false);
      check("nobody there, trailers", Trailers.of(error).isPresent(), false);
    } finally {
      nowhere.shutdownNow();
    }
  }

  public static void main(String[] arguments) throws Exception {
    if (arguments.length != 2 && arguments.length != 3) {
      System.err.println("usage: Main ENDPOINT SANDBOX [TOKEN_FILE]");
      System.exit(2);
    }
    String token = arguments.length == 3 ? Files.readString(Path.of(arguments[2])).strip() : null;
    ManagedChannel channel = connect(arguments[0]);
    try {
      run(new Verification(channel, token), new Verification(channel, "not-a-token"), new Sandbox(arguments[1]));
      System.out.println("all as documented");
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private Main() {}
}
