#!/usr/bin/env bash
# publish.sh: who did what.
set -euo pipefail
# shellcheck source=../post.sh
. "$(dirname "${BASH_SOURCE[0]}")/../post.sh"

for what in signed.in role.granted; do
  post topic.audit "$what" "{\"at\":\"$(date -u +%FT%TZ)\",\"who\":\"alice\"}"
done
