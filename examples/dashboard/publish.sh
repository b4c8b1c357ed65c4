#!/usr/bin/env bash
# publish.sh: what a monitor tells: a measurement, an alert, the status.
set -euo pipefail
# shellcheck source=../post.sh
. "$(dirname "${BASH_SOURCE[0]}")/../post.sh"

post topic.dashboard.metrics metric '{"percent":87}'
post topic.dashboard.metrics alert '{"text":"The load is above 80 %."}'
post topic.dashboard.metrics status '{"status":"degraded"}'
