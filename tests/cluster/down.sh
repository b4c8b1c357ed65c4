#!/usr/bin/env bash
# down.sh NAME [--purge]: stops the cluster 'demo' or 'test'. Its state stays for the next up.sh, unless purged.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

select_cluster "${1:-}"
[[ $# == 1 || ($# == 2 && $2 == --purge) ]] || die "usage: down.sh demo|test [--purge]"
if kind_here; then
  kind delete cluster --name "sse-$name"
  exit
fi
lock_machine
if [[ ! -d $root ]]; then
  say "there is no cluster $name"
  exit
fi
stop_cluster
if [[ ${2:-} == --purge ]]; then purge; fi
