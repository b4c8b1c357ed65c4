#!/usr/bin/env bash
# sbom.sh OUT: writes OUT/BINARY.cdx.json for each binary that is shipped, in CycloneDX 1.6: every crate that is linked into it, for either
# processor, with version, licence, digest and what it depends on, as cargo resolves them from Cargo.lock for that binary alone, and the Rust
# that compiled them. Crates of tests, build scripts and macros are no part of it. Equal sources give equal bytes.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
mkdir -p "${1:?OUT}"
out=$(cd "$1" && pwd)
cd "$repository"

rust=$(sed -nE 's#^FROM .*/rust:([0-9.]+)-.*#\1#p' images/sse-gateway/Dockerfile)
# Checksums by name and version, of crates of the registry.
checksums=$(awk -F'"' '/^name/ {name = $2} /^version/ {version = $2} /^checksum/ {print name "@" version, $2}' Cargo.lock)

for binary in "${binaries[@]}"; do
  cargo tree --locked --package "$binary" --edges normal,no-proc-macro --prefix depth --format '|{p}|{l}' \
    --target x86_64-unknown-linux-gnu --target aarch64-unknown-linux-gnu |
    jq -Rn --arg checksums "$checksums" --arg rust "$rust" '
      # A line is "DEPTH|NAME vVERSION (…)|LICENCE"; its parent is the last line before it with a lesser depth.
      def purl: "pkg:cargo/" + .;
      ($checksums | split("\n") | map(split(" ") | {(.[0]): .[1]}) | add) as $digest
      | reduce (inputs | select(. != "") | split("|")) as [$depth, $crate, $licence] ({path: [], seen: {}, edges: {}};
          ($crate | split(" ") | "\(.[0])@\(.[1][1:])") as $id | ($depth | tonumber) as $at
          | .path = .path[:$at] + [$id]
          | if $at > 0 then .edges[.path[$at - 1]][$id] = true else .root = $id end
          | .seen[$id] = ($licence | gsub(" */ *"; " OR ") | sub(" *[(][*][)]$"; "")))
      | (.seen | to_entries | map(
          (.key | split("@")) as [$name, $version]
          | {type: "library", "bom-ref": (.key | purl), name: $name, version: $version, purl: (.key | purl)}
            + (if .value == "" then {} else {licenses: [{expression: .value}]} end)
            + (if $digest[.key] then {hashes: [{alg: "SHA-256", content: $digest[.key]}]} else {} end))) as $crates
      | (.root | purl) as $root | "pkg:generic/rust@\($rust)" as $std
      | {bomFormat: "CycloneDX", specVersion: "1.6", version: 1,
         metadata: {component: ($crates[] | select(."bom-ref" == $root) | .type = "application")},
         components: ([$crates[] | select(."bom-ref" != $root)]
           + [{type: "library", "bom-ref": $std, name: "rust", version: $rust, purl: $std,
               licenses: [{expression: "MIT OR Apache-2.0"}]}]),
         dependencies: (.edges as $edges | [.seen | keys[] | . as $of
           | {ref: purl, dependsOn: ([$edges[$of] // {} | keys[] | purl] + (if purl == $root then [$std] else [] end))}])}
    ' >"$out/$binary.cdx.json"
  say "$binary: $(jq '.components | length' "$out/$binary.cdx.json") components"
done
