#!/usr/bin/env bash
# install.sh: what the examples of publishing need, as each of them pins it: packages of npm, Go modules, a jar of Maven
# Central. What is up to date stays. Progress on stderr.
set -euo pipefail
# shellcheck source=../install/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../install/lib.sh"
examples=$tests/../examples/publish
javascript=$examples/javascript

packages tests
lock examples
if outdated "$javascript/node_modules" "$javascript"/package*.json; then
  npm_ci "$javascript"
  complete "$javascript/node_modules"
fi
# Built here, so that its first run is not the one that a test waits for.
(cd "$examples/go" && go build -o /dev/null .) >&2 || die "the example in Go does not build"
mkdir -p "$cache/examples"
"$examples/java/jnats.sh" "$cache/examples" >/dev/null || die "the jar can not be had"
