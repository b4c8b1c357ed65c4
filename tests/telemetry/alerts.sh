#!/usr/bin/env bash
# alerts.sh: the chart's alerts are rules that Prometheus reads, each fires and keeps quiet as tested, and has a runbook.
set -euo pipefail
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=../cluster/lib.sh
. "$tests/cluster/lib.sh"
rules=$tests/../charts/sse-gateway/files/alerts.yaml
cases=$tests/telemetry/alerts.test.yaml
runbooks=$tests/../docs/runbooks

"$bin/promtool" check rules --lint=all --lint-fatal "$rules"
"$bin/promtool" test rules "$cases"

mapfile -t alerts < <(sed -n 's/^ *- alert: //p' "$rules")
for alert in "${alerts[@]}"; do
  block=$(awk -v alert="$alert" '/^ *- alert: / {on = $3 == alert} on' "$rules")
  for field in 'severity: (critical|warning)' 'summary: .' 'description: .' "runbook_url: docs/runbooks/$alert.md$"; do
    grep -qE "$field" <<<"$block" || die "$alert has no '$field'"
  done
  grep -q "^# $alert$" "$runbooks/$alert.md" || die "$alert has no runbook"
  # Both outcomes: a time at which it fires, and one at which it does not.
  outcomes=$(grep -A 2 "alertname=\"$alert\"" "$cases" | grep exp_samples || true)
  for outcome in 'value: ' '[]'; do
    grep -qF -- "$outcome" <<<"$outcomes" || die "no test of $alert has '$outcome'"
  done
done
for runbook in "$runbooks"/*.md; do
  name=$(basename "$runbook" .md)
  grep -q "^ *- alert: $name$" "$rules" || die "$runbook is for no alert"
done
printf '%d alerts, each with its test and its runbook\n' "${#alerts[@]}"
