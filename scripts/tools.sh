#!/usr/bin/env bash
# Installs a tool that checks this project and prints the path of its program, or of its folder (machine).
#
#   scripts/tools.sh cargo-deny|cargo-fuzz|buf|grpcurl|gungraun-runner|libfaketime|valgrind|chromium|systemd-analyze|machine
#
# Each tool but the distribution's, libfaketime and those behind it, has its version here and nowhere else, and lives in a folder
# named after it, so that a new version is a new folder and an old one is never run by mistake. CAIRLD_TOOLS names another
# place than ~/.cache/cairld-tools.
set -euo pipefail

cargo_deny_version=0.20.2
cargo_fuzz_version=0.13.2
buf_version=1.75.0
grpcurl_version=1.9.4
# The library and its runner go together.
gungraun_version=$(sed -n '/^name = "gungraun"$/{n;s/^version = "\(.*\)"$/\1/p}' "$(dirname "$0")/../Cargo.lock")

tools=${CAIRLD_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/cairld-tools}

fail() {
  echo "tools: $*" >&2
  exit 1
}

need() {
  command -v "$1" >/dev/null || fail "$1 is needed to install $2"
}

install_cargo_deny() {
  need cargo cargo-deny
  # Its build folder is its own: the project's must not be rebuilt for it.
  env -u CARGO_TARGET_DIR cargo install cargo-deny --version "$cargo_deny_version" --locked --root "$1"
}

install_cargo_fuzz() {
  need cargo cargo-fuzz
  env -u CARGO_TARGET_DIR cargo install cargo-fuzz --version "$cargo_fuzz_version" --locked --root "$1"
}

install_buf() {
  need npm buf
  # The binary is an optional dependency of the package, one for each platform.
  npm install --prefix "$1" --no-save --no-audit --no-fund --include=optional "@bufbuild/buf@$buf_version"
}

install_grpcurl() {
  PATH=$PATH:/usr/local/go/bin
  need go grpcurl
  GOBIN=$1/bin go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@v$grpcurl_version"
}

install_gungraun_runner() {
  need cargo gungraun-runner
  env -u CARGO_TARGET_DIR cargo install gungraun-runner --version "$gungraun_version" --locked --root "$1"
}

# obtain NAME VERSION PROGRAM INSTALLER VERSION_FLAG: runs INSTALLER unless PROGRAM is there and runs.
obtain() {
  local name=$1 version=$2 program=$3 installer=$4 flag=$5
  local folder=$tools/$name-$version part
  if ! "$folder/$program" "$flag" >/dev/null 2>&1; then
    echo "tools: installing $name $version into $folder" >&2
    mkdir -p "$tools"
    part=$(mktemp -d "$tools/.$name-XXXXXX")
    # A folder has its name only once it is whole.
    "$installer" "$part" >&2 || { rm -rf "$part"; fail "$name $version could not be installed"; }
    "$part/$program" "$flag" >/dev/null 2>&1 || { rm -rf "$part"; fail "$name $version is installed and does not run"; }
    rm -rf "$folder"
    mv -T "$part" "$folder"
  fi
  echo "$folder/$program"
}

# A library to preload, so its path is printed. Unpacked from the distribution's package, which needs no root.
obtain_libfaketime() {
  local part
  found() { find "$1" -name libfaketimeMT.so.1 -print -quit 2>/dev/null | grep .; }
  if ! found /usr/lib && ! found "$tools/libfaketime"; then
    command -v apt-get >/dev/null || fail "libfaketime is missing: install it from your distribution"
    mkdir -p "$tools"
    part=$(mktemp -d "$tools/.libfaketime-XXXXXX")
    # The lists of packages may be missing, or older than what there is.
    (cd "$part" && { apt-get download -qq libfaketime || { apt-get update -qq && apt-get download -qq libfaketime; }; } &&
      dpkg -x ./*.deb .) >&2 ||
      { rm -rf "$part"; fail "libfaketime could not be unpacked; it wants the package lists of apt-get update"; }
    rm -rf "$tools/libfaketime"
    mv -T "$part" "$tools/libfaketime"
    found "$tools/libfaketime"
  fi
}

# What is the distribution's, so that it gets its security updates: obtain_package PACKAGE [PROGRAM], which has the
# package's name where none is given.
obtain_package() {
  local package=$1 program=${2:-$1}
  if ! command -v "$program" >/dev/null; then
    [ "$(id -u)" = 0 ] || fail "$program is missing: apt-get install $package"
    # A machine that has just booted may be installing its updates.
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq \
      --no-install-recommends "$package"; } >&2
  fi
  command -v "$program"
}

# A Debian with systemd in a folder, for scripts/booted.sh: of the release that this machine has, since programs that were
# built here run in it.
obtain_machine() {
  local packages=systemd,systemd-sysv,systemd-container,dbus,ca-certificates,python3,curl,procps
  local suite site folder part debootstrap
  suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  folder=$tools/machine-$suite-$(sha256sum <<<"$packages" | cut -c 1-12)
  if [ ! -e "$folder" ]; then
    # It is in /usr/sbin, which not everybody has in the path.
    debootstrap=$(PATH=$PATH:/usr/sbin obtain_package debootstrap)
    # From where this machine's own packages come.
    # shellcheck disable=SC2016
    site=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(SITE)' 'Created-By: Packages' |
      awk -v suite="$suite" '$1 == suite && $2 == "main" { print $3; exit }')
    [ -n "$site" ] || fail "apt-get knows of no packages of \"$suite\""
    echo "tools: installing Debian $suite into $folder" >&2
    mkdir -p "$tools"
    part=$(mktemp -d "$tools/.machine-XXXXXX")
    # What it mounts and starts on its way goes with it, however it ends.
    unshare --mount --pid --fork --kill-child "$debootstrap" --variant=minbase --include="$packages" "$suite" "$part/root" \
      "$site" >"$part/log" 2>&1 || { tail -n 20 "$part/log" >&2; rm -rf "$part"; fail "Debian could not be installed"; }
    rm -f "$part"/root/var/cache/apt/archives/*.deb
    # Somebody else may have been faster.
    mv -T "$part/root" "$folder" 2>/dev/null || true
    rm -rf "$part"
  fi
  echo "$folder"
}

case ${1:-} in
  cargo-deny) obtain cargo-deny "$cargo_deny_version" bin/cargo-deny install_cargo_deny --version ;;
  cargo-fuzz) obtain cargo-fuzz "$cargo_fuzz_version" bin/cargo-fuzz install_cargo_fuzz --version ;;
  buf) obtain buf "$buf_version" node_modules/.bin/buf install_buf --version ;;
  grpcurl) obtain grpcurl "$grpcurl_version" bin/grpcurl install_grpcurl -version ;;
  libfaketime) obtain_libfaketime ;;
  gungraun-runner) obtain gungraun-runner "$gungraun_version" bin/gungraun-runner install_gungraun_runner --version ;;
  valgrind | chromium) obtain_package "$1" ;;
  systemd-analyze) obtain_package systemd "$1" ;;
  machine) obtain_machine ;;
  *) fail "usage: scripts/tools.sh cargo-deny|cargo-fuzz|buf|grpcurl|gungraun-runner|libfaketime|valgrind|chromium|systemd-analyze|machine" ;;
esac
