#!/usr/bin/env bash
# Measures what calls cost, and writes docs/benchmarks.md and docs/benchmarks.svg: about fifteen minutes on a machine that
# has nothing else to do, and 6 GiB of disk under target/.
#
#   scripts/benchmark.sh           everything, into the docs
#   scripts/benchmark.sh --quick   small stores and one turn, on the terminal alone
#   scripts/benchmark.sh flows     whole flows, beside a service in Node.js with openid-client and Redis
#
# Redis is the distribution's; where it is missing and cannot be installed, its columns stay empty, and there are no flows.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v redis-server >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "benchmark: installing redis-server" >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server; } >&2 ||
    echo "benchmark: redis-server could not be installed" >&2
fi

if [ "${1:-}" = flows ]; then
  npm ci --prefix benches/flows/node --ignore-scripts --no-audit --no-fund --prefer-offline >&2
  exec cargo bench --locked --bench flows
fi

exec cargo bench --locked --bench throughput -- "${1:---write}"
