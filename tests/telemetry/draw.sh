#!/usr/bin/env bash
# draw.sh DATA PICTURE: draws a dashboard from the recorded answers to its queries, by draw.py and a pinned matplotlib.
set -euo pipefail
# shellcheck source=../install/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../install/lib.sh"
wanted=$here/draw.requirements.txt
folder=$cache/drawing

python_packages
lock drawing
if outdated "$folder" "$wanted"; then
  rm -rf "$folder"
  venv "$folder"
  pip_install "$folder" "$wanted" --only-binary :all:
  complete "$folder"
fi
flock -u 9
exec "$folder/bin/python" -B "$here/draw.py" "$@"
