#!/usr/bin/env bash
# Abuses a real daemon as hostile or broken clients of HTTP/2 and HTTP/1 do (tests/abuse), while an honest caller goes on.
# Prints what each abuse did to the daemon's memory and to that caller; fails where a bound is passed or a call unanswered.
#
#   scripts/abuse.sh [ATTACK]...     all of tests/abuse/attacks.py by default
#
# Needs Python 3 with venv, and permission to open some twenty thousand files for ten thousand connections.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=${CAIRLD_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/cairld-tools}
here=tests/abuse
key=$(cat $here/requirements.txt <(python3 --version) | sha256sum | cut -c 1-12)
venv=$tools/abuse-python-$key
if ! "$venv/bin/python" -c 'import hpack, hyperframe' 2>/dev/null; then
  mkdir -p "$tools"
  part=$(mktemp -d "$tools/.abuse-python-XXXXXX")
  # A folder has its name only once it is whole. Nothing here minds that it moves: no script of it is run.
  { python3 -m venv "$part" && "$part/bin/python" -m pip install --quiet -r $here/requirements.txt; } ||
    { rm -rf "$part"; echo "abuse: the packages of Python could not be installed" >&2; exit 1; }
  rm -rf "$venv"
  mv -T "$part" "$venv"
fi
ulimit -n "$(ulimit -Hn)" || true
cargo build --quiet --locked --bins
exec timeout 300 "$venv/bin/python" -B $here/main.py "${CARGO_TARGET_DIR:-target}/debug" "$@"
