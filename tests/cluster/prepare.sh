#!/usr/bin/env bash
# prepare.sh NAME: brings a cluster up with this checkout's images in it. Cargo and Go build side by side. The last
# two lines of stdout are the tag of the images and the kubeconfig. FRESH=1 begins the test cluster anew.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
select_cluster "${1:-}"
repository=$(cd "$here/../.." && pwd)
work=$cache/log
mkdir -p "$work"

"$here/packages.sh"
say "building the gateway and the operator (log: $work/cargo.log) and the toolbox (about 8 minutes each, the first time)"
(cd "$repository" && cargo build --release --locked -p sse-gateway -p sse-operator) >"$work/cargo.log" 2>&1 &
cargo=$!
"$here/toolbox/build.sh" >/dev/null
say "the toolbox is built: Kubernetes, containerd, CoreDNS, Helm, nats-server"
wait $cargo || { tail -n 40 "$work/cargo.log" >&2; die "cargo could not build the binaries"; }
say "the binaries are built"

release=${CARGO_TARGET_DIR:-$repository/target}/$(rustc -vV | sed -n 's/^host: //p')/release
# Named after what is in them: a changed image is another image, and rolls the pods.
tag=$(cat "$release/sse-gateway" "$release/sse-operator" "$bin/nats-server" | sha256sum | cut -c 1-12)
TAG=$tag "$repository/images/build.sh" "$cache/images"
"$here/up.sh" "$name" >/dev/null
"$here/load.sh" "$name" "$cache"/images/{sse-gateway,sse-operator,nats}.tar
echo "$tag"
echo "$kubeconfig"
