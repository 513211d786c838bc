// The real daemon as a process, and cairlctl as its caller.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Starts `cairld serve` with a client's section; `programs` is the folder of cairld and cairlctl. */
export async function startDaemon(programs, section, secrets) {
  const folder = await mkdtemp(join(tmpdir(), 'cairld-'));
  const path = (name) => join(folder, name);
  await run(join(programs, 'cairld'), ['keygen', path('store.key')]);
  for (const [name, text] of Object.entries(secrets)) await writeFile(path(name), `${text}\n`, { mode: 0o600 });
  const config = `
[grpc]
unix = "cairld.sock"
[store]
path = "cairld.redb"
[keys]
files = ["store.key"]
${section}
[[caller]]
name = "checkout"
uid = ${process.getuid()}
clients = ["shop"]
rpcs = ["*"]
`;
  await writeFile(path('cairld.toml'), config);
  const process_ = spawn(join(programs, 'cairld'), ['serve', '--config', path('cairld.toml')], {
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  const log = [];
  const ended = once(process_, 'exit');
  const ready = new Promise((resolve, reject) => {
    createInterface({ input: process_.stderr }).on('line', (line) => {
      log.push(line);
      if (line.includes('serving gRPC on a Unix socket')) resolve();
    });
    ended.then(([status]) => reject(new Error(`cairld ended with ${status}:\n${log.join('\n')}`)));
  });
  await ready;

  /** A command of cairlctl: what it prints, or the reason and the text of its refusal. */
  async function call(arguments_, input) {
    const all = ['--json', '--endpoint', `unix:${path('cairld.sock')}`, ...arguments_];
    const called = run(join(programs, 'cairlctl'), all, { timeout: 60_000 });
    called.child.stdin.end(input ?? '');
    try {
      return { answer: JSON.parse((await called).stdout) };
    } catch (error) {
      if (error.stderr === undefined) throw error;
      return { refusal: `${error.stderr}${error.stdout}` };
    }
  }

  async function stop() {
    process_.kill('SIGTERM');
    const [status] = await ended;
    await rm(folder, { recursive: true });
    if (status !== 0) throw new Error(`cairld ended with ${status}:\n${log.join('\n')}`);
  }
  return { call, log, stop };
}
