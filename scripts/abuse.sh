#!/usr/bin/env bash
# Abuses a real daemon as hostile or broken clients of HTTP/2 and HTTP/1 do (tests/abuse), while an honest caller goes on.
# Prints what each abuse did to the daemon's memory and to that caller; fails where a bound is passed or a call unanswered.
#
#   scripts/abuse.sh [ATTACK]...     all of tests/abuse/attacks.py by default
#
# Needs Python 3 with venv, and permission to open some twenty thousand files for ten thousand connections.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$(scripts/python.sh tests/abuse/requirements.txt)
ulimit -n "$(ulimit -Hn)" || true
cargo build --quiet --locked --bins
exec timeout 900 "$python" -B tests/abuse/main.py "${CARGO_TARGET_DIR:-target}/debug" "$@"
