#!/usr/bin/env bash
# publish.sh vX.Y.Z OWNER OUT: pushes images and chart of this tag to ghcr.io/OWNER, and leaves in OUT what the page of the release offers. Standard
# output has what is then signed, as NAME=VALUE. TOKEN: the forge's own for this run. SOURCE, REVISION: the repository's address, and the commit.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

tag=${1:?TAG} owner=${2:?OWNER} out=$(mkdir -p "${3:?OUT}" && cd "$3" && pwd)
# Names in a registry are in lower case.
registry=ghcr.io/${owner,,}
cd "$repository/release"
exec 3>&1 >&2
version=$(./version.sh "$tag")
docker login ghcr.io --username "$owner" --password-stdin <<<"${TOKEN:?}"

./images.sh "$registry" "$version" "$out"
./sbom.sh "$out"
built=$(mktemp -d)
./kubectl.sh --build "$built"
./kubectl.sh "$built" "$version" "$out"
"$repository/tests/cluster/toolbox/build.sh" helm
./chart.sh "$registry" "$version" "$out"
# Helm knows who Docker is logged in as.
pushed=$("$bin/helm" push "$out/sse-gateway-$version.tgz" "oci://$registry/charts" 2>&1)
say "$pushed"
sed -n 's/^Digest: *//p' <<<"$pushed" >"$out/chart.digest"
./checksums.sh "$out"

printf 'registry=%s\n' "$registry" >&3
for each in "${images[@]}" chart; do
  digest=$(<"$out/$each.digest")
  [[ $digest == sha256:* ]] || die "no digest of $each"
  printf '%s=%s\n' "$each" "$digest" >&3
done
