#!/usr/bin/env bash
# version.sh: prints the version, on which every file that names it must agree.
# version.sh vX.Y.Z: that, and it must be the version of this tag, and CHANGELOG.md must tell of it.
# version.sh set X.Y.Z: writes it into all of them, and heads with it and the day what is unreleased in CHANGELOG.md.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

# file | what stands before the version | last line that counts
places='
Cargo.toml                    | ^version = "          |
charts/sse-gateway/Chart.yaml | ^version:\s           |
charts/sse-gateway/Chart.yaml | ^appVersion:\s        |
clients/js/package.json       | ^  "version": "       |
clients/js/package-lock.json  | ^ +"version": "       | 9
kubectl-sse/krew.yaml         | ^  version: v         |
kubectl-sse/krew.yaml         | /v                    |
docs/install.md               | REGISTRY/sse-[a-z]+:  |
docs/security.md              | OWNER/sse-gateway:    |
docs/gitops.md                | targetRevision:\sv    |
docs/gitops.md                | tag:\sv               |
tests/demo/demo.sh            | DEMO_TAG:-            |
'
semantic='[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?'

each_place() { # FUNCTION ARGUMENT...: with file, pattern and last line before them
  local file pattern last
  while IFS='|' read -r file pattern last; do
    read -r file <<<"$file"
    [[ $file ]] || continue
    pattern=${pattern# }
    read -r last <<<"$last"
    "$1" "$file" "${pattern%"${pattern##*[! ]}"}" "${last:-$}" "${@:2}"
  done <<<"$places"
}

agrees() { # FILE PATTERN LAST VERSION
  local found
  found=$(sed -nE "1,$3s#.*$2($semantic).*#\1#p" "$1" | sort -u)
  [[ $found == "$4" ]] || die "$1 says '${found//$'\n'/ }' where Cargo.toml says $4"
}

write() { sed -E -i "1,$3s#($2)$semantic#\1$4#" "$1"; }

if [[ ${1:-} == set ]]; then
  [[ ${2:-} =~ ^$semantic$ ]] || die "usage: version.sh set X.Y.Z"
  grep -q "^## $2 " CHANGELOG.md && die "CHANGELOG.md has $2 already"
  each_place write "$2"
  sed -i "s/^## Unreleased\$/&\n\n## $2 - $(date -u +%F)/" CHANGELOG.md
  cargo update --quiet --workspace --offline
fi
version=$(sed -nE "s/^version = \"(.*)\"/\1/p" Cargo.toml)
each_place agrees "$version"
if [[ ${1:-} == v* ]]; then
  [[ $1 == "v$version" ]] || die "the tag is $1, the files say $version"
  release/notes.sh "$version" >/dev/null
fi
echo "$version"
