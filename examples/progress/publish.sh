#!/usr/bin/env bash
# publish.sh: a job, from its start to its end. Prints the page that follows it.
set -euo pipefail
# shellcheck source=../post.sh
. "$(dirname "${BASH_SOURCE[0]}")/../post.sh"

job=$RANDOM$RANDOM
tell() { # PERCENTAGE STATUS [OPTION OF CURL...]
  # shellcheck disable=SC2016
  local data='{"percentage":$p,"status":$s,"isComplete":($p==100),"downloadUrl":"/progress/report.txt"}'
  post "topic.job.$job" progress "$(jq -nc --argjson p "$1" --arg s "$2" "$data")" "${@:3}"
}
first=$(tell 0 queued)
echo "${PAGES:-http://127.0.0.1:8000}/progress/?job=$job&from=$first"
for percentage in 20 40 60 80; do
  sleep "${PACE:-1}"
  tell "$percentage" writing >/dev/null
done
tell 100 'done' -H 'Sse-Complete: true' >/dev/null
