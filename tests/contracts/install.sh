#!/usr/bin/env bash
# install.sh: what reads the contracts for machines, docs/openapi.yaml and docs/asyncapi.yaml: packages of npm and PyPI,
# pinned beside this script. What is up to date stays. Progress on stderr; the last line of stdout is their folder.
set -euo pipefail
# shellcheck source=../install/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../install/lib.sh"

npm_and_pip "$cache/contracts"
printf '%s\n' "$cache/contracts"
