#!/usr/bin/env bash
# prepare.sh NAME: brings a cluster up with this checkout's images in it: by kind where that and Docker are, else a
# node of our own. The last two lines of stdout are the tag of the images and the kubeconfig. FRESH=1 begins the test
# cluster anew.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
select_cluster "${1:-}"
repository=$(cd "$here/../.." && pwd)
images=(sse-gateway sse-operator nats)
tools=(nats-server nats-pub nats-sub nats-req)
# The tests scrape and scale by them; the demo needs none.
if [[ $name == test ]]; then images+=(prometheus prometheus-adapter) tools+=(prometheus prometheus-adapter); fi

on_own_node() {
  local log=$cache/log/cargo.log cargo release
  mkdir -p "$cache/log"
  "$here/packages.sh"
  say "building the gateway and the operator (log: $log) and the toolbox (about 8 minutes each, the first time)"
  (cd "$repository" && cargo build --release --locked -p sse-gateway -p sse-operator) >"$log" 2>&1 &
  cargo=$!
  "$here/toolbox/build.sh" "${node_tools[@]}" helm "${tools[@]}" >/dev/null
  say "the toolbox is built: Kubernetes, containerd, CoreDNS, Helm, nats-server"
  wait $cargo || { tail -n 40 "$log" >&2; die "cargo could not build the binaries"; }
  say "the binaries are built"

  release=${CARGO_TARGET_DIR:-$repository/target}/$(rustc -vV | sed -n 's/^host: //p')/release
  # Named after what is in them: a changed image is another image, and rolls the pods.
  tag=$(cat "$release/sse-gateway" "$release/sse-operator" "${tools[@]/#/$bin/}" | sha256sum | cut -c 1-12)
  TAG=$tag "$repository/images/build.sh" "$cache/images" "${images[@]}"
  "$here/up.sh" "$name" >/dev/null
  # shellcheck disable=SC2046 # paths without blanks
  "$here/load.sh" "$name" $(printf "$cache/images/%s.tar " "${images[@]}")
}

on_kind() {
  local image ids=()
  "$here/toolbox/build.sh" kubectl helm helm3 nats-server nats-pub >/dev/null
  for image in "${images[@]}"; do
    say "docker builds $image"
    ids+=("$(cd "$repository" && docker build --quiet --file "images/$image/Dockerfile" .)")
  done
  tag=$(printf '%s\n' "${ids[@]}" | sha256sum | cut -c 1-12)
  mkdir -p "$root"
  if [[ ${FRESH:-} ]]; then kind delete cluster --quiet --name "sse-$name"; fi
  if ! kind get clusters --quiet | grep -qx "sse-$name"; then
    kind create cluster --quiet --name "sse-$name" --kubeconfig "$kubeconfig" --wait 2m
  fi
  kind export kubeconfig --quiet --name "sse-$name" --kubeconfig "$kubeconfig"
  for image in "${!images[@]}"; do
    docker tag "${ids[image]}" "localhost/${images[image]}:$tag"
    kind load docker-image --quiet --name "sse-$name" "localhost/${images[image]}:$tag"
  done
  say "kind runs the cluster sse-$name"
}

if kind_here; then on_kind >&2; else on_own_node; fi
echo "$tag"
echo "$kubeconfig"
