#!/usr/bin/env bash
# build.sh [TOOL...]: builds the cluster's binaries from the Go modules pinned beside this script; without
# arguments, all of them. What is up to date stays. Progress on stderr; the last line of stdout is the directory.
set -euo pipefail
export LC_ALL=C CGO_ENABLED=0
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${SSE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sse-gateway}/bin

die() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }

# Kubernetes binaries refuse to work together, and kubelets to register, as version v0.0.0: stamp the pinned one.
version=$(awk '/k8s.io\/kubernetes v/ {print $NF; exit}' "$here/kubernetes/go.mod")
IFS=. read -r major minor _ <<<"${version#v}"
of=k8s.io/component-base/version
kubernetes="-X $of.gitVersion=$version -X $of.gitMajor=$major -X $of.gitMinor=$minor"

# tool | module directory | package | further linker flags
tools="
kube-apiserver          | kubernetes   | k8s.io/kubernetes/cmd/kube-apiserver          | $kubernetes
kube-controller-manager | kubernetes   | k8s.io/kubernetes/cmd/kube-controller-manager | $kubernetes
kube-scheduler          | kubernetes   | k8s.io/kubernetes/cmd/kube-scheduler          | $kubernetes
kubelet                 | kubernetes   | k8s.io/kubernetes/cmd/kubelet                 | $kubernetes
kube-proxy              | kubernetes   | k8s.io/kubernetes/cmd/kube-proxy              | $kubernetes
kubectl                 | kubernetes   | k8s.io/kubernetes/cmd/kubectl                 | $kubernetes
etcd                    | etcd         | go.etcd.io/etcd/server/v3                     |
containerd              | containerd   | github.com/containerd/containerd/v2/cmd/containerd              |
containerd-shim-runc-v2 | containerd   | github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2 |
ctr                     | containerd   | github.com/containerd/containerd/v2/cmd/ctr   |
coredns                 | coredns      | github.com/coredns/coredns                    |
helm                    | helm         | helm.sh/helm/v4/cmd/helm                      |
helm3                   | helm3        | helm.sh/helm/v3/cmd/helm                      |
nats-server             | nats         | github.com/nats-io/nats-server/v2             |
nats-pub                | nats-clients | github.com/nats-io/nats.go/examples/nats-pub  |
nats-sub                | nats-clients | github.com/nats-io/nats.go/examples/nats-sub  |
nats-req                | nats-clients | github.com/nats-io/nats.go/examples/nats-req  |
otelcol                 | otelcol      | builder.yaml                                  |
mercure                 | mercure      | github.com/dunglas/mercure/cmd/mercure        |
prometheus              | prometheus   | github.com/prometheus/prometheus/cmd/prometheus |
promtool                | prometheus   | github.com/prometheus/prometheus/cmd/promtool   |
prometheus-adapter      | prometheus-adapter | sigs.k8s.io/prometheus-adapter/cmd/adapter |
sse-watch               | sse-watch    | .                                             |
h2spec                  | h2spec       | github.com/summerwind/h2spec/cmd/h2spec       |
helm-unittest           | helm-unittest | github.com/helm-unittest/helm-unittest/cmd/helm-unittest |
caddy                   | caddy        | github.com/caddyserver/caddy/v2/cmd/caddy     |
kubeconform             | kubeconform  | github.com/yannh/kubeconform/cmd/kubeconform  |
actionlint              | actionlint   | github.com/rhysd/actionlint/cmd/actionlint    |
"

build() { # TOOL DIRECTORY PACKAGE LINKER-FLAGS
  local flags=(-trimpath "-ldflags=-s -w $4") stamp=$bin/.$1.sha256 inputs pinned=("$here/$2"/go.{mod,sum})
  # Of all that Prometheus can discover, Kubernetes is what we need: clouds are most of its code.
  if [[ $2 == prometheus ]]; then flags+=(-tags=remove_all_sd,enable_kubernetes_sd); fi
  if [[ $3 == *.yaml ]]; then pinned+=("$here/$2/$3"); fi
  # A program of our own.
  if [[ $3 == . ]]; then pinned+=("$here/$2"/*.go); fi
  inputs=$({ go env GOVERSION GOARCH; printf '%s\n' "$3" "${flags[@]}"; cat "${pinned[@]}"; } | sha256sum)
  if [[ -x $bin/$1 && -f $stamp && $(<"$stamp") == "$inputs" ]]; then return; fi
  local began=$SECONDS
  printf 'building %s\n' "$1" >&2
  rm -f "$stamp"
  case $3 in
    # The collector's own builder writes its module, from the parts that the file names.
    *.yaml)
      local source=$bin/.$1.src
      rm -rf "$source"
      cp -r "$here/$2" "$source"
      (cd "$source" && go tool builder --config "$3" --ldflags '-s -w') >&2 || die "$1 does not build"
      mv -f "$source/out/$1" "$bin/.$1.new"
      rm -r "$source"
      ;;
    *) (cd "$here/$2" && go build "${flags[@]}" -o "$bin/.$1.new" "$3") >&2 || die "$1 does not build" ;;
  esac
  # A running binary can not be written to, but it can be replaced.
  mv -f "$bin/.$1.new" "$bin/$1"
  printf '%s\n' "$inputs" >"$stamp"
  printf 'built %s in %d s\n' "$1" $((SECONDS - began)) >&2
}

declare -A wanted=()
for tool; do
  grep -q "^$tool " <<<"$tools" || die "no tool '$tool'; there are: $(awk '{printf "%s ", $1}' <<<"$tools")"
  wanted[$tool]=1
done
command -v go >/dev/null || die "go is missing: install Go 1.26 or later"

mkdir -p "$bin"
exec 9>"$bin/.lock"
flock -n 9 || { echo 'waiting for another build.sh' >&2; flock 9; }
while IFS='|' read -r tool directory package flags; do
  read -r tool <<<"$tool"
  [[ $tool ]] || continue
  if (($#)) && [[ -z ${wanted[$tool]:-} ]]; then continue; fi
  read -r directory <<<"$directory"
  read -r package <<<"$package"
  read -r flags <<<"$flags"
  build "$tool" "$directory" "$package" "$flags" 9>&- </dev/null
done <<<"$tools"
printf '%s\n' "$bin"
