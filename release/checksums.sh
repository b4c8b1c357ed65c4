#!/usr/bin/env bash
# checksums.sh OUT: writes OUT/SHA256SUMS of what a release offers for download.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "${1:?OUT}"
shopt -s nullglob
sha256sum -- *.tgz *.tar.gz *.cdx.json krew.yaml* >SHA256SUMS
