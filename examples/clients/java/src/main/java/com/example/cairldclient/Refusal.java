package com.example.cairldclient;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Consumer;
import java.util.function.Supplier;

/**
 * Why the daemon refused a call, from the status's rich details.
 *
 * @param retryDelay present exactly where the same call, with the same arguments, is safe to repeat: after this pause
 * @param resumeUntil present where the same callback can still complete, once the cause is mended
 * @param violations what is wrong with the request, by field
 */
public record Refusal(
    Status.Code code,
    String reason,
    String remedy,
    Optional<Duration> retryDelay,
    Optional<Instant> resumeUntil,
    Map<String, String> violations) {

  /** Empty where the daemon did not speak: then gRPC itself gave up, on a connection or a deadline. */
  public static Optional<Refusal> fromDetails(StatusRuntimeException error) {
    ErrorInfo info = ErrorInfo.getDefaultInstance();
    Optional<Duration> retryDelay = Optional.empty();
    Map<String, String> violations = new TreeMap<>();
    try {
      for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          info = detail.unpack(ErrorInfo.class);
        } else if (detail.is(RetryInfo.class)) {
          var delay = detail.unpack(RetryInfo.class).getRetryDelay();
          retryDelay = Optional.of(Duration.ofSeconds(delay.getSeconds(), delay.getNanos()));
        } else if (detail.is(BadRequest.class)) {
          for (var violation : detail.unpack(BadRequest.class).getFieldViolationsList()) {
            violations.put(violation.getField(), violation.getDescription());
          }
        }
      }
    } catch (InvalidProtocolBufferException malformed) {
      return Optional.empty();
    }
    if (!info.getDomain().equals("cairld")) {
      return Optional.empty();
    }
    boolean resumable = info.getMetadataOrDefault("resumable", "").equals("true");
    return Optional.of(
        new Refusal(
            error.getStatus().getCode(),
            info.getReason(),
            info.getMetadataOrDefault("remedy", ""),
            retryDelay,
            resumable ? Optional.of(Instant.parse(info.getMetadataOrThrow("resume_until"))) : Optional.empty(),
            violations));
  }

  /** The short form, for services that decode no details. */
  public record Trailers(String reason, boolean retryable, String remedy) {
    private static final Metadata.Key<String> REASON = key("cairld-reason");
    private static final Metadata.Key<String> RETRYABLE = key("cairld-retryable");
    private static final Metadata.Key<String> REMEDY = key("cairld-remedy");

    private static Metadata.Key<String> key(String name) {
      return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
    }

    /** Empty where the daemon did not speak. */
    public static Optional<Trailers> of(StatusRuntimeException error) {
      Metadata trailers = error.getTrailers();
      if (trailers == null || !trailers.containsKey(REASON)) {
        return Optional.empty();
      }
      // Percent-encoded UTF-8, as in a path. URLDecoder is for forms, and would make spaces of plus signs.
      String remedy = URLDecoder.decode(trailers.get(REMEDY).replace("+", "%2B"), StandardCharsets.UTF_8);
      return Optional.of(new Trailers(trailers.get(REASON), "true".equals(trailers.get(RETRYABLE)), remedy));
    }
  }

  /** What there is to do. */
  public enum NextStep {
    REPEAT("make the same call again after retryDelay"),
    RESUME("mend the cause, then present the same callback again, before resumeUntil"),
    LOOK_UP("GetSession tells what became of this callback"),
    START_ANEW("this flow is over: offer the user a new StartAuthorization"),
    MEND("a bug or a wrong configuration: no repetition helps");

    final String words;

    NextStep(String words) {
      this.words = words;
    }
  }

  /** What to do about a callback that CompleteAuthorization refused. */
  public NextStep nextStep() {
    if (retryDelay.isPresent()) {
      return NextStep.REPEAT;
    }
    if (resumeUntil.isPresent()) {
      return NextStep.RESUME;
    }
    if (Set.of("STATE_ALREADY_USED", "EXCHANGE_IN_PROGRESS", "DEADLINE_EXCEEDED").contains(reason)) {
      return NextStep.LOOK_UP;
    }
    return switch (code) {
      case FAILED_PRECONDITION, NOT_FOUND, ALREADY_EXISTS -> NextStep.START_ANEW;
      default -> NextStep.MEND;
    };
  }

  /** Repeats a call while the daemon says that this is safe and the pause fits into the user's patience. */
  public static <T> T withRetries(Supplier<T> call, Duration patience, Consumer<StatusRuntimeException> heard)
      throws InterruptedException {
    long giveUp = System.nanoTime() + patience.toNanos();
    while (true) {
      try {
        return call.get();
      } catch (StatusRuntimeException error) {
        heard.accept(error);
        Optional<Duration> pause = fromDetails(error).flatMap(Refusal::retryDelay);
        if (pause.isEmpty() || System.nanoTime() + pause.get().toNanos() - giveUp > 0) {
          throw error;
        }
        Thread.sleep(pause.get().toMillis());
      }
    }
  }
}
