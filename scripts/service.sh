#!/usr/bin/env bash
# The service from its start to its stop, under what stands for systemd: sockets that it is handed, reloads, restarts under
# the load of a stock gRPC client, a disk that gets full and is mended (tests/service). Prints a transcript, which
# docs/operations.md shows; fails where a call is lost that the shipped service config should have repeated.
#
# Needs Python 3 with venv, and a user who may mount a small disk of his own: root, or one with user namespaces.
set -euo pipefail
cd "$(dirname "$0")/.."

stubs=$(mktemp -d)
trap 'rm -rf "$stubs"' EXIT
python=$(scripts/python.sh examples/clients/python/requirements.txt)
"$python" -m grpc_tools.protoc -I proto --python_out="$stubs" --grpc_python_out="$stubs" proto/cairld/v1/*.proto
cargo build --quiet --locked --bins
programs=$(realpath "${CARGO_TARGET_DIR:-target}/debug")
# The small disk is mounted where nobody else sees it, and goes with the last process here.
# shellcheck disable=SC2016
timeout 900 unshare --mount --map-root-user bash -euc '
  folder=$(mktemp -d)
  trap "umount --lazy $folder/disk; rm -rf $folder" EXIT
  mkdir "$folder/disk"
  mount -t tmpfs -o size=24m tmpfs "$folder/disk"
  PYTHONPATH="$1" "$2" -B tests/service/main.py "$3" proto/cairld/v1/cairld_grpc_service_config.json "$folder"
' bash "$stubs" "$python" "$programs" || {
  status=$?
  [ "$status" != 124 ] || echo "service: it was not over after 900 s" >&2
  exit "$status"
}
