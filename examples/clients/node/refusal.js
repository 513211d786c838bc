// Reads what cairld says when it refuses a call, in two ways, and tells what to do about it.

import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { status } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const rpc = loadSync(fileURLToPath(new URL('rpc_details.proto', import.meta.url)), {
  longs: Number,
  defaults: true,
});

/**
 * Why the daemon refused, from the status's rich details.
 *
 * `retryDelayMs` is set exactly where the same call, with the same arguments, is safe to repeat: after this pause.
 * `resumeUntil` is set where the same callback can still complete, once the cause is mended.
 * Undefined where the daemon did not speak: then gRPC itself gave up, on a connection or a deadline.
 */
export function readDetails(error) {
  const [encoded] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (encoded === undefined) return undefined;
  const details = {};
  for (const { type_url: url, value } of rpc['google.rpc.Status'].deserialize(encoded).details) {
    const name = url.slice(url.lastIndexOf('/') + 1);
    details[name] = rpc[name]?.deserialize(value);
  }
  const info = details['google.rpc.ErrorInfo'];
  if (info?.domain !== 'cairld') return undefined;
  const delay = details['google.rpc.RetryInfo']?.retryDelay;
  const violations = details['google.rpc.BadRequest']?.fieldViolations ?? [];
  return {
    code: error.code,
    reason: info.reason,
    remedy: info.metadata.remedy,
    retryDelayMs: delay ? delay.seconds * 1000 + delay.nanos / 1e6 : undefined,
    resumeUntil: info.metadata.resumable === 'true' ? new Date(info.metadata.resume_until) : undefined,
    violations: Object.fromEntries(violations.map(({ field, description }) => [field, description])),
  };
}

/** The short form, for services that decode no details. */
export function readTrailers(error) {
  const [reason] = error.metadata?.get('cairld-reason') ?? [];
  if (reason === undefined) return undefined;
  return {
    reason,
    retryable: error.metadata.get('cairld-retryable')[0] === 'true',
    remedy: decodeURIComponent(error.metadata.get('cairld-remedy')[0]), // percent-encoded UTF-8
  };
}

export const NextStep = Object.freeze({
  REPEAT: 'make the same call again after retryDelayMs',
  RESUME: 'mend the cause, then present the same callback again, before resumeUntil',
  LOOK_UP: 'GetSession tells what became of this callback',
  START_ANEW: 'this flow is over: offer the user a new StartAuthorization',
  MEND: 'a bug or a wrong configuration: no repetition helps',
});

/** What to do about a callback that CompleteAuthorization refused. */
export function nextStep(refusal) {
  if (refusal.retryDelayMs !== undefined) return NextStep.REPEAT;
  if (refusal.resumeUntil !== undefined) return NextStep.RESUME;
  const unclear = ['STATE_ALREADY_USED', 'EXCHANGE_IN_PROGRESS', 'DEADLINE_EXCEEDED'];
  if (unclear.includes(refusal.reason)) return NextStep.LOOK_UP;
  switch (refusal.code) {
    case status.FAILED_PRECONDITION:
    case status.NOT_FOUND:
    case status.ALREADY_EXISTS:
      return NextStep.START_ANEW;
    default:
      return NextStep.MEND;
  }
}

/** Repeats a call while the daemon says that this is safe and the pause fits into the user's patience. */
export async function withRetries(call, patienceMs, heard) {
  const giveUp = performance.now() + patienceMs;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      heard(error);
      const pause = readDetails(error)?.retryDelayMs;
      if (pause === undefined || performance.now() + pause > giveUp) throw error;
      await sleep(pause);
    }
  }
}
