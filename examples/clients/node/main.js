// Takes a user through a verification, then provokes errors and reads them. Runs against `cairld dev`.
//
//     node main.js ENDPOINT SANDBOX [TOKEN_FILE]
//
// ENDPOINT is 127.0.0.1:PORT or unix:/path/to/cairld.sock; over the Unix socket no token is needed.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { credentials, loadPackageDefinition, Metadata, status } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { NextStep, nextStep, readDetails, readTrailers, withRetries } from './refusal.js';

// Ties the flow to the user's browser: the hash of a session cookie, say.
const binding = 'hash-of-the-browser-session';

const protos = fileURLToPath(new URL('../../../proto', import.meta.url));
const { cairld } = loadPackageDefinition(
  loadSync('cairld/v1/integration_service.proto', {
    includeDirs: [protos],
    enums: String,
    longs: Number,
    oneofs: true,
    defaults: true,
  }),
);

function connect(endpoint) {
  // No option is needed: for a Unix socket, grpc-js sends localhost as :authority.
  return new cairld.v1.IntegrationService(endpoint, credentials.createInsecure());
}

/** The two calls of the flow, and the one that reads its result. */
class Verification {
  #client;
  #metadata = new Metadata();

  constructor(client, token) {
    this.#client = client;
    // Only where the socket does not tell who calls.
    if (token) this.#metadata.set('authorization', `Bearer ${token}`);
  }

  /** Answers the session, and where to send the browser. The same again, for a requestId that is repeated. */
  async start(requestId, reference, scopes) {
    return this.#call('startAuthorization', { requestId, reference, scopes, binding });
  }

  /** Takes the callback as the browser brought it, the whole URL. */
  async complete(callbackUrl) {
    return (await this.#call('completeAuthorization', { callbackUrl, binding })).session;
  }

  async get(sessionId) {
    return (await this.#call('getSession', { sessionId })).session;
  }

  #call(method, request) {
    const options = { deadline: Date.now() + 30_000 };
    return new Promise((resolve, reject) => {
      this.#client[method](request, this.#metadata, options, (error, response) =>
        error ? reject(error) : resolve(response),
      );
    });
  }
}

/** The claims as plain values. null means that the provider could not say, and is not the same as false. */
function claims(session) {
  const value = (claim) => {
    switch (claim.kind) {
      case 'boolValue':
        return claim.boolValue;
      case 'jsonValue':
        return JSON.parse(claim.jsonValue);
      default:
        return null;
    }
  };
  return Object.fromEntries(Object.entries(session.claims).map(([name, claim]) => [name, value(claim)]));
}

/** The control API of the provider's stand-in: plays the user, breaks things. */
class Sandbox {
  #url;

  constructor(url) {
    this.#url = url;
  }

  /** Answers the callback URL that the user's browser would be sent to. */
  async decide(authorizationUrl, outcome, more = {}) {
    const answer = await this.#post('decide', { authorization_url: authorizationUrl, outcome, ...more });
    return (await answer.json()).callback_url;
  }

  async fault(fault) {
    await this.#post('faults', [{ endpoint: 'token', ...fault }]);
  }

  async #post(path, body) {
    const answer = await fetch(`${this.#url}/sandbox/${path}`, {
      method: 'POST',
      body: JSON.stringify(body),
    });
    assert.ok(answer.ok, `the sandbox answered ${answer.status}`);
    return answer;
  }
}

/** Reads a refusal in both ways: they must say the same, and what the documentation says. */
function checkRefusal(what, error, code, reason, step) {
  const refusal = readDetails(error);
  const trailers = readTrailers(error);
  assert.ok(refusal && trailers, `${what}: the daemon did not speak: ${error}`);
  console.log(`${what}: ${refusal.reason} (${status[refusal.code]}): ${refusal.remedy}`);
  console.log(`    next: ${nextStep(refusal)}`);
  assert.deepEqual([refusal.code, refusal.reason, nextStep(refusal)], [code, reason, step], what);
  const retryable = refusal.retryDelayMs !== undefined;
  assert.deepEqual(trailers, { reason, retryable, remedy: refusal.remedy }, `${what}, trailers`);
  assert.notEqual(refusal.remedy, '', `${what}, has a remedy`);
  return refusal;
}

async function refused(what, call, ...expected) {
  const error = await call.then(
    () => assert.fail(`${what}: was not refused`),
    (error) => error,
  );
  return checkRefusal(what, error, ...expected);
}

