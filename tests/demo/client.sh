#!/usr/bin/env bash
# client.sh: builds the client for browsers, unless it is newer than what it is built from. For pages that import it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../clients/js"
exec 9>.lock
flock 9
if [[ -f dist/index.js && ! $(find src package*.json build.mjs -newer dist/index.js) ]]; then exit; fi
npm ci --silent --ignore-scripts --no-audit --no-fund
npm run --silent build
