#!/usr/bin/env bash
# images.sh REGISTRY VERSION OUT: builds the images for both processors and pushes them; OUT/IMAGE.digest is then the digest of the index that has
# both. images.sh --build-only: builds them, and keeps nothing. SOURCE, REVISION: the repository's address, and the commit.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"
platforms=linux/amd64,linux/arm64

# Docker's own builder makes no image of several platforms.
builder=sse-gateway-release
docker buildx inspect "$builder" &>/dev/null || docker buildx create --name "$builder" --driver docker-container >/dev/null
build() { # IMAGE ARGUMENTS...
  docker buildx build --builder "$builder" --platform "$platforms" --file "images/$1/Dockerfile" "${@:2}" .
}

if [[ ${1:-} == --build-only ]]; then
  for image in "${images[@]}"; do build "$image" --output type=cacheonly; done
  exit
fi
registry=${1:?REGISTRY} version=${2:?VERSION} out=${3:?OUT}
mkdir -p "$out"
for image in "${images[@]}"; do
  described=()
  for pair in "source=${SOURCE:?}" "revision=${REVISION:?}"; do
    described+=(--label "org.opencontainers.image.$pair" --annotation "index:org.opencontainers.image.$pair")
  done
  build "$image" --build-arg "VERSION=$version" --tag "$registry/$image:$version" --provenance mode=max "${described[@]}" \
    --metadata-file "$out/$image.json" --push
  jq -er '."containerimage.digest"' "$out/$image.json" >"$out/$image.digest"
  say "pushed $registry/$image:$version@$(<"$out/$image.digest")"
done