async function run(service, stranger, sandbox) {
  // A request id for each authorization that is wanted, kept with it until the call was answered.
  const requestId = randomUUID();
  let started = await service.start(requestId, 'order-4711', ['age_18_plus', 'name_match']);
  assert.deepEqual(await service.start(requestId, 'order-4711', ['age_18_plus', 'name_match']), started);
  let approved = { claims: { age_18_plus: true, name_match: null } };
  let callback = await sandbox.decide(started.authorizationUrl, 'approve', approved);
  let session = await service.complete(callback);
  console.log('complete:', session.id, claims(session));
  assert.equal(session.id, started.session.id);
  assert.equal(session.status, 'SESSION_STATUS_COMPLETE');
  assert.deepEqual(claims(session), approved.claims);

  // A callback that somebody has tampered with, after the true one.
  const replayed = service.complete(callback.replace('code=', 'code=x'));
  await refused('replayed', replayed, status.ALREADY_EXISTS, 'STATE_ALREADY_USED', NextStep.LOOK_UP);
  assert.equal((await service.get(session.id)).status, 'SESSION_STATUS_COMPLETE', 'looked up');

  started = await service.start(randomUUID(), 'declined', ['age_18_plus']);
  const declined = service.complete(await sandbox.decide(started.authorizationUrl, 'decline'));
  await refused('declined', declined, status.FAILED_PRECONDITION, 'ACCESS_DENIED', NextStep.START_ANEW);

  // The provider's wallet is empty: the code lives on, and completes once the wallet is filled.
  started = await service.start(randomUUID(), 'unpaid', ['age_18_plus']);
  callback = await sandbox.decide(started.authorizationUrl, 'approve');
  await sandbox.fault({ status: 402, body: { error: 'payment_required' } });
  const unpaid = await refused(
    'unpaid',
    service.complete(callback),
    status.FAILED_PRECONDITION,
    'PAYMENT_REQUIRED',
    NextStep.RESUME,
  );
  assert.ok(unpaid.resumeUntil > new Date(), 'resumable for a while');
  // Who has the trailers alone asks the session whether it can be resumed.
  const { failure } = await service.get(started.session.id);
  assert.ok(failure.resumable);
  const { seconds, nanos } = failure.resumeUntil;
  assert.equal(seconds * 1000 + nanos / 1e6, unpaid.resumeUntil.getTime());
  assert.equal((await service.complete(callback)).status, 'SESSION_STATUS_COMPLETE', 'resumed');

  // The provider is down for all three attempts of one call, and back for the next call.
  started = await service.start(randomUUID(), 'down', ['age_18_plus']);
  callback = await sandbox.decide(started.authorizationUrl, 'approve');
  await sandbox.fault({ status: 503, times: 3, headers: { 'retry-after': '2' } });
  const heard = [];
  session = await withRetries(
    () => service.complete(callback),
    30_000,
    (error) => heard.push(error),
  );
  assert.equal(heard.length, 1, 'calls that were refused');
  const down = checkRefusal('provider down', heard[0], status.UNAVAILABLE, 'PROVIDER_ERROR', NextStep.REPEAT);
  assert.equal(down.retryDelayMs, 2000);
  assert.equal(session.status, 'SESSION_STATUS_COMPLETE', 'repeated');

  const wrong = await refused(
    'bad request',
    service.start(randomUUID(), 'x'.repeat(257), ['age 18']),
    status.INVALID_ARGUMENT,
    'INVALID_ARGUMENT',
    NextStep.MEND,
  );
  for (const [field, description] of Object.entries(wrong.violations))
    console.log(`    ${field}: ${description}`);
  assert.deepEqual(Object.keys(wrong.violations).sort(), ['reference', 'scopes[0]']);

  await refused(
    'stranger',
    stranger.get(session.id),
    status.UNAUTHENTICATED,
    'CALLER_UNKNOWN',
    NextStep.MEND,
  );

  // Nobody listens there: what gRPC itself says carries no reason.
  const nowhere = connect('unix:/nowhere/cairld.sock');
  await assert.rejects(new Verification(nowhere).get(session.id), (error) => {
    assert.deepEqual(
      [error.code, readDetails(error), readTrailers(error)],
      [status.UNAVAILABLE, undefined, undefined],
    );
    return true;
  });
  nowhere.close();
}

const [endpoint, sandboxUrl, tokenFile] = process.argv.slice(2);
if (!sandboxUrl) {
  console.error('usage: node main.js ENDPOINT SANDBOX [TOKEN_FILE]');
  process.exit(2);
}
const token = tokenFile && readFileSync(tokenFile, 'utf8').trim();
const client = connect(endpoint);
try {
  await run(
    new Verification(client, token),
    new Verification(client, 'not-a-token'),
    new Sandbox(sandboxUrl),
  );
  console.log('all as documented');
} finally {
  client.close();
}
