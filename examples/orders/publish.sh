#!/usr/bin/env bash
# publish.sh: what becomes of an order.
set -euo pipefail
# shellcheck source=../post.sh
. "$(dirname "${BASH_SOURCE[0]}")/../post.sh"

for step in paid packed shipped; do
  post topic.orders.42 "order.$step" '{"orderId":42}'
done
