#!/usr/bin/env bash
# draw.sh DATA PICTURE: draws a dashboard from the recorded answers to its queries, by draw.py and a pinned matplotlib.
set -euo pipefail
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=../cluster/lib.sh
. "$tests/cluster/lib.sh"
wanted=$tests/telemetry/draw.requirements.txt
venv=$cache/drawing

"$here/packages.sh" dashboards
mkdir -p "$cache"
exec 9>"$venv.lock"
flock 9
inputs=$({ python3 --version; cat "$wanted"; } | sha256sum)
if [[ ! -f $venv/.inputs || $(<"$venv/.inputs") != "$inputs" ]]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: -r "$wanted" >&2
  printf '%s\n' "$inputs" >"$venv/.inputs"
fi
flock -u 9
exec "$venv/bin/python" -B "$tests/telemetry/draw.py" "$@"
