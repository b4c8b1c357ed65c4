#!/usr/bin/env bash
# compile.sh ARCH: prepares this machine, Debian or Ubuntu, to build for linux/ARCH, in Docker's words: amd64 or arm64.
# compile.sh ARCH BINARY DIRECTORY: builds a binary of this workspace for it, as it is released: linked statically, into DIRECTORY.
# It cross-compiles: nothing is emulated. The C in our crates (ring, mimalloc) needs a C compiler of the target, and its linker is that, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { printf 'compile.sh: %s\n' "$*" >&2; exit 1; }

case ${1:-} in
  amd64) target=x86_64-unknown-linux-gnu compiler=x86_64-linux-gnu-gcc packages=(gcc-x86-64-linux-gnu libc6-dev-amd64-cross) ;;
  arm64) target=aarch64-unknown-linux-gnu compiler=aarch64-linux-gnu-gcc packages=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross) ;;
  *) die "usage: compile.sh amd64|arm64 [BINARY DIRECTORY]" ;;
esac
foreign=
if [[ $(rustc -vV | sed -n 's/^host: //p') != "$target" ]]; then foreign=1; fi

prepare() {
  [[ $foreign ]] || return 0
  rustup target add "$target"
  if ! command -v "$compiler" >/dev/null; then
    apt-get update
    apt-get install -y --no-install-recommends "${packages[@]}"
  fi
}

compile() { # BINARY DIRECTORY
  local name=${target//-/_}
  if [[ $foreign ]]; then
    export "CC_$name=$compiler" "AR_$name=${compiler%gcc}ar" "CARGO_TARGET_${name^^}_LINKER=$compiler"
  fi
  cargo build --release --locked --target "$target" --package "$1" --bin "$1"
  install -D -t "$2" "${CARGO_TARGET_DIR:-target}/$target/release/$1"
  if readelf -lW "$2/$1" | grep -q INTERP; then die "$1 is linked dynamically and can not run in an image from scratch"; fi
}

if (($# == 1)); then prepare; else compile "$2" "$3"; fi
