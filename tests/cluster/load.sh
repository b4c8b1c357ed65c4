#!/usr/bin/env bash
# load.sh NAME ARCHIVE...: gives images to a running cluster, from docker-archives as images/build.sh writes them.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

select_cluster "${1:-}"
shift
(($#)) || die "usage: load.sh demo|test ARCHIVE..."
pid_of containerd >/dev/null || die "cluster $name does not run: up.sh $name"
for archive; do
  [[ -f $archive ]] || die "no archive $archive"
  output=$(ctr images import "$archive" 2>&1) || die "can not import $archive: $output"
  say "loaded $archive"
done
