#!/usr/bin/env bash
# install.sh: the clients of others that the tests watch the gateway with: packages of npm and PyPI, pinned beside
# this script. What is up to date stays. Progress on stderr; the last line of stdout is their folder.
set -euo pipefail
# shellcheck source=../install/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../install/lib.sh"

npm_and_pip "$cache/clients"
printf '%s\n' "$cache/clients"
