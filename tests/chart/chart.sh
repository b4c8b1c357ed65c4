#!/usr/bin/env bash
# chart.sh: the chart renders with Helm 4 and 3 alike, refuses values that would not do what they say, and passes its own
# tests (charts/sse-gateway/tests). UPDATE=1 takes what is rendered for the new snapshots.
set -euo pipefail
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=../cluster/lib.sh
. "$tests/cluster/lib.sh"
chart=$tests/../charts/sse-gateway
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0

ok() { passed=$((passed + 1)); }
render() { # HELM ARGUMENTS...
  "$bin/$1" template trial "$chart" --namespace trial --kube-version 1.36.0 $( ((${with_tests:-0})) || echo --skip-tests) "${@:2}"
}
refused() { # WORDS ARGUMENTS...: by both, with these words
  local helm
  for helm in helm helm3; do
    if render $helm "${@:2}" >"$work/out" 2>&1; then die "$helm accepts ${*:2}"; fi
    grep -qF "$1" "$work/out" || { cat "$work/out" >&2; die "$helm does not say '$1'"; }
    ok
  done
}
same() { # ARGUMENTS...: from both; leaves it in $work/helm
  render helm "$@" >"$work/helm"
  render helm3 "$@" >"$work/helm3"
  diff -B "$work/helm" "$work/helm3" || die "Helm 4 and 3 render differently: $*"
  ok
}
has() { grep -qF -- "$1" "$work/helm" || die "the chart does not render '$1'"; ok; }
lacks() { if grep -qF -- "$1" "$work/helm"; then die "the chart renders '$1'"; fi; ok; }

for helm in helm helm3; do "$bin/$helm" lint --quiet "$chart" --set nats.enabled=true,nats.auth.insecure=true || die "$helm lint"; ok; done

# What GitOps tools render twice has to be the same.
if grep -nE '\{\{[^}]*\<(lookup|rand[A-Z]\w*|gen[A-Z]\w*|uuidv4|now|htpasswd|bcrypt)\>' -r "$chart/templates"; then
  die "the chart asks the cluster, the clock or chance"
fi
ok
"$bin/helm-unittest" --strict ${UPDATE:+--update-snapshot} "$chart" >"$work/out" || { cat "$work/out" >&2; die "helm-unittest"; }
ok

with_tests=1 same
has 'helm.sh/hook: test'
same
lacks 'helm.sh/hook'
has 'helm.sh/resource-policy: keep'
has 'kind: CustomResourceDefinition'
lacks 'StatefulSet'
lacks 'secrets'

has 'replicas: 2'
has 'kind: PodDisruptionBudget'
has 'resources: [leases]'
has 'max-concurrent-rollouts=1'

same --set replicas=1,maxConcurrentRollouts=3
lacks 'kind: PodDisruptionBudget'
has 'max-concurrent-rollouts=3'

lacks 'kind: PodMonitor'
same --set 'podMonitor.enabled=true,podMonitor.labels.release=prometheus,podMonitor.labels.app\.kubernetes\.io/name=mine'
has 'kind: PodMonitor'
has 'port: http'
has 'release: prometheus'
lacks 'mine'
refused 'podMonitor' --set podMonitor.namespace=monitoring
refused 'enabled' --set podMonitor.enabled=maybe

lacks '--otlp'
lacks 'volumeMounts'
same --set telemetry.otlpEndpoint=https://collector:4318,telemetry.otlpProtocol=http
has 'otlp-endpoint=https://collector:4318'
has 'otlp-protocol=http'
lacks 'volumeMounts'
same --set telemetry.otlpEndpoint=https://collector:4317 \
  --set telemetry.otlpHeadersSecretRef.name=otlp,telemetry.otlpHeadersSecretRef.key=lines \
  --set telemetry.caSecretRef.name=authority,telemetry.caSecretRef.key=ca.crt
