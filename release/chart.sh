#!/usr/bin/env bash
# chart.sh REGISTRY VERSION OUT: packages the chart as it is published, OUT/sse-gateway-VERSION.tgz: its images are those of REGISTRY with the digests in
# OUT/IMAGE.digest, and its annotations have them and what CHANGELOG.md tells, for Artifact Hub. SOURCE: the repository's address.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

registry=${1:?REGISTRY} version=${2:?VERSION}
mkdir -p "${3:?OUT}"
out=$(cd "$3" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$repository/charts/sse-gateway" "$work/"
chart=$work/sse-gateway

# Where values.yaml names each image.
declare -A value=([sse-gateway]=gatewayImage [sse-operator]=image) reference=()
for image in "${images[@]}"; do
  digest=$(<"$out/$image.digest")
  [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || die "$out/$image.digest is no digest"
  reference[$image]=$registry/$image:$version@$digest
  sed -i "/^${value[$image]}:\$/,/^\$/{s#^  repository: .*#  repository: $registry/$image#;s#^  digest: .*#  digest: $digest#}" "$chart/values.yaml"
  # The table that is made from it.
  sed -i "s#^\(| \`${value[$image]}.repository\` | \)\`[^\`]*\`#\1\`$registry/$image\`#;s#^\(| \`${value[$image]}.digest\` | \)\`[^\`]*\`#\1\`$digest\`#" \
    "$chart/README.md"
done

changes() { # VERSION: each entry of the changelog in one line, without its marks, with the kind that Artifact Hub knows it by
  "$repository/release/notes.sh" "$1" |
    awk '/^### / {kind = tolower($2)} /^- / {printf "%s%s\t%s", sep, kind, substr($0, 3); sep = "\n"} /^  / {printf "%s", substr($0, 2)} END {print ""}' |
    sed -E 's/\[([^]]+)\]\([^)]*\)/\1/g; s/`//g; s/["\\]/\\&/g; s/^(.*)\t(.*)$/    - kind: \1\n      description: "\2"/'
}
notes=$version
if ! grep -q "^## $version " "$repository/CHANGELOG.md"; then notes=Unreleased; fi
{
  echo '  artifacthub.io/images: |'
  for image in "${images[@]}"; do
    printf '    - name: %s\n      image: %s\n      platforms: [linux/amd64, linux/arm64]\n' "$image" "${reference[$image]}"
  done
  echo '  artifacthub.io/links: |'
  printf '    - name: %s\n      url: %s\n' source "${SOURCE:?}" documentation "$SOURCE/tree/v$version/docs" support "$SOURCE/issues"
  echo '  artifacthub.io/changes: |'
  changes "$notes"
  printf 'home: %s\nsources: [%s]\n' "$SOURCE" "$SOURCE"
} >>"$chart/Chart.yaml"

"$bin/helm" lint --quiet "$chart" >&2
"$bin/helm" package "$chart" --destination "$out" >&2
# What it installs is what was pushed.
rendered=$("$bin/helm" template trial "$out/sse-gateway-$version.tgz" --kube-version 1.36.0)
for image in "${images[@]}"; do
  grep -qF "$registry/$image@${reference[$image]#*@}" <<<"$rendered" || die "the packaged chart does not render ${reference[$image]}"
done
