#!/usr/bin/env bash
# publish.sh: one notification, to every tab of alice.
set -euo pipefail
# shellcheck source=../post.sh
. "$(dirname "${BASH_SOURCE[0]}")/../post.sh"

post user.alice notification '{"text":"Your parcel is at the door."}'
