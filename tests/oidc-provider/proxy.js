// A proxy between the daemon and the server, on the wire: sees each request and answer, and can cut an answer off.

import { connect, createServer } from 'node:net';
import { once } from 'node:events';

/** Starts one before the server; `exchanges` has what went through, `cutNextAnswer` drops one that has arrived. */
export async function startProxy(serverPort) {
  const exchanges = [];
  let cut = false;
  const proxy = createServer((daemon) => {
    const server = connect(serverPort, '127.0.0.1');
    const exchange = { request: '', answer: '', isCut: false };
    exchanges.push(exchange);
    daemon.on('data', (bytes) => {
      exchange.request += bytes.toString('latin1');
      server.write(bytes);
    });
    server.on('data', (bytes) => {
      exchange.answer += bytes.toString('latin1');
      // The server has done what it was asked; nobody hears of it.
      if (exchange.isCut || (cut && exchange.request.startsWith('POST /token'))) {
        cut = false;
        exchange.isCut = true;
        daemon.destroy();
      } else {
        daemon.write(bytes);
      }
    });
    daemon.on('close', () => server.end()).on('error', () => {});
    server.on('close', () => daemon.end()).on('error', () => daemon.destroy());
  });
  await once(proxy.listen(0, '127.0.0.1'), 'listening');
  return {
    url: `http://127.0.0.1:${proxy.address().port}`,
    exchanges,
    cutNextAnswer: () => { cut = true; },
    stop: () => proxy.close(),
  };
}

/** The form and the JSON of the token exchange with this code. */
export function tokenExchange(exchanges, code) {
  const found = exchanges.filter(({ request }) => request.startsWith('POST /token') && request.includes(`code=${code}&`));
  if (found.length !== 1) throw new Error(`${found.length} token requests with the code crossed the wire`);
  const [, form] = found[0].request.split('\r\n\r\n');
  const json = found[0].answer.slice(found[0].answer.indexOf('{'), found[0].answer.lastIndexOf('}') + 1);
  return { form: new URLSearchParams(form), answer: JSON.parse(json) };
}
