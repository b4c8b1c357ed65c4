#!/usr/bin/env bash
# run.sh TARGET|all SECONDS: the targets with libFuzzer, each for that long.
# The stable compiler is enough: LLVM's coverage pass is in it, and libFuzzer comes as source in a crate.
set -euo pipefail
fuzz=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$fuzz/../.."
# shellcheck source=../../tests/cluster/lib.sh
. tests/cluster/lib.sh

if ! command -v c++ >/dev/null; then
  ((EUID == 0)) || die "needs a C++ compiler: g++"
  install() { apt-get install -y --no-install-recommends g++ >&2; }
  install || { apt-get update >&2 && install; }
fi

targets=("$1")
[[ $1 != all ]] || mapfile -t targets < <(ls "$fuzz/corpus")
out=$PWD/target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
coverage=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares)
say "building with coverage"
# Not a release: its checks of overflow are wanted.
RUSTFLAGS="--cfg fuzzing ${coverage[*]}" CARGO_PROFILE_DEV_OPT_LEVEL=1 \
  cargo build --quiet --locked --target "$host" --target-dir "$out" -p sse-fuzz

# try TARGET SECONDS
try() {
  local found=$out/found/$1 log=$out/$1.log
  mkdir -p "$out/corpus/$1" "$found"
  if ! FUZZ_TARGET=$1 "$out/$host/debug/sse-fuzz" -max_total_time="$2" -timeout=10 -rss_limit_mb=2048 -max_len=32768 \
    -verbosity=0 -print_funcs=0 -print_final_stats=1 -artifact_prefix="$found/" "$out/corpus/$1" "$fuzz/corpus/$1" >"$log" 2>&1; then
    tail -n 50 "$log" >&2
    die "$1: a promise is broken by the input in $found; mend it, and keep the input in $fuzz/corpus/$1"
  fi
  say "$1: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, and none breaks a promise"
}

for target in "${targets[@]}"; do
  [[ -d $fuzz/corpus/$target ]] || die "there is no target $target"
done
say "${#targets[@]} targets, each for $2 s, one on each processor"
# Each with a process group of its own, which can be ended as a whole.
set -m
trap 'for group in $(jobs -p); do kill -- "-$group" 2>/dev/null || true; done' EXIT
running=0
for target in "${targets[@]}"; do
  if ((running == $(nproc))); then
    wait -n
    running=$((running - 1))
  fi
  try "$target" "$2" &
  running=$((running + 1))
done
while ((running > 0)); do
  wait -n
  running=$((running - 1))
done
