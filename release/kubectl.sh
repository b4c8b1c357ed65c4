#!/usr/bin/env bash
# kubectl.sh BUILT VERSION OUT: from BUILT/linux_{amd64,arm64}/kubectl-sse, which images/kubectl-sse/Dockerfile writes, makes the archives of the
# release and the manifest for krew that has their addresses and digests. SOURCE: the repository's address.
# kubectl.sh --build BUILT: builds both before, with buildx.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [[ ${1:-} == --build ]]; then
  cd "$repository"
  docker buildx build --builder sse-gateway-release --platform linux/amd64,linux/arm64 --file images/kubectl-sse/Dockerfile --output "${2:?BUILT}" .
  exit
fi
built=${1:?BUILT} version=${2:?VERSION} out=${3:?OUT}
mkdir -p "$out"
manifest=$out/krew.yaml
cp "$repository/kubectl-sse/krew.yaml" "$manifest"
sed -i "s#^  homepage: .*#  homepage: ${SOURCE:?}#" "$manifest"
for processor in amd64 arm64; do
  archive=kubectl-sse-linux-$processor.tar.gz
  # Equal binaries give equal archives.
  tar --create --gzip --file "$out/$archive" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner \
    --directory "$built/linux_$processor" kubectl-sse --directory "$repository" LICENSE
  digest=$(sha256sum "$out/$archive" | cut -d ' ' -f 1)
  sed -i "/arch: $processor/,/bin:/{s#uri: .*#uri: $SOURCE/releases/download/v$version/$archive#;s#sha256: .*#sha256: \"$digest\"#}" "$manifest"
done
