// cairld against oidc-provider, a server by others: the flow as the standards have it, and what is wrong with it on purpose.
// scripts/oidc-provider.sh runs this: node main.js FOLDER_WITH_CAIRLD_AND_CAIRLCTL

import assert from 'node:assert/strict';
import { visit } from './browser.js';
import { startDaemon } from './daemon.js';
import { startProxy, tokenExchange } from './proxy.js';
import { claims, client, startServer } from './server.js';

const step = (text) => console.log(`oidc-provider: ${text}`);
const [redirectUri] = client.redirect_uris;

const server = await startServer();
const proxy = await startProxy(new URL(server.issuer).port);
const section = `
[[client]]
name = "shop"
base_url = "${proxy.url}"
client_id_file = "client.id"
client_secret_file = "client.secret"
redirect_uris = ["${redirectUri}"]
issuer = "${server.issuer}"
authorize_params = { response_type = "code" }
endpoints = { authorize = "${server.issuer}/auth", token = "/token", userinfo = "/me", revoke = "/token/revocation" }
timeouts = { connect = "20s", request = "30s" }
`;
const secrets = { 'client.id': client.client_id, 'client.secret': client.client_secret };
const daemon = await startDaemon(process.argv[2], section, secrets);

async function start() {
  const scopes = ['openid', ...Object.keys(claims)].flatMap((scope) => ['--scope', scope]);
  const { answer, refusal } = await daemon.call(['start', '--client', 'shop', ...scopes]);
  assert.ok(answer, refusal);
  return answer;
}

const complete = (callback) => daemon.call(['complete', '-'], `${callback}\n`);
const session = async (id) => (await daemon.call(['session', 'get', id])).answer.session;
const userinfo = async (token) => (await fetch(`${server.issuer}/me`, { headers: { authorization: `Bearer ${token}` } })).status;

/** What nobody should do: the same token request once more. */
async function replay(form) {
  const response = await fetch(`${server.issuer}/token`, { method: 'POST', body: form });
  return [response.status, (await response.json()).error];
}

try {
  step('the flow completes, and the claims arrive');
  const first = await start();
  const callback = await visit(first.authorizationUrl, redirectUri);
  assert.equal(callback.searchParams.get('iss'), server.issuer, 'the server says who it is');

  step('a callback of another issuer, or of none, is refused and consumes nothing');
  for (const issuer of ['https://other.example', undefined]) {
    const wrong = new URL(callback);
    wrong.searchParams.delete('iss');
    if (issuer) wrong.searchParams.set('iss', issuer);
    const { refusal } = await complete(wrong);
    assert.match(refusal ?? '', /ISSUER_MISMATCH/);
  }
  assert.equal(server.tokenRequests.length, 0, 'no code was sent');
  const { answer, refusal } = await complete(callback);
  assert.ok(answer, refusal);
  const done = answer.session;
  assert.equal(done.status, 'SESSION_STATUS_COMPLETE');
  assert.equal(done.subject, 'ada');
  assert.deepEqual(done.claims.age_18_plus, { boolValue: true });
  assert.deepEqual(done.claims.name_match, { boolValue: false });
  assert.ok('nullValue' in done.claims.dob_match, 'null is not false');
  assert.deepEqual(server.tokenRequests, [{ code: callback.searchParams.get('code'), status: 200 }]);

  step('RevokeToken revokes it at the server');
  const { answer: token } = tokenExchange(proxy.exchanges, callback.searchParams.get('code'));
  assert.equal(await userinfo(token.access_token), 200);
  const { answer: revoked, refusal: notRevoked } = await daemon.call(['session', 'revoke', first.session.id]);
  assert.ok(revoked, notRevoked);
  // The daemon asks the server by itself, after it has answered.
  const deadline = performance.now() + 60_000;
  while (await userinfo(token.access_token) !== 401) {
    assert.ok(performance.now() < deadline, 'it is still good');
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }

  step('the server insists on PKCE with S256, and what it says then ends the session');
  for (const change of [
    (url) => ['code_challenge', 'code_challenge_method'].forEach((name) => url.searchParams.delete(name)),
    (url) => url.searchParams.set('code_challenge_method', 'plain'),
  ]) {
    const started = await start();
    const url = new URL(started.authorizationUrl);
    change(url);
    const refused = await visit(url, redirectUri);
    assert.equal(refused.searchParams.get('error'), 'invalid_request');
    assert.match((await complete(refused)).refusal ?? '', /INVALID_REQUEST/);
    assert.equal((await session(started.session.id)).status, 'SESSION_STATUS_FAILED');
  }
  const another = await start();
  const itsCallback = await visit(another.authorizationUrl, redirectUri);
  const wrongVerifier = {
    grant_type: 'authorization_code', code: itsCallback.searchParams.get('code'), redirect_uri: redirectUri,
    client_id: client.client_id, client_secret: client.client_secret, code_verifier: 'v'.repeat(43),
  };
  assert.deepEqual(await replay(new URLSearchParams(wrongVerifier)), [400, 'invalid_grant']);
  const { refusal: spoiled, answer: fine } = await complete(itsCallback);
  assert.ok(fine, `a stolen code without its verifier spoils nothing: ${spoiled}`);

  step('an answer that is lost is never asked for again');
  const lost = await start();
  const lostCallback = await visit(lost.authorizationUrl, redirectUri);
  const lostCode = lostCallback.searchParams.get('code');
  const requests = () => server.tokenRequests.filter(({ code }) => code === lostCode).length;
  proxy.cutNextAnswer();
  assert.match((await complete(lostCallback)).refusal ?? '', /OUTCOME_UNKNOWN/);
  assert.equal((await session(lost.session.id)).status, 'SESSION_STATUS_INDETERMINATE');
  assert.match((await complete(lostCallback)).refusal ?? '', /STATE_ALREADY_USED/);
  assert.equal(requests(), 1, 'the server saw one token request');

  step('for this server revokes what a code has bought when the code comes again (RFC 6749 section 4.1.2)');
  const bought = tokenExchange(proxy.exchanges, lostCode);
  assert.equal(await userinfo(bought.answer.access_token), 200, 'the token is good until then');
  assert.deepEqual(await replay(bought.form), [400, 'invalid_grant']);
  assert.equal(await userinfo(bought.answer.access_token), 401, 'and revoked by the replay');
  assert.equal(requests(), 2, 'the second one was not the daemon\'s');

  assert.deepEqual(server.errors, []);
  step('all as the standards have it');
} catch (error) {
  console.error(daemon.log.join('\n'));
  throw error;
} finally {
  await daemon.stop();
  proxy.stop();
  server.stop();
}
