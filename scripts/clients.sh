#!/usr/bin/env bash
# docs/clients.md as its readers run it: the programs in examples/clients, each over TCP and over the Unix socket of a
# `cairld dev`. A program ends with an error where something is not as documented.
#
#   scripts/clients.sh [python|node|go|java]...     all four by default
#
# Needs Python 3 with venv, Node.js with npm, Go, and a JDK (17 or newer) with Maven, each for its own language.
set -euo pipefail
cd "$(dirname "$0")/.."
# Where Go installs itself, for shells whose profile has not been told.
PATH=$PATH:/usr/local/go/bin

work=$(mktemp -d)

say() {
  printf 'clients: %s\n' "$*"
}

fail() {
  say "$*" >&2
  exit 1
}

need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || fail "$tool is missing"
  done
}

# For each language: prepare_… installs and generates what its program needs, run_… runs it.

prepare_python() {
  local here=examples/clients/python
  python=$(scripts/python.sh $here/requirements.txt)
  "$python" -m grpc_tools.protoc -I proto --python_out=$here --pyi_out=$here --grpc_python_out=$here \
    proto/cairld/v1/*.proto
}

run_python() {
  "$python" examples/clients/python/main.py "$@"
}

prepare_node() {
  need node npm
  local here=examples/clients/node
  # npm writes this file when it has installed all.
  [ $here/node_modules/.package-lock.json -nt $here/package-lock.json ] ||
    npm ci --prefix $here --ignore-scripts --no-audit --no-fund --prefer-offline
}

run_node() {
  node examples/clients/node/main.js "$@"
}

prepare_go() {
  need go
  local buf
  buf=$(scripts/tools.sh buf)
  (cd examples/clients/go && "$buf" generate ../../../proto && go vet ./... && go build -o "$work/go-client" .)
}

run_go() {
  "$work/go-client" "$@"
}

prepare_java() {
  need javac mvn
  mvn -B -q -Dstyle.color=never -f examples/clients/java process-classes
}

run_java() {
  java -cp 'examples/clients/java/target/classes:examples/clients/java/target/lib/*' com.example.cairldclient.Main "$@"
}

# printed NAME: the value that cairld dev printed under that name. Waits for the line; ends early when dev ends.
printed() {
  local line
  line=$(grep -m1 -E "^  $1 +" < <(timeout 60 tail -n +1 -f --pid="$dev" "$log")) ||
    fail "cairld dev did not print its line \"$1\""
  sed -E "s/^  $1 +//" <<<"$line"
}

stop_dev() {
  local status=$?
  if [ -n "$dev" ] && kill -TERM "$dev" 2>/dev/null; then
    timeout 30 tail -f --pid="$dev" /dev/null || kill -KILL "$dev" || true
  fi
  if [ "$status" != 0 ]; then
    echo "clients: cairld dev said:" >&2
    cat "$log" >&2 || true
  fi
}

# check LANGUAGE: its program, over both kinds of sockets.
check() {
  local language=$1 grpc unix sandbox data stopped=0
  log=$work/$language.dev
  dev=
  trap stop_dev EXIT
  say "$language: preparing"
  "prepare_$language"
  # It must be there before anybody waits for a line of it.
  : >"$log"
  # A daemon of its own: the provider takes thirty token requests a minute of one client, and so does its stand-in.
  cargo run --quiet --locked -- dev >"$log" 2>&1 &
  dev=$!
  grpc=$(printed grpc)
  unix=$(printed unix)
  sandbox=$(printed sandbox)
  data=$(printed data)
  say "$language: over TCP"
  "run_$language" "$grpc" "$sandbox" "$data/caller.token"
  say "$language: over the Unix socket"
  "run_$language" "unix:$unix" "$sandbox"
  kill -TERM "$dev"
  wait "$dev" || stopped=$?
  dev=
  [ "$stopped" = 0 ] || fail "cairld dev ended with status $stopped"
}

[ $# -gt 0 ] || set -- python node go java
for language in "$@"; do
  declare -F "prepare_$language" >/dev/null || fail "usage: scripts/clients.sh [python|node|go|java]..."
done

checks=()
cleanup() {
  local check
  for check in "${checks[@]}"; do kill -TERM "$check" 2>/dev/null || true; done
  wait
  rm -rf "$work"
}
trap cleanup EXIT

say "building cairld"
cargo build --quiet --locked --bins
# The programs speak to this machine alone; gRPC in Python and Node would ask a proxy even for that.
export no_proxy="${no_proxy:+$no_proxy,}127.0.0.1"

# All at once: most of their time they wait for the pauses between the daemon's retries.
for language in "$@"; do
  (check "$language") >"$work/$language.log" 2>&1 &
  checks+=($!)
done
failed=()
for language in "$@"; do
  check=${checks[0]}
  wait "$check" || failed+=("$language")
  checks=("${checks[@]:1}")
  cat "$work/$language.log"
done
[ "${#failed[@]}" = 0 ] || fail "FAILED: ${failed[*]}"
say "all as documented: $*"
