#!/usr/bin/env bash
# Installs Python packages for this project and prints the path of a Python that has them.
#
#   scripts/python.sh REQUIREMENTS
#
# Each list of packages has a folder of its own, named after its text and the version of Python, so that another list is
# another folder. CAIRLD_TOOLS names another place than ~/.cache/cairld-tools. Needs Python 3 with venv.
set -euo pipefail

requirements=$1
tools=${CAIRLD_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/cairld-tools}
for tool in python3 sha256sum; do
  command -v "$tool" >/dev/null || { echo "python: $tool is missing" >&2; exit 1; }
done
key=$(cat "$requirements" <(python3 --version) | sha256sum | cut -c 1-12)
venv=$tools/python-$key
# The Python that it was made with may be gone.
if ! "$venv/bin/python" -c '' 2>/dev/null; then
  rm -rf "$venv"
  mkdir -p "$tools"
  part=$(mktemp -d "$tools/.python-XXXXXX")
  # A folder has its name only once it is whole. Nothing here minds that it moves: no script of it is run.
  { python3 -m venv "$part" && "$part/bin/python" -m pip install --quiet -r "$requirements"; } >&2 ||
    { rm -rf "$part"; echo "python: the packages of $requirements could not be installed" >&2; exit 1; }
  # Somebody else may have been faster.
  mv -T "$part" "$venv" 2>/dev/null || rm -rf "$part"
fi
echo "$venv/bin/python"
