#!/usr/bin/env bash
# Fuzzes what reads others' bytes (fuzz/targets): each target for so many seconds, two at a time.
#
#   scripts/fuzz.sh [SECONDS] [TARGET]...     a minute each of all by default
#
# Starts with the inputs in fuzz/corpus, and adds none to them. An input that breaks a target stays in fuzz/artifacts, and
# `scripts/fuzz.sh 0 TARGET` runs those again. There is no sanitizer: the crate has no unsafe code, so that what can be
# found are panics, overflows, broken promises (the targets' own assertions), and what takes too long or too much memory.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
[ $# = 0 ] || shift
[ $# -gt 0 ] || set -- callback webhook answer record config retry_after trace

fuzz=$(scripts/tools.sh cargo-fuzz)
export CARGO_TARGET_DIR=${CAIRLD_FUZZ_TARGET_DIR:-$PWD/fuzz/target}
# cargo fuzz has no --locked.
cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null
# Without a sanitizer the stable compiler will do.
"$fuzz" build --fuzz-dir fuzz --sanitizer none --codegen-units 16
programs=$CARGO_TARGET_DIR/$(rustc -vV | sed -n 's/^host: //p')/release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The configuration's keys, as the documentation has them.
sed -nE 's/^#?([a-z_.]+) = .*/"\1 = "/p' docs/cairld.toml | sort -u >"$work/config.dict"

# fuzz_one TARGET
fuzz_one() {
  local target=$1 options=(-timeout=60 -rss_limit_mb=1024 -max_len=8192 -print_final_stats=1)
  mkdir -p "$work/$target" "fuzz/artifacts/$target"
  [ "$target" != config ] || options+=("-dict=$work/config.dict")
  if [ "$seconds" = 0 ]; then
    options+=(-runs=0)
    set -- "fuzz/artifacts/$target"
  else
    options+=("-max_total_time=$seconds")
    set -- "$work/$target"
  fi
  "$programs/$target" "${options[@]}" "-artifact_prefix=fuzz/artifacts/$target/" "$@" "fuzz/corpus/$target" \
    >"$work/$target.log" 2>&1
}

# What is said of a target that is done.
tell() {
  local target=$1 status=$2 runs covered
  if [ "$status" != 0 ]; then
    tail -n 60 "$work/$target.log" >&2
    echo "fuzz: $target FAILED; the input is in fuzz/artifacts/$target, and here in base64:" >&2
    find "fuzz/artifacts/$target" -type f -exec base64 -w 0 {} \; >&2
    echo >&2
    return 1
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$target.log")
  covered=$(grep -oE 'cov: [0-9]+' "$work/$target.log" | tail -n 1 | cut -d ' ' -f 2)
  printf 'fuzz: %-12s %10s runs, %s edges\n' "$target" "$runs" "$covered"
}

failed=0
while [ $# -gt 0 ]; do
  pair=("${@:1:2}")
  shift ${#pair[@]}
  running=()
  for target in "${pair[@]}"; do
    fuzz_one "$target" &
    running+=($!)
  done
  for number in "${!pair[@]}"; do
    status=0
    wait "${running[number]}" || status=$?
    tell "${pair[number]}" "$status" || failed=1
  done
done
exit "$failed"
