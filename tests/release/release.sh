#!/usr/bin/env bash
# release.sh: what a release is made by, as far as it needs neither a registry nor Docker: release/, .github/workflows, what the images are built
# from, and the versions that docs/support.md names. Needs the debug binaries (cargo build --workspace --bins).
set -euo pipefail
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=../cluster/lib.sh
. "$tests/cluster/lib.sh"
cd "$tests/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
ok() { passed=$((passed + 1)); }
refused() { # WORDS COMMAND...
  if "${@:2}" >"$work/out" 2>&1; then die "${*:2} succeeds"; fi
  grep -qF -- "$1" "$work/out" || { cat "$work/out" >&2; die "${*:2} does not say '$1'"; }
  ok
}
"$here/toolbox/build.sh" helm actionlint >/dev/null

# --- The version, in a copy: changed everywhere at once, and a place that is left behind is named.
version=$(release/version.sh)
mkdir "$work/copy"
tar -c --exclude ./target --exclude ./.git --exclude node_modules --exclude ./tests/cluster/toolbox . | tar -x -C "$work/copy"
copy=$work/copy
sed -i 's/^## Unreleased$/&\n\n### Fixed\n\n- A thing./' "$copy/CHANGELOG.md"
refused 'the tag is v9.8.7' "$copy/release/version.sh" v9.8.7
refused 'usage' "$copy/release/version.sh" set 9.8
[[ $("$copy/release/version.sh" set 9.8.7) == 9.8.7 && $("$copy/release/version.sh" v9.8.7) == 9.8.7 ]] || die "the version can not be set"
ok
grep -qx "## 9.8.7 - $(date -u +%F)" "$copy/CHANGELOG.md" || die "the changelog has no heading"
(cd "$copy" && cargo metadata --locked --offline --no-deps --format-version 1) | jq -e 'all(.packages[]; .version == "9.8.7")' >/dev/null ||
  die "a crate has another version"
