#!/usr/bin/env bash
# install.sh: a Python with the packages pinned beside this script, for the publisher and the history service of the
# tests. What is up to date stays. Progress on stderr; the last line of stdout is the interpreter.
set -euo pipefail
# shellcheck source=../install/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../install/lib.sh"
folder=$cache/publisher

python_packages
lock publisher
if outdated "$folder" "$here/requirements.txt" "$here/sources.txt"; then
  rm -rf "$folder"
  venv "$folder"
  pip_install "$folder" "$here/requirements.txt" --only-binary :all:
  pip_install "$folder" "$here/sources.txt" --no-build-isolation
  "$folder/bin/pip" check >&2 || die "requirements.txt and sources.txt lack a package"
  complete "$folder"
fi
printf '%s\n' "$folder/bin/python"
