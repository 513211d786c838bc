// The flow as a careful team would write it: openid-client for OAuth and PKCE, Redis for what must outlive a request.
// For the benchmark beside it alone; see docs/benchmarks.md.
//
// POST /start → {state, authorization_url}; POST /callback with the callback's URL → the session; GET /sessions/ID.

import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';
import Redis from 'ioredis';
import * as oauth from 'openid-client';

const { PROVIDER, CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, REDIS } = process.env;
/** Seconds that a user may take, and that a session is kept. */
const LIFE = 30 * 60;
const KEPT = 24 * 60 * 60;

const redis = new Redis(REDIS);
const provider = new oauth.Configuration(
  {
    issuer: PROVIDER,
    authorization_endpoint: `${PROVIDER}/verify/start`,
    token_endpoint: `${PROVIDER}/api/oauth/token`,
    userinfo_endpoint: `${PROVIDER}/api/oauth/userinfo`,
  },
  CLIENT_ID,
  CLIENT_SECRET,
  oauth.ClientSecretPost(CLIENT_SECRET),
);
// The sandbox speaks plain HTTP on loopback.
oauth.allowInsecureRequests(provider);

async function start() {
  const [state, verifier, id] = [oauth.randomState(), oauth.randomPKCECodeVerifier(), randomUUID()];
  await redis.set(`state:${state}`, JSON.stringify({ id, verifier }), 'EX', LIFE);
  const url = oauth.buildAuthorizationUrl(provider, {
    redirect_uri: REDIRECT_URI,
    scope: 'age_18_plus',
    state,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  });
  return { id, state, authorization_url: url.href };
}

async function complete(callback) {
  const url = new URL(callback);
  const state = url.searchParams.get('state');
  // Whoever takes it first has it; nobody takes it twice.
  const taken = await redis.getdel(`state:${state}`);
  if (!taken) throw new Error('the state is unknown or was used');
  const { id, verifier } = JSON.parse(taken);
  const token = await oauth.authorizationCodeGrant(provider, url, { pkceCodeVerifier: verifier, expectedState: state });
  const userinfo = await oauth.fetchUserInfo(provider, token.access_token, oauth.skipSubjectCheck);
  const session = JSON.stringify({ id, status: 'complete', subject: userinfo.sub, claims: userinfo.claims });
  await redis.set(`session:${id}`, session, 'EX', KEPT);
  return session;
}

async function answer(request) {
  const { pathname } = new URL(request.url, 'http://service');
  if (request.method === 'POST' && pathname === '/start') return JSON.stringify(await start());
  if (request.method === 'POST' && pathname === '/callback') {
    let body = '';
    for await (const piece of request) body += piece;
    return complete(body);
  }
  if (request.method === 'GET' && pathname.startsWith('/sessions/')) {
    return redis.get(`session:${pathname.slice('/sessions/'.length)}`);
  }
  return null;
}

const server = createServer(async (request, response) => {
  try {
    const body = await answer(request);
    response.writeHead(body ? 200 : 404, { 'content-type': 'application/json' }).end(body ?? '{}');
  } catch (error) {
    console.error(error);
    response.writeHead(502, { 'content-type': 'application/json' }).end('{}');
  }
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
