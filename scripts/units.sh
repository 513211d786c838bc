#!/usr/bin/env bash
# Checks the units in systemd/ with systemd's own tools: nothing to be said against them, and an exposure of 1.2 at most.
#
#   scripts/units.sh
#
# Where systemd-analyze is missing it is installed from the distribution's package (scripts/tools.sh).
set -euo pipefail
cd "$(dirname "$0")/.."

# In tenths, as systemd-analyze counts thresholds: 12 is an exposure of 1.2.
most=12

analyze=$(scripts/tools.sh systemd-analyze)
"$analyze" --version | head -n 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# verify looks whether ExecStart= is there, which on this machine it need not be.
cp systemd/cairld.service systemd/cairld.socket "$work"
sed -i "s|^ExecStart=/usr/bin/cairld |ExecStart=$(command -v true) |" "$work/cairld.service"
grep -q "^ExecStart=$(command -v true) serve" "$work/cairld.service"

# verify warns of keys that it does not know and succeeds all the same: silence is what is asked for.
said=$("$analyze" verify --man=no --recursive-errors=no "$work/cairld.service" "$work/cairld.socket" 2>&1) || {
  echo "$said" >&2
  exit 1
}
[ -z "$said" ] || { printf 'units: systemd-analyze verify says:\n%s\n' "$said" >&2; exit 1; }
echo "units: systemd-analyze verify has nothing to say"

# The drop-in is for newer ones: others would warn of each of its keys.
version=$("$analyze" --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
if [ "$version" -ge 254 ]; then
  mkdir "$work/newer"
  cp "$work/cairld.service" "$work/cairld.socket" "$work/newer"
  cp -r systemd/since-254/cairld.service.d "$work/newer"
  said=$("$analyze" verify --man=no --recursive-errors=no "$work/newer/cairld.service" 2>&1) && [ -z "$said" ] || {
    printf 'units: with the drop-in of since-254 systemd-analyze verify says:\n%s\n' "$said" >&2
    exit 1
  }
  echo "units: nor has it of the drop-in of since-254"
else
  echo "units: systemd $version is too old to judge the drop-in of since-254"
fi

"$analyze" security --offline=true --no-pager --threshold="$most" "$work/cairld.service" >"$work/security" || {
  cat "$work/security" >&2
  echo "units: the exposure is over $((most / 10)).$((most % 10))" >&2
  exit 1
}
tail -n 1 "$work/security"
