#!/usr/bin/env bash
# run.sh: every test. What this machine can not run is named and counted at the end; nothing is left out in silence.
set -euo pipefail
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=cluster/lib.sh
. "$tests/cluster/lib.sh"
cd "$tests/.."

say "formatting, lints, unit tests"
cargo fmt --all --check
cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
cargo build --quiet --locked --workspace --bins
cargo test --quiet --locked --workspace --exclude sse-tests
diff crds/ssegateways.yaml charts/sse-gateway/files/ssegateways.yaml || die "the chart's CRD is another: make crds"

say "the gateway as a process, with a real NATS"
"$here/toolbox/build.sh" nats-server nats-pub otelcol prometheus sse-watch h2spec >/dev/null
"$tests/publisher/install.sh" >/dev/null
"$tests/clients/install.sh" >/dev/null
"$tests/contracts/install.sh" >/dev/null
"$tests/examples/install.sh"
"$tests/proxies/install.sh" >/dev/null
"$tests/clients/js.sh"
# Most of their time they wait.
cargo test --quiet --locked -p sse-tests --lib --test gateway -- --test-threads 4

say "chaos: one nats-server, and a cluster of three"
cargo test --quiet --locked -p sse-tests --test chaos -- --test-threads 1

say "many clients, at the gateway as it is released: cut anywhere, stalled, churned"
cargo build --quiet --release --locked -p sse-gateway -p sse-operator
released=${CARGO_TARGET_DIR:-$PWD/target}/$(rustc -vV | sed -n 's/^host: //p')/release
SSE_BINARIES=$released cargo test --quiet --locked -p sse-tests --test heavy -- --nocapture --test-threads 1

say "the benchmark's work in small: nothing lost, nothing twice, nothing out of order"
cargo run --quiet --locked -p sse-bench -- --short --repeats 1 --parties ours,floor --gateway "$released/sse-gateway"

say "the demo of machines that can run no cluster"
DEV_NATS_PORT=14222 DEV_PORT=18080 DEV_ADMIN_PORT=19090 "$tests/demo/dev.sh" --demo

say "the chart, with Helm 4 and 3, and by the schemas of Kubernetes 1.33 and later"
"$here/toolbox/build.sh" helm helm3 kubectl helm-unittest kubeconform >/dev/null
"$tests/chart/chart.sh"
cargo test --quiet --locked -p sse-tests --test chart

say "what a release is made by"
"$tests/release/release.sh"

say "alerts, with Prometheus' own tool"
"$here/toolbox/build.sh" promtool >/dev/null
"$tests/telemetry/alerts.sh"

say "dashboards, with Grafana's own types"
"$tests/telemetry/dashboards.sh"

say "operator, chart and gateway on a real cluster"
prepared=$(FRESH=1 "$here/prepare.sh" test)
# shellcheck disable=SC2030
trap '"$here/down.sh" test --purge' EXIT
{ read -r SSE_TAG; read -r KUBECONFIG; } <<<"$prepared"
export SSE_TAG KUBECONFIG
cargo test --quiet --locked -p sse-tests --test e2e -- --test-threads 6 --skip alone::
cargo test --quiet --locked -p sse-tests --test e2e -- --test-threads 1 alone::
cargo test --quiet --locked -p sse-tests --test lifecycle
unreached=("examples of Argo CD and Flux by their own schemas" "the dashboards in a Grafana server" "Grafana's dashboard linter itself")
unreached+=("KEDA itself")
unreached+=("the images for both processors by buildx, and a release by its workflow")
unreached+=("the example of publishing by the nats CLI" "the example of publishing in .NET")
unreached+=("make test within itself" "docker build" "cargo install of kubectl-sse")
if ! kind_here; then unreached+=("the demo and the tests on kind"); fi
for what in "${unreached[@]}"; do
  say "not run on this machine: $what"
  grep -qF "| $what |" "$tests/unreachable.md" || die "tests/unreachable.md does not say why: $what"
done
say "every test passed, but ${#unreached[@]} that this machine can not run"