has 'otlp-protocol=grpc'
has 'otlp-headers-file=/etc/sse-operator/otlp-headers/lines'
has 'mountPath: /etc/sse-operator/otlp-headers'
has 'items: [{key: "lines", path: "lines"}]'
has 'otlp-ca-file=/etc/sse-operator/otlp-ca/ca.crt'
has 'mountPath: /etc/sse-operator/otlp-ca'
has 'secretName: authority'
same --set telemetry.otlpHeadersSecretRef.name=otlp,telemetry.otlpHeadersSecretRef.key=lines
lacks 'volumeMounts'
refused 'otlpEndpoint' --set telemetry.otlpEndpoint=collector:4317
refused 'otlpEndpoint' --set telemetry.otlpEndpoint=https://me:s3cret@collector
refused 'otlpProtocol' --set telemetry.otlpProtocol=udp
refused 'key' --set telemetry.otlpEndpoint=http://c:4317,telemetry.otlpHeadersSecretRef.name=otlp
refused 'key' --set telemetry.otlpEndpoint=http://c:4317,telemetry.caSecretRef.key=ca.crt

same --set crds.enabled=false
lacks 'kind: CustomResourceDefinition'

same --set nats.enabled=true,nats.auth.insecure=true
has 'kind: StatefulSet'
has 'volumeClaimTemplates'
same --set nats.enabled=true,nats.auth.existingSecret=users
has 'include auth.conf'

same --set 'watchNamespaces={one,two}'
has 'namespace: one'
has 'namespace: two'
has 'watch-namespaces'
lacks 'kind: ClusterRoleBinding'

lacks 'kind: PrometheusRule'
lacks 'dashboard'

same --set dashboards.enabled=true
[[ $(grep -c '^  sse-gateway-.*\.json: |$' "$work/helm") == 3 ]] || die "the chart does not render three dashboards"
ok
has 'grafana_dashboard: "1"'
has 'name: trial-sse-gateway-dashboard-overview'
for board in overview gateway operator; do
  # What Grafana's sidecar writes to a file is the dashboard, as it is.
  sed -n "/^  sse-gateway-$board\.json: |\$/,/^---/s/^    //p" "$work/helm" |
    diff -B - "$chart/files/dashboards/$board.json" || die "the dashboard $board is another when rendered"
  ok
done
same --set dashboards.enabled=true,dashboards.namespace=monitoring --set dashboards.annotations.folder=SSE,dashboards.labels.grafana=yes
has 'namespace: monitoring'
has 'folder: SSE'

same --set alerts.enabled=true,alerts.labels.release=prometheus
has 'kind: PrometheusRule'
has 'release: prometheus'
has 'runbook_url: docs/runbooks/SseGatewayNatsAway.md'
# Rendered, they are the rules that were tested.
sed -n '/^kind: PrometheusRule/,/^---/p' "$work/helm" | sed -n '/^  # Alerts on/,$s/^  //p' |
  diff -B - "$chart/files/alerts.yaml" || die "the alerts are others when rendered"
ok
same --set alerts.enabled=true,alerts.runbookUrl=https://docs.example.com/runbooks/
has 'runbook_url: https://docs.example.com/runbooks/SseOperatorNoLeader.md'
lacks 'docs/runbooks'

same --set global.anything=goes
refused 'incompatible' --kube-version 1.32.9
refused 'subjectPrefix' --set test.nats.subjectPrefix=a.b
refused 'key' --set test.nats.credentialsSecretRef.name=creds
refused 'nats.auth.insecure' --set nats.enabled=true
refused 'exclude each other' --set nats.enabled=true,nats.auth.existingSecret=a,nats.auth.insecure=true
refused 'replicas' --set nats.replicas=3
refused 'replicas' --set replicas=0
refused 'runbookUrl' --set alerts.enabled=true,alerts.runbookUrl=
refused 'maxConcurrentRollouts' --set maxConcurrentRollouts=0
refused 'typo' --set typo=1

printf '%d passed, 0 failed\n' "$passed"
