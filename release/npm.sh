#!/usr/bin/env bash
# npm.sh OUT: packs the client for browsers into OUT; with --publish instead, publishes it with its provenance. The registry trusts the workflow
# itself (trusted publishing), so there is no token. SOURCE: the repository's address, which the registry compares with the workflow's.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$repository"/clients/js/. "$work"
if [[ ${1:?OUT} != --publish ]]; then out=$(mkdir -p "$1" && cd "$1" && pwd); fi
cd "$work"
[[ -d node_modules ]] || npm ci --silent --ignore-scripts --no-audit --no-fund
npm pkg set "repository.type=git" "repository.url=git+${SOURCE:?}.git" repository.directory=clients/js "homepage=$SOURCE#readme" "bugs.url=$SOURCE/issues"
if [[ ${out:-} ]]; then
  npm pack --silent --pack-destination "$out"
else
  [[ $(printf '%s\n' 11.5.1 "$(npm --version)" | sort -V | head -n 1) == 11.5.1 ]] || die "trusted publishing needs npm 11.5.1 or later"
  npm publish --provenance --access public
fi
