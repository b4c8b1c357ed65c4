#!/usr/bin/env bash
# dashboards.sh: each dashboard of the chart, and each of its panels, is of the types that Grafana publishes.
set -euo pipefail
# shellcheck source=../install/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../install/lib.sh"
schema=$here/schema
boards=$tests/../charts/sse-gateway/files/dashboards
modules=$cache/grafana-schema

packages tests
lock grafana-schema
if outdated "$modules" "$schema"/package*.json; then
  rm -rf "$modules"
  mkdir "$modules"
  cp "$schema"/package*.json "$modules"
  npm_ci "$modules"
  complete "$modules"
fi

cp "$schema/types.ts" "$modules"
node "$schema/generate.mjs" "$boards"/*.json >"$modules/dashboards.ts"
(cd "$modules" && node_modules/.bin/tsc --noEmit --strict --skipLibCheck --module nodenext --target es2022 dashboards.ts) ||
  die "a dashboard is not of Grafana's types"
printf '%d dashboards and %d panels are of the types of @grafana/schema %s\n' \
  "$(grep -c ': Board = ' "$modules/dashboards.ts")" "$(grep -c ': Panels\[' "$modules/dashboards.ts")" \
  "$(node -p "require('$modules/node_modules/@grafana/schema/package.json').version")"
