#!/usr/bin/env bash
# dev.sh: nats-server and one gateway as processes on loopback, until Ctrl-C. With --demo: two gateways, one event seen
# on both, and a word about what that leaves out; for machines that can run no cluster.
set -euo pipefail
demo=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$demo/../.." && pwd)
# shellcheck source=../cluster/lib.sh
. "$demo/../cluster/lib.sh"
# shellcheck source=credentials.sh
. "$demo/credentials.sh"
mode=${1:-}
nats=${DEV_NATS_PORT:-4222}
public=${DEV_PORT:-8080}
admin=${DEV_ADMIN_PORT:-9090}
pages=${DEV_PAGES_PORT:-8000}

"$repository/tests/cluster/toolbox/build.sh" nats-server nats-pub >/dev/null
gateway=${DEV_GATEWAY:-}
if [[ ! $gateway ]]; then
  say "building the gateway"
  (cd "$repository" && cargo build --locked -q -p sse-gateway)
  gateway=${CARGO_TARGET_DIR:-$repository/target}/$(rustc -vV | sed -n 's/^host: //p')/debug/sse-gateway
fi

work=$(mktemp -d)
jobs=()
finish() {
  local job
  for job in "${jobs[@]}"; do kill "$job" 2>/dev/null || true; done
  wait "${jobs[@]}" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 0' INT TERM

mkdir -p "$work/secrets/jwt-key"
key=$(openssl rand -hex 32)
printf %s "$key" >"$work/secrets/jwt-key/key"
cat >"$work/gateway.yaml" <<EOF
nats: {url: "nats://127.0.0.1:$nats"}
auth: {issuers: [{issuer: demo, algorithms: [HS256], keySecretRef: {name: jwt-key, key: key}}]}
console: {enabled: true}
publish: {enabled: true}
cors: {allowedOrigins: ["http://127.0.0.1:$pages", "http://localhost:$pages"]}
drain: {windowSeconds: 0}
logging: {format: text}
EOF
"$bin/nats-server" -a 127.0.0.1 -p "$nats" -js -sd "$work/nats" >"$work/nats.log" 2>&1 &
jobs+=($!)

serve() { # PORT ADMIN-PORT LOG
  "$gateway" --config "$work/gateway.yaml" --secrets-dir "$work/secrets" --name dev/gateway \
    --listen "127.0.0.1:$1" --admin-listen "127.0.0.1:$2" >"$3" 2>&1 &
  jobs+=($!)
  within 20 "the gateway on port $1" curl -fsS --noproxy '*' "http://127.0.0.1:$2/readyz" >/dev/null ||
    { cat "$work/nats.log" "$3" >&2; exit 1; }
}
serve "$public" "$admin" "$work/gateway.log"
jwt=$(sign "$key" acme alice 86400 ',"topics":[">"],"publish":[">"]')
sse=http://127.0.0.1:$public/api/v1/sse

if [[ $mode == --demo ]]; then
  serve $((public + 1)) $((admin + 1)) "$work/gateway2.log"
  event="{\"hello\":\"alice\",\"at\":\"$(date -u +%FT%TZ)\"}"
  for number in 0 1; do
    base=http://127.0.0.1:$((public + number))/api/v1/sse
    curl -sN --noproxy '*' "$base/stream?token=$(mint "$base" "$jwt")" >"$work/stream$number" &
    jobs+=($!)
    within 20 "the first byte of a stream" grep ':connected' "$work/stream$number" >/dev/null
  done
  "$bin/nats-pub" -s "nats://127.0.0.1:$nats" sse.acme.user.alice "$event" >/dev/null 2>&1
  for number in 0 1; do
    within 20 "the event" grep -F "$event" "$work/stream$number" >/dev/null
    printf -- '--- what alice got from gateway %d ---\n' "$number"
    cat "$work/stream$number"
  done
  say "the event arrived on both streams, each at another gateway"
  cat <<EOF

This was the gateway and NATS as processes on loopback: a Kubernetes node of its own needs Linux and root. What that
leaves out: the operator, the chart, pods, rollouts and drains by Kubernetes. As root, \`make demo\` shows them.
EOF
  exit 0
fi

about="  # npm or python3 is missing, so the pages of examples/ are not served"
if { command -v npm && command -v python3; } >/dev/null; then
  "$demo/client.sh" >&2
  JWT_KEY=$key python3 "$repository/examples/serve.py" "$pages" "$sse" &
  jobs+=($!)
  about="  # what streams are for, each with a page and what publishes to it: examples/README.md
  http://127.0.0.1:$pages"
fi

cat <<EOF

One gateway serves on $sse, with a nats-server on nats://127.0.0.1:$nats. Ctrl-C ends everything.

Its console is at http://127.0.0.1:$public/ and takes this JWT of alice of tenant acme, which is good for a day:

$jwt

Lines to copy:

  # a token for alice of tenant acme: single use, 30 seconds (the JWT is good for a day)
  TOKEN=\$(curl -s -X POST -H 'Authorization: Bearer $jwt' $sse/token | cut -d '"' -f 4)

  # her stream
  curl -N "$sse/stream?token=\$TOKEN"

  # an event for her, from another terminal; with the nats CLI: nats pub sse.acme.user.alice '{"n":1}'
  $bin/nats-pub -s nats://127.0.0.1:$nats sse.acme.user.alice '{"n":1}'

$about

EOF
tail -n +1 -F "$work/gateway.log" &
jobs+=($!)
wait "${jobs[1]}"
