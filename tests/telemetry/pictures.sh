#!/usr/bin/env bash
# pictures.sh: draws the dashboards into docs/images/dashboards, from a load of seven minutes on the test cluster. A cluster
# that runs already goes on running.
set -euo pipefail
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=../cluster/lib.sh
. "$tests/cluster/lib.sh"
select_cluster test
if [[ ! -e $running ]] && ! kind_here; then trap '"$here/down.sh" test' EXIT; fi
prepared=$("$here/prepare.sh" test)
{ read -r SSE_TAG; read -r KUBECONFIG; } <<<"$prepared"
export SSE_TAG KUBECONFIG SSE_PICTURES=$tests/../docs/images/dashboards
cd "$tests/.."
cargo test --quiet --locked -p sse-tests --test e2e prometheus_in_the_cluster -- --nocapture
for picture in "$SSE_PICTURES"/*.png; do
  (($(stat -c %s "$picture") < 400000)) || die "$picture is too large for the documentation"
done
