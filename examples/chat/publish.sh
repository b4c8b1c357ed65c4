#!/usr/bin/env bash
# publish.sh: what somebody else says.
set -euo pipefail
# shellcheck source=../post.sh
. "$(dirname "${BASH_SOURCE[0]}")/../post.sh"

post topic.room.lobby message 'bob: Hello!'
