#!/usr/bin/env bash
# cairld against an authorization server that nobody here wrote: npm's oidc-provider, which insists on PKCE and sends `iss`.
# Installs it, starts it and the real daemon, plays the user by plain HTTP, and checks the flow, what must be refused, and
# that an answer that was lost is never asked for again (tests/oidc-provider/main.js). Needs Node.js with npm.
set -euo pipefail
cd "$(dirname "$0")/.."

here=tests/oidc-provider
for tool in node npm cargo; do
  command -v "$tool" >/dev/null || { echo "oidc-provider: $tool is missing" >&2; exit 1; }
done
# npm writes this file when it has installed all.
[ $here/node_modules/.package-lock.json -nt $here/package-lock.json ] ||
  npm ci --prefix $here --ignore-scripts --no-audit --no-fund --prefer-offline
cargo build --quiet --locked --bins
# All of this stays on this machine.
export no_proxy="${no_proxy:+$no_proxy,}127.0.0.1"
exec timeout 120 node $here/main.js "${CARGO_TARGET_DIR:-target}/debug"
