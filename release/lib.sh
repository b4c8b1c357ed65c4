# Shared by the scripts of this folder. They publish nothing by themselves but what their names and arguments say, and need no secrets in
# arguments: docker, helm, npm and gh are logged in before.
# shellcheck shell=bash disable=SC2034
shopt -s inherit_errexit
export LC_ALL=C
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=${SSE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sse-gateway}/bin
# What is shipped as an image, and what is a binary.
images=(sse-gateway sse-operator)
binaries=(sse-gateway sse-operator kubectl-sse)

say() { printf '%s\n' "$*" >&2; }

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}
