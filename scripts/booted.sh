#!/usr/bin/env bash
# The units under a real systemd, booted for the purpose: a Debian of its own in systemd-nspawn, in which the daemon is
# installed as docs/operations.md says and taken from its start to its stop (tests/booted). Prints a transcript, which
# docs/operations.md shows; fails where something is not as it should be.
#
#   scripts/booted.sh
#
# Needs root and Debian's apt-get (scripts/tools.sh installs the Debian). Ends with 77, and says what was refused, where the
# machine does not permit what a boot needs. Nothing of the machine's own is touched: everything that is mounted, written or
# started is in namespaces, in memory and in a control group that end with this script, and it checks that they did.
set -euo pipefail
cd "$(dirname "$0")/.."

limit=900
left_out=77

fail() {
  echo "booted: $*" >&2
  exit 1
}

refused() {
  echo "booted: this machine does not permit it: $*" >&2
  exit "$left_out"
}

# permitted WHAT COMMAND...: runs it; where it fails, that is what the machine does not permit.
permitted() {
  local what=$1 said
  shift
  said=$("$@" 2>&1) || refused "$what: ${said:-exit code $?}"
}

# inside TREE WORK: the rest, in namespaces of its own. What it mounts it mounts below /mnt, so that /tmp and /run can be
# its own: systemd-nspawn keeps its things there, and systemd cleans up.
inside() {
  local tree=$1 work=$2 units=/mnt/machine/etc/systemd/system loader libraries
  # Before anything else: no mount from here may reach the machine's own namespace.
  mount --make-rprivate /
  mount -t tmpfs -o mode=755 tmpfs /mnt
  mkdir /mnt/{tree,checkout,scratch,upper,overlay,machine}
  mount --bind "$tree" /mnt/tree
  mount --bind . /mnt/checkout
  mount --bind "$work" /mnt/scratch
  mount -t tmpfs tmpfs /run
  mount -t tmpfs tmpfs /tmp
  # Of this script's group and below alone, and of the newest kind, which the machine may have beside the older one.
  permitted "mount cgroup2" mount -t cgroup2 cgroup2 /sys/fs/cgroup
  # The tree stays as it is: what the machine writes is in memory.
  permitted "mount an overlay" \
    mount -t overlay -o lowerdir=/mnt/tree,upperdir=/mnt/upper,workdir=/mnt/overlay overlay /mnt/machine
  echo host >/mnt/machine/etc/hostname
  # What nobody needs here.
  ln -s /dev/null "$units/console-getty.service"
  ln -s /dev/null "$units/systemd-logind.service"
  rm -f "$units"/timers.target.wants/*
  install -m 644 tests/booted/booted.service "$units"
  ln -s ../booted.service "$units/multi-user.target.wants"
  # systemd-nspawn of the tree, with the tree's libraries: whether this machine has one, and which, does not matter.
  loader=$(find /mnt/tree/usr/lib64/ /mnt/tree/usr/lib/ -maxdepth 1 -name 'ld-linux*.so.*' -print -quit 2>/dev/null || true)
  libraries=$(printf '%s:' /mnt/tree/usr/lib/*-linux-gnu /mnt/tree/usr/lib/*-linux-gnu/systemd)
  SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 exec "$loader" --library-path "${libraries%:}" /mnt/tree/usr/bin/systemd-nspawn \
    --quiet --settings=no --directory=/mnt/machine --machine=booted --register=no --keep-unit --boot --private-network \
    --link-journal=no --resolv-conf=off --timezone=off \
    --bind-ro=/mnt/checkout/systemd:/checkout/systemd --bind-ro=/mnt/checkout/docs:/checkout/docs \
    --bind-ro=/mnt/checkout/tests/booted:/checkout/tests/booted --bind-ro=/mnt/scratch/programs:/checkout/target/release \
    --bind=/mnt/scratch/said:/said
}

if [ "${1:-}" = inside ]; then
  shift
  inside "$@"
fi

[ "$(id -u)" = 0 ] || refused "it needs root"
permitted "namespaces" unshare --mount --pid --ipc --uts --net --cgroup --fork --kill-child true
cgroups=$(findmnt --noheadings --first-only --types cgroup2 --output TARGET) || refused "no cgroup2 is mounted"
# Below the group that this script is in.
group=$cgroups$(sed -n 's/^0:://p' /proc/self/cgroup)
group=${group%/}/cairld-booted-$$

work=$(mktemp -d)
# What must be there afterwards: a file so old that a cleaning would take it, and every mount.
canary=$(mktemp)
touch --date="1 year ago" "$canary"
# But for those that come and go by themselves.
mounts() {
  awk '$2 !~ "^/(run/(user|credentials|docker|snapd)|snap|var/lib/(docker|containers|containerd))(/|$)" { print $1, $2, $3 }' \
    /proc/self/mounts | sort
}
mounts >"$work/mounts"

finish() {
  local status=$? deadline=$((SECONDS + 20))
  if [ -d "$group" ]; then
    # Whoever is left in there; nobody is where all went well.
    echo 1 >"$group/cgroup.kill" || true
    while grep -q "populated 1" "$group/cgroup.events" && [ "$SECONDS" -lt "$deadline" ]; do sleep 0.1; done
    find "$group" -depth -type d -exec rmdir {} + || status=1
  fi
  if [ "$status" != 0 ] && [ -s "$work/console" ] && [ ! -s "$work/said/transcript" ]; then
    echo "booted: the machine's console said:" >&2
    tail -n 40 "$work/console" >&2
  fi
  rm -rf "$work" "$canary"
  exit "$status"
}
trap finish EXIT
permitted "a control group" mkdir "$group"

tree=$(scripts/tools.sh machine)
cargo build --quiet --locked --bins
mkdir "$work/programs" "$work/said"
for program in cairld cairlctl; do
  # They go into the machine's memory, where nobody debugs them.
  strip -o "$work/programs/$program" "${CARGO_TARGET_DIR:-target}/debug/$program"
done

# A shell goes into the group and becomes what is started there. Its end, whatever the reason, is the end of all of it.
: >"$work/said/transcript"
status=0
# shellcheck disable=SC2016
timeout --signal=KILL "$limit" bash -euc '
  echo $$ >"$1/cgroup.procs"
  exec unshare --mount --pid --ipc --uts --net --cgroup --fork --kill-child --mount-proc "$2" inside "$3" "$4"
' bash "$group" "$PWD/scripts/booted.sh" "$tree" "$work" </dev/null >"$work/console" 2>&1 &
machine=$!
# Comes to its end with the machine.
tail --follow --lines=+1 --sleep-interval=0.2 --pid="$machine" "$work/said/transcript"
wait "$machine" || status=$?

[ -e "$canary" ] || fail "a file of this machine's /tmp is gone"
[ -z "$(comm -23 "$work/mounts" <(mounts))" ] || fail "mounts of this machine are gone"
! mounts | grep -F "$work" || fail "a mount is left"
[ "$status" != "$left_out" ] || { cat "$work/console" >&2; : >"$work/console"; exit "$left_out"; }
[ "$status" != 137 ] || fail "it was not over after $limit s, or was killed"
[ "$status" = 0 ] || fail "it failed with $status"
# A machine that was switched off has not said so.
[ "$(tail -n 1 "$work/said/transcript")" = "booted: all as promised" ] || fail "the machine ended early"
