#!/usr/bin/env bash
# notes.sh VERSION: what CHANGELOG.md tells of a version, or of Unreleased.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

notes=$(awk -v version="${1:?VERSION}" '/^## / {within = $2 == version; next} within' "$repository/CHANGELOG.md")
grep -q '^- ' <<<"$notes" || die "CHANGELOG.md tells nothing of $1"
sed '/./,$!d' <<<"$notes"
