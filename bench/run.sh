#!/usr/bin/env bash
# run.sh: builds what is measured, and measures. ONLY, PARTIES, REPEATS and CHURN (minutes) choose; DOC=1 makes docs/performance.md anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bench/peers.sh
cargo build --release --locked -p sse-gateway -p sse-bench
released=${CARGO_TARGET_DIR:-$PWD/target}/$(rustc -vV | sed -n 's/^host: //p')/release
mkdir -p bench/results
arguments=(--json "bench/results/$(date -u +%Y%m%dT%H%M%SZ).json")
if [[ ${ONLY:-} ]]; then arguments+=(--only "$ONLY"); fi
if [[ ${PARTIES:-} ]]; then arguments+=(--parties "$PARTIES"); fi
if [[ ${REPEATS:-} ]]; then arguments+=(--repeats "$REPEATS"); fi
if [[ ${CHURN:-} ]]; then arguments+=(--churn "$CHURN"); fi
if [[ ${DOC:-} ]]; then arguments+=(--doc docs); fi
exec "$released/sse-bench" "${arguments[@]}"
