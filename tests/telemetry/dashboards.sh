#!/usr/bin/env bash
# dashboards.sh: each dashboard of the chart, and each of its panels, is of the types that Grafana publishes.
set -euo pipefail
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=../cluster/lib.sh
. "$tests/cluster/lib.sh"
schema=$tests/telemetry/schema
boards=$tests/../charts/sse-gateway/files/dashboards
modules=$cache/grafana-schema

"$here/packages.sh" tests
mkdir -p "$modules"
exec 9>"$modules/.lock"
flock 9
inputs=$({ node --version; cat "$schema"/package*.json; } | sha256sum)
if [[ ! -f $modules/.inputs || $(<"$modules/.inputs") != "$inputs" ]]; then
  rm -f "$modules/.inputs"
  cp "$schema"/package*.json "$modules"
  (cd "$modules" && npm ci --silent --ignore-scripts --no-audit --no-fund) || die "npm could not install Grafana's types"
  printf '%s\n' "$inputs" >"$modules/.inputs"
fi

cp "$schema/types.ts" "$modules"
node "$schema/generate.mjs" "$boards"/*.json >"$modules/dashboards.ts"
(cd "$modules" && node_modules/.bin/tsc --noEmit --strict --skipLibCheck --module nodenext --target es2022 dashboards.ts) ||
  die "a dashboard is not of Grafana's types"
printf '%d dashboards and %d panels are of the types of @grafana/schema %s\n' \
  "$(grep -c ': Board = ' "$modules/dashboards.ts")" "$(grep -c ': Panels\[' "$modules/dashboards.ts")" \
  "$(node -p "require('$modules/node_modules/@grafana/schema/package.json').version")"