ok
refused 'already' "$copy/release/version.sh" set 9.8.7
[[ $("$copy/release/notes.sh" 9.8.7) == $'### Fixed\n\n- A thing.'* ]] || die "the notes are others"
refused 'nothing of Unreleased' "$copy/release/notes.sh" Unreleased
refused 'nothing of 9.8' "$copy/release/notes.sh" 9.8
mapfile -t named < <(cd "$copy" && grep -rlF 9.8.7 charts clients/js/package*.json docs kubectl-sse/krew.yaml tests/demo)
[[ ${#named[@]} == 8 ]] || die "the version is named in ${named[*]}"
for file in "${named[@]}"; do
  cp "$copy/$file" "$work/kept"
  sed -i '0,/9\.8\.7/s//9.8.6/' "$copy/$file"
  refused "$file says '9.8.6" "$copy/release/version.sh"
  cp "$work/kept" "$copy/$file"
done

# --- What is published.
out=$work/published
SOURCE=https://git.example.com/some/where release/dry-run.sh "$out" 2>"$work/out" || { cat "$work/out" >&2; die "the dry run failed"; }
ok
(cd "$out" && sha256sum --quiet --check SHA256SUMS && [[ $(wc -l <SHA256SUMS) == 5 ]]) || die "checksums"
ok
for binary in sse-gateway sse-operator kubectl-sse; do
  # All that is told to be needed is there, everything has a licence, and nothing of the tests is in it.
  jq -e --arg name "$binary" --arg version "$version" '
    ([.metadata.component, .components[]] | map(."bom-ref")) as $all
    | (.metadata.component | .name == $name and .version == $version) and (.components | length > 100)
      and all(.components[]; .licenses) and ([.components[] | select(.hashes)] | length > 100)
      and ([.dependencies[] | .ref, .dependsOn[]] - $all == []) and ($all - [.dependencies[].dependsOn[]] | length == 1)
      and (["serde_json", "tokio"] - [.components[].name] == []) and all(.components[]; .name != "proptest" and .name != "sse-tests")
    ' "$out/$binary.cdx.json" >/dev/null || die "the bill of materials of $binary is wrong"
  ok
done
chart=$("$bin/helm" show chart "$out/sse-gateway-$version.tgz")
[[ $(grep -cE '^    - kind: [a-z]+$' <<<"$chart") == $(grep -c '^- ' "$out/notes.md") ]] || die "the chart does not tell of each change"
grep -q 'image: registry.example.com/platform/sse-operator:.*@sha256:' <<<"$chart" || die "the chart does not tell of its images"
ok
refused 'is no digest' env SOURCE=https://x bash -c "cd '$out' && echo sha256:1 >sse-operator.digest && '$PWD/release/chart.sh' r $version ."
tar -tzf "$out/sse-gateway-client-$version.tgz" >"$work/out"
for file in package.json README.md LICENSE dist/{index,connect,source,shared}.js dist/index.d.ts; do
  grep -qx "package/$file" "$work/out" || die "the client's package has no $file"
done
tar -xzOf "$out/sse-gateway-client-$version.tgz" package/package.json >"$work/out"
grep -q ssegateway.io "$work/out" && die "the client's package does not tell the address of its source"
ok
built=${CARGO_TARGET_DIR:-$PWD/target}/$(rustc -vV | sed -n 's/^host: //p')/debug
for processor in amd64 arm64; do install -D -t "$work/built/linux_$processor" "$built/kubectl-sse"; done
SOURCE=https://git.example.com/some/where release/kubectl.sh "$work/built" "$version" "$out"
digest=$(sha256sum <"$out/kubectl-sse-linux-arm64.tar.gz" | cut -d ' ' -f 1)
[[ $(tar -tzf "$out/kubectl-sse-linux-arm64.tar.gz" | sort | xargs) == 'LICENSE kubectl-sse' ]] || die "the archive for kubectl"
[[ $(grep -c "sha256: \"$digest\"" "$out/krew.yaml") == 2 ]] || die "krew.yaml has not the digests of its archives"
grep -q "uri: https://git.example.com/some/where/releases/download/v$version/kubectl-sse-linux-amd64.tar.gz" "$out/krew.yaml" || die "krew.yaml: uri"
ok

# --- What the images are built from: Docker is shown each file that the binary was compiled of, and every member of the workspace.
in_context() { # IMAGE PATH
  local shown
  while read -r shown; do if [[ $2 == "$shown" || $2 == "$shown"/* ]]; then return; fi; done < <(sed -n 's/^!//p' "images/$1/Dockerfile.dockerignore")
  return 1
}
for image in sse-gateway sse-operator kubectl-sse; do
  compiled=$(sed 's/^[^:]*: //' "$built/$image.d" | tr ' ' '\n' | sed -n "s#^$PWD/##p")
  [[ $(wc -l <<<"$compiled") -gt 20 ]] || die "what $image is compiled of is not known"
  members=$(cargo metadata --locked --offline --no-deps --format-version 1 | jq -r '.packages[].manifest_path' | sed "s#^$PWD/##")
  for file in $compiled $members .cargo/config.toml Cargo.lock images/compile.sh; do
    in_context "$image" "$file" || die "images/$image/Dockerfile.dockerignore leaves out $file"
  done
  ok
done
if in_context sse-gateway docs/install.md; then die "the context has what no binary needs"; fi
ok

# --- The workflows: valid, of pinned actions of the forge alone, without secrets, and what they run is there.
flows=(.github/workflows/*.yml)
"$bin/actionlint" -shellcheck= -pyflakes= "${flows[@]}" || die "actionlint"
# It knows the inputs of an action by its version, not by its commit.
for flow in "${flows[@]}"; do sed -E 's/@[0-9a-f]{40} # (v[0-9]+).*/@\1/' "$flow" | "$bin/actionlint" -shellcheck= -pyflakes= - || die "$flow"; done
ok
if grep -nE 'uses: ' "${flows[@]}" | grep -vE 'uses: (actions/[a-z]+@[0-9a-f]{40} # v[0-9.]+|\./.*)$'; then die "an action that is not pinned, or not the forge's"; fi
if grep -n 'secrets\.' "${flows[@]}"; then die "a secret"; fi
ok
called=$(sed -nE 's/^ *(- )?run: (sudo )?([a-z]+\/[^ ]*\.sh).*/\3/p' "${flows[@]}" | sort -u)
[[ $(wc -l <<<"$called") -ge 4 ]] || die "what the workflows run is not found"
for script in $called; do [[ -x $script ]] || die "a workflow runs $script"; done
while read -r target; do grep -q "^$target:" Makefile || die "a workflow makes $target"; done < <(sed -nE 's/^ *- run: make (.*)$/\1/p' "${flows[@]}")
ok

# --- What docs/support.md says that the tests run with.
runs_with() { # WORDS IN-THE-ROW
  grep -E "^\| $2 " docs/support.md | grep -qF "$1" || die "docs/support.md does not say '$1' of $2"
  ok
}
pin() { sed -nE "s#^(tool|require)?\s*$2 v([0-9]+\.[0-9]+)\..*#\2#p" "tests/cluster/toolbox/$1/go.mod" | head -n 1; }
runs_with "a cluster of $(pin kubernetes k8s.io/kubernetes)" Kubernetes
runs_with "the schemas of $(pin schemas k8s.io/kubernetes) and $(pin kubernetes k8s.io/kubernetes)" Kubernetes
runs_with "nats-server $(pin nats github.com/nats-io/nats-server/v2)" NATS
runs_with "$(pin helm3 helm.sh/helm/v3) and $(pin helm helm.sh/helm/v4)" Helm
runs_with "Rust $(sed -nE 's/^rust-version = "(.*)"/\1/p' Cargo.toml) and later" 'to build'
grep -q ">=$(pin schemas k8s.io/kubernetes).0-0" charts/sse-gateway/Chart.yaml || die "the chart is for another Kubernetes than its oldest schemas"
[[ $(sed -nE 's#^FROM .*/rust:([0-9]+\.[0-9]+)\..*#\1#p' images/*/Dockerfile | sort -u) == "$(sed -nE 's/^rust-version = "(.*)"/\1/p' Cargo.toml)" ]] ||
  die "the images are compiled by another Rust than the one that is declared"
ok

printf '%d passed, 0 failed\n' "$passed"
