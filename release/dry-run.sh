#!/usr/bin/env bash
# dry-run.sh OUT: everything of a release that needs no registry and no Docker, from this checkout into OUT: the version, notes, a bill of
# materials for each binary, the chart with digests that nobody pushed, the client's package, checksums.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

out=$(mkdir -p "${1:?OUT}" && cd "$1" && pwd)
export SOURCE=${SOURCE:-https://git.example.com/platform/sse-gateway}
"$repository/tests/cluster/toolbox/build.sh" helm >/dev/null
cd "$repository/release"
version=$(./version.sh)
./notes.sh "$version" >"$out/notes.md" 2>/dev/null || ./notes.sh Unreleased >"$out/notes.md"
./sbom.sh "$out"
for image in "${images[@]}"; do printf 'sha256:%s\n' "$(printf '%s' "$image" | sha256sum | cut -d ' ' -f 1)" >"$out/$image.digest"; done
./chart.sh registry.example.com/platform "$version" "$out"
./npm.sh "$out"
./checksums.sh "$out"
say "$version could be released, as far as it can be seen without a registry: $out"
