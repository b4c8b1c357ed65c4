#!/usr/bin/env bash
# page.sh vX.Y.Z OUT: makes the page of the release, with what CHANGELOG.md tells and the files in OUT. GH_TOKEN: the forge's own for this run.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

tag=${1:?TAG} out=${2:?OUT}
"$repository/release/notes.sh" "${tag#v}" >"$out/notes.md"
# A version like 1.0.0-rc.1 is not what others look for.
kind=()
if [[ $tag == *-* ]]; then kind=(--prerelease); fi
mapfile -t files < <(cut -c 67- "$out/SHA256SUMS")
cd "$out"
gh release create "$tag" --verify-tag --title "$tag" --notes-file notes.md "${kind[@]}" SHA256SUMS "${files[@]}"
