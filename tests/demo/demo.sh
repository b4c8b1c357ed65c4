#!/usr/bin/env bash
# demo.sh: a cluster, NATS, the chart, a gateway of two pods, and one event seen on both. Leaves it running.
# The cluster is that of DEMO_KUBECONFIG (with images from DEMO_REGISTRY, tag DEMO_TAG), else kind, else a node of our
# own, else none: then processes on loopback.
set -euo pipefail
# shellcheck source=../cluster/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"
# shellcheck source=credentials.sh
. "$(dirname "${BASH_SOURCE[0]}")/credentials.sh"
demo=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
jobs=()
finish() {
  local job
  for job in "${jobs[@]}"; do kill "$job" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

select_cluster demo
helm_values=(--set nats.enabled=true --set nats.auth.insecure=true)
registry=localhost
if [[ ${DEMO_KUBECONFIG:-} ]]; then
  say "a demo on the cluster of DEMO_KUBECONFIG, with images from DEMO_REGISTRY"
  [[ ${DEMO_REGISTRY:-} ]] ||
    die "DEMO_REGISTRY must say where that cluster finds sse-gateway and sse-operator (docs/install.md builds them)"
  registry=$DEMO_REGISTRY tag=${DEMO_TAG:-0.1.0} kubeconfig=$DEMO_KUBECONFIG
  # Further arguments of Helm, such as another image of NATS: words without blanks.
  read -ra more <<<"${DEMO_HELM_ARGS:-}"
  helm_values+=("${more[@]}")
  "$here/toolbox/build.sh" helm kubectl nats-pub >/dev/null
elif kind_here || [[ $EUID == 0 && $(uname -s) == Linux ]]; then
  "$here/prepare.sh" demo >"$work/prepared"
  { read -r tag; read -r kubeconfig; } <"$work/prepared"
  helm_values+=(--set-string "nats.image.repository=localhost/nats,nats.image.tag=$tag")
else
  exec "$demo/dev.sh" --demo
fi
export KUBECONFIG=$kubeconfig
PATH=$bin:$PATH

say "installing the chart, with a NATS for trying out"
helm upgrade --install sse-gateway "$demo/../../charts/sse-gateway" --namespace sse-system --create-namespace \
  --set-string "image.repository=$registry/sse-operator,image.tag=$tag" \
  --set-string "gatewayImage.repository=$registry/sse-gateway,gatewayImage.tag=$tag" \
  "${helm_values[@]}" --wait --timeout 3m >"$work/helm" 2>&1 ||
  { cat "$work/helm" >&2; command kubectl -n sse-system get pods >&2; exit 1; }

kubectl create namespace demo --dry-run=client -o yaml | kubectl apply -f - >/dev/null
if ! kubectl -n demo get secret jwt-key &>/dev/null; then
  kubectl -n demo create secret generic jwt-key --from-literal=key="$(openssl rand -hex 32)" >/dev/null
fi
say "declaring an SseGateway: tests/demo/gateway.yaml"
kubectl -n demo apply -f "$demo/gateway.yaml" >/dev/null
generation=$(kubectl -n demo get ssegateway live -o 'jsonpath={.metadata.generation}')
command kubectl -n demo wait ssegateway/live --timeout=2m \
  --for="jsonpath={.status.conditions[?(@.type=='Ready')].observedGeneration}=$generation" >/dev/null
command kubectl -n demo wait ssegateway/live --for=condition=Ready --timeout=2m >/dev/null
command kubectl -n demo rollout status deployment/live --timeout=2m >/dev/null
say "the gateway is ready"

key=$(kubectl -n demo get secret jwt-key -o 'jsonpath={.data.key}' | base64 -d)
jwt=$(sign "$key" acme alice 86400)
selector=app.kubernetes.io/name=sse-gateway,app.kubernetes.io/instance=live
mapfile -t gateways < <(kubectl -n demo get pods -l "$selector" \
  --field-selector status.phase=Running -o 'jsonpath={range .items[*]}{.metadata.name} {.metadata.deletionTimestamp}{"\n"}{end}' |
  awk 'NF == 1 {print $1}')
((${#gateways[@]} >= 2)) || die "two pods should run, there are ${#gateways[@]}: ${gateways[*]}"

connect() { # NUMBER: a stream of alice at that pod, into a file
  local number=$1 port token
  command kubectl -n demo port-forward "pod/${gateways[number]}" :8080 >"$work/forward$number" 2>&1 &
  jobs+=($!)
  port=$(within 20 "a port-forward to ${gateways[number]}" forwarded "$work/forward$number")
  token=$(mint "http://127.0.0.1:$port/api/v1/sse" "$jwt")
  curl -sN "http://127.0.0.1:$port/api/v1/sse/stream?token=$token" >"$work/stream$number" &
  jobs+=($!)
  within 20 "the first byte of a stream" grep ':connected' "$work/stream$number" >/dev/null
  say "alice is connected to pod ${gateways[number]}"
}
forwarded() { sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$1" | grep .; }

connect 0
connect 1
event="{\"hello\":\"alice\",\"at\":\"$(date -u +%FT%TZ)\"}"
command kubectl -n sse-system port-forward statefulset/sse-gateway-nats :4222 >"$work/forward-nats" 2>&1 &
jobs+=($!)
port=$(within 20 "a port-forward to NATS" forwarded "$work/forward-nats")
say "publishing with a tool of NATS' own: nats-pub sse.acme.user.alice '$event'"
nats-pub -s "nats://127.0.0.1:$port" sse.acme.user.alice "$event" >/dev/null 2>&1
for number in 0 1; do
  within 20 "the event on pod ${gateways[number]}" grep -F "$event" "$work/stream$number" >/dev/null
  printf '\n--- what alice got from pod %s ---\n' "${gateways[number]}"
  cat "$work/stream$number"
done
say "the event arrived on both streams, each at another pod"

# The operator asks the pods every 15 seconds.
told() { [[ $(kubectl -n demo get ssegateway live -o 'jsonpath={.status.connections}') == 2 ]]; }
within 30 "the connections in the status" told
printf '\n'
kubectl -n demo get ssegateways
cat <<EOF

It is left running. Lines to copy:

  export KUBECONFIG=$KUBECONFIG PATH=$bin:\$PATH
  kubectl -n demo port-forward service/live 8080 &
  kubectl -n sse-system port-forward service/sse-gateway-nats 4222 &
  SSE=http://localhost:8080/api/v1/sse

  # a token for alice of tenant acme: single use, 30 seconds (the JWT is good for a day)
  TOKEN=\$(curl -s -X POST -H 'Authorization: Bearer $jwt' \$SSE/token | cut -d '"' -f 4)

  # her stream
  curl -N "\$SSE/stream?token=\$TOKEN"

  # an event for her, from another terminal, with the nats CLI or with the tool that was built here
  nats pub sse.acme.user.alice '{"n":1}'
  nats-pub -s nats://localhost:4222 sse.acme.user.alice '{"n":1}'

  kubectl get ssegateways -A        # what there is
  make demo-down                    # end it
EOF
