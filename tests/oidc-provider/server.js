// oidc-provider, set up as strict as it can be: PKCE with S256 or nothing, an `iss` in every redirect (RFC 9207).

import { createServer } from 'node:http';
import { once } from 'node:events';
import Provider from 'oidc-provider';

export const client = {
  client_id: 'cairl_test_oidc_provider',
  client_secret: 'a secret of 32 characters or more',
  redirect_uris: ['https://shop.example/callback'],
  response_types: ['code'],
  grant_types: ['authorization_code'],
  token_endpoint_auth_method: 'client_secret_post',
};

export const claims = { age_18_plus: true, name_match: false, dob_match: null };

/** Starts it on a free port; answers its issuer, the token requests that it has had, and how to stop it. */
export async function startServer() {
  const http = createServer();
  await once(http.listen(0, '127.0.0.1'), 'listening');
  const issuer = `http://127.0.0.1:${http.address().port}`;
  const provider = new Provider(issuer, {
    clients: [client],
    scopes: ['openid', ...Object.keys(claims)],
    claims: { openid: ['sub'], ...Object.fromEntries(Object.keys(claims).map((name) => [name, [name]])) },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...claims }) }),
    pkce: { required: () => true },
    features: { revocation: { enabled: true } },
    cookies: { keys: ['a key of this run'] },
  });
  const tokenRequests = [];
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.path === '/token') {
      tokenRequests.push({ code: ctx.oidc?.params?.code, status: ctx.status });
    }
  });
  const errors = [];
  provider.on('server_error', (_, error) => errors.push(error));
  http.on('request', provider.callback());
  return { issuer, tokenRequests, errors, stop: () => http.close() };
}
