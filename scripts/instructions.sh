#!/usr/bin/env bash
# Counts the instructions of the pure parts that every call goes through (benches/instructions), and fails where a limit is
# passed. Installs Valgrind, where it is missing, and what runs it.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/tools.sh valgrind >/dev/null
GUNGRAUN_RUNNER=$(scripts/tools.sh gungraun-runner)
export GUNGRAUN_RUNNER
# Valgrind 3.19, of Debian 12, does not know every instruction that the newest processors have.
exec cargo bench --locked --profile instructions --bench instructions -- "$@"
