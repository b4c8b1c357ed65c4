#!/usr/bin/env bash
# up.sh NAME: a real Kubernetes node on this machine, without Docker, as cluster 'demo' or 'test'. Starts what does
# not run and leaves the rest alone. FRESH=1 begins the test cluster anew. The last line of stdout is the kubeconfig.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
images=$here/../../images
umask 022

declare -A ports=([etcd]='2379 2380' [apiserver]=6443 [controller-manager]=10257 [scheduler]=10259
  [kubelet]='10248 10250' [kube-proxy]='10249 10256' [coredns]=8181)

main() {
  select_cluster "${1:-}"
  [[ $# == 1 ]] || die "usage: [FRESH=1] up.sh demo|test"
  [[ -z ${FRESH:-} || $name == test ]] || die "FRESH is for the test cluster; for this one: down.sh $name --purge"
  lock_machine

  "$here/packages.sh" 9>&-
  "$here/toolbox/build.sh" "${node_tools[@]}" >/dev/null 9>&-
  TAG='' "$images/build.sh" "$cache/images" pause >/dev/null 9>&-
  say "packages, binaries and the pause image are there"
  export PATH=$bin:$PATH
  # The cluster talks to nobody else: a proxy of the machine would only be in the way.
  unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY

  make_room
  mkdir -p "$root"/{run,log,pki,etcd,containerd,kubelet,cni,volumes}
  cd "$root"
  echo "$root" >"$running"
  echo "$boot" >run/boot
  certificates
  network_up
  control_plane
  this_node
  "$here/volumes.sh" "$name"
  say "cluster $name runs: export KUBECONFIG=$kubeconfig; kubectl is $bin/kubectl"
  echo "$kubeconfig"
}

make_room() {
  local wanted=$name other others=(demo test)
  # Of another SSE_CLUSTER_ROOT, too.
  if [[ -s $running && $(<"$running") != "$clusters"/* ]]; then others+=("$(<"$running")"); fi
  for other in "${others[@]}"; do
    if [[ $other == "$wanted" ]]; then continue; fi
    if [[ $other == /* ]]; then root=$other socket=$other/containerd/containerd.sock name=$other; else select_cluster "$other"; fi
    if [[ -e $root/run/boot ]]; then
      say "stopping cluster $name: one runs at a time; its state stays"
      stop_cluster
    fi
  done
  select_cluster "$wanted"
  if [[ ${FRESH:-} && -d $root ]]; then
    stop_cluster
    purge
  elif [[ -e $root/run/boot && $(<"$root/run/boot") != "$boot" ]]; then
    say "the machine was restarted: clearing what it left"
    stop_cluster
  fi
}

# --- Processes

start() { # NAME COMMAND...: unless it runs with just these arguments and files
  local this=$1 stamp argument pid
  shift
  stamp=$({ printf '%s\n' "$@"; cat "$bin/.$1.sha256"
    for argument in "${@:2}"; do if [[ -f $argument ]]; then cat "$argument"; fi; done; } | sha256sum)
  if pid_of "$this" >/dev/null; then
    if [[ -f run/$this.stamp && $(<"run/$this.stamp") == "$stamp" ]]; then return; fi
    say "$this: its settings changed"
    stop "$this"
  fi
  free_ports "$this"
  if [[ -f log/$this.log ]]; then mv "log/$this.log" "log/$this.previous.log"; fi
  (
    only_standard_files
    exec setsid "$@"
  ) >"log/$this.log" 2>&1 </dev/null &
  pid=$!
  record "$this" "$pid"
  echo "$stamp" >"run/$this.stamp"
}

# A daemon that keeps a pipe of the caller's has who reads it wait until the daemon ends; and the lock is this script's.
only_standard_files() {
  local file
  for file in "/proc/$BASHPID/fd"/*; do
    file=${file##*/}
    # 255 is where bash reads the script; no program gets it.
    if ((file > 2 && file != 255)); then eval "exec $file>&-"; fi
  done
}

free_ports() { # NAME
  local port user
  for port in ${ports[$1]:-}; do
    user=$(ss -Hltnp "sport = :$port")
    [[ -z $user ]] || die "port $port, which $1 needs, is in use: $user"
  done
}

await() { # NAME WHAT COMMAND...: until the command succeeds, as long as the process lives
  local deadline=$((SECONDS + 60)) this=$1 what=$2
  shift 2
  until "$@" &>/dev/null; do
    pid_of "$this" >/dev/null || failed "$this" "has ended"
    ((SECONDS < deadline)) || failed "$this" "still waits for \"$what\" after 60 s"
    sleep 0.1
  done
  say "$what"
}

failed() { # NAME WHAT
  printf '%s %s; the end of %s:\n' "$1" "$2" "$root/log/$1.log" >&2
  tail -n 20 "log/$1.log" >&2
  exit 1
}

healthy() { curl -sfk --noproxy '*' --max-time 2 "$1"; }

# A file is written only when it changes: some processes watch theirs, and kube-proxy even exits then.
file() { # PATH < CONTENT
  local content
  content=$(cat)
  if [[ -f $1 && $(<"$1") == "$content" ]]; then return; fi
  printf '%s\n' "$content" >"$1.new"
  mv "$1.new" "$1"
}

# --- Certificates

certificates() {
  local user
  if [[ ! -e pki/complete ]]; then
    # Not `|| failed`, which would switch errexit off inside.
    trap 'failed certificates "can not be made"' ERR
    (umask 077; make_certificates) >log/certificates.log 2>&1
    trap - ERR
    touch pki/complete
    say "certificates are made"
  fi
  for user in admin controller-manager scheduler kube-proxy $node; do
    (umask 077 && kubeconfig_for "$user" | file "$user.kubeconfig")
  done
}

make_certificates() {
  cd pki
  openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 3650 -subj /CN=sse-gateway-cluster
  openssl genrsa -out sa.key 2048
  openssl rsa -in sa.key -pubout -out sa.pub
  certificate apiserver /CN=kube-apiserver "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,\
DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:$node_ip,IP:${services%.0/*}.1"
  certificate $node "/O=system:nodes/CN=system:node:$node" "DNS:$node,IP:$node_ip"
  certificate admin /O=system:masters/CN=admin
  certificate controller-manager /CN=system:kube-controller-manager
  certificate scheduler /CN=system:kube-scheduler
  certificate kube-proxy /CN=system:kube-proxy
  certificate kubelet-client /O=system:masters/CN=kubelet-client
  certificate front-proxy /CN=front-proxy
}

certificate() { # NAME SUBJECT [ALTERNATIVE-NAMES]
  openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out "$1.crt" -extfile <(
    printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "${3:-DNS:$1}")
  rm "$1.csr"
}

kubeconfig_for() { # USER: with the certificates inside, so that the file can be copied
  cat <<EOF
apiVersion: v1
kind: Config
current-context: $name
contexts: [{name: $name, context: {cluster: $name, user: $1}}]
clusters: [{name: $name, cluster: {server: "https://$node_ip:6443", certificate-authority-data: $(base64 -w0 pki/ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "pki/$1.crt"), client-key-data: $(base64 -w0 "pki/$1.key")}}]
EOF
}

# --- The control plane

control_plane() {
  # An apiserver that lost its etcd waits longer and longer, up to two minutes, before it tries again.
  if ! pid_of etcd >/dev/null; then grace=2 stop apiserver; fi
  # Without fsync etcd is several times faster; a crash of the machine (not of etcd) may lose a cluster that
  # can be made anew in seconds.
  start etcd etcd --data-dir etcd --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380
  start_containerd
  await etcd "etcd is up" healthy http://127.0.0.1:2379/health

  # The request headers and the front proxy's certificate are the aggregation layer's (metrics APIs).
  start apiserver kube-apiserver --etcd-servers http://127.0.0.1:2379 \
    --bind-address $node_ip --secure-port 6443 --advertise-address $node_ip --allow-privileged \
    --service-cluster-ip-range $services --authorization-mode Node,RBAC \
    --client-ca-file pki/ca.crt --tls-cert-file pki/apiserver.crt --tls-private-key-file pki/apiserver.key \
    --service-account-issuer https://kubernetes.default.svc \
    --service-account-key-file pki/sa.pub --service-account-signing-key-file pki/sa.key \
    --kubelet-preferred-address-types InternalIP \
    --kubelet-client-certificate pki/kubelet-client.crt --kubelet-client-key pki/kubelet-client.key \
    --requestheader-client-ca-file pki/ca.crt --requestheader-allowed-names front-proxy \
    --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
    --requestheader-extra-headers-prefix X-Remote-Extra- --enable-aggregator-routing \
    --proxy-client-cert-file pki/front-proxy.crt --proxy-client-key-file pki/front-proxy.key
  await apiserver "apiserver is up" healthy https://$node_ip:6443/readyz

  start controller-manager kube-controller-manager --kubeconfig controller-manager.kubeconfig \
    --authentication-kubeconfig controller-manager.kubeconfig --authorization-kubeconfig controller-manager.kubeconfig \
    --bind-address 127.0.0.1 --leader-elect=false --use-service-account-credentials \
    --service-account-private-key-file pki/sa.key --root-ca-file pki/ca.crt \
    --cluster-cidr $pods --allocate-node-cidrs --horizontal-pod-autoscaler-sync-period 5s
  start scheduler kube-scheduler --kubeconfig scheduler.kubeconfig \
    --authentication-kubeconfig scheduler.kubeconfig --authorization-kubeconfig scheduler.kubeconfig \
    --bind-address 127.0.0.1 --leader-elect=false
}

# --- The node

start_containerd() {
  # Everything below the root, so that nothing of a cluster is left on the machine. restrict_oom_score_adj: without
  # CAP_SYS_RESOURCE, as in a sandbox, a process can not lower its own score.
  file containerd.toml <<EOF
version = 3
root = "$root/containerd/root"
state = "$root/containerd/state"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "$socket"
[plugins."io.containerd.internal.v1.opt"]
  path = "$root/containerd/opt"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "localhost/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "$root/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  Root = "$root/containerd/state/runc"
EOF
  # Pods get routed point-to-point links: unlike a bridge, these need no br_netfilter for services to work.
  file cni/10-pods.conflist <<EOF
{"cniVersion": "1.0.0", "name": "$table", "plugins": [{"type": "ptp", "ipMasq": false,
  "ipam": {"type": "host-local", "dataDir": "$root/ipam", "routes": [{"dst": "0.0.0.0/0"}],
           "ranges": [[{"subnet": "${pods%.0/*}.0/24"}]]}}]}
EOF
  start containerd containerd --config containerd.toml
}

this_node() {
  await containerd "containerd is up" ctr version
  # Over and over: an import costs nothing when the image is there.
  "$here/load.sh" "$name" "$cache/images/pause.tar"

  # cgroup v1 is refused by default; kubelet's iptables chains are for proxies other than ours.
  file kubelet.yaml <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $node_ip
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $root/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $root/pki/$node.crt
tlsPrivateKeyFile: $root/pki/$node.key
containerRuntimeEndpoint: unix://$socket
podLogsDir: $root/log/pods
volumePluginDir: $root/kubelet/volume-plugins
clusterDomain: cluster.local
clusterDNS: [$node_ip]
resolvConf: /etc/resolv.conf
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
enforceNodeAllocatable: []
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
maxPods: 110
EOF
  file kube-proxy.yaml <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: $pods
clientConnection: {kubeconfig: $root/kube-proxy.kubeconfig}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
hostnameOverride: $node
conntrack: {maxPerCore: 0}
EOF
  # CoreDNS listens on the node's address: kube-proxy drops what goes to an unassigned address of the service range.
  {
    cat <<EOF
cluster.local:53 in-addr.arpa:53 {
  bind $node_ip
  errors
  ready $node_ip:8181
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $root/admin.kubeconfig $name
    pods insecure
  }
  cache 5
}
EOF
    if grep -q '^nameserver' /etc/resolv.conf 2>/dev/null; then
      printf '.:53 {\n  bind %s\n  errors\n  forward . /etc/resolv.conf\n  cache 30\n}\n' $node_ip
    fi
  } | file Corefile
  start kubelet kubelet --config kubelet.yaml --kubeconfig $node.kubeconfig --root-dir "$root/kubelet" \
    --hostname-override $node --node-ip $node_ip
  start kube-proxy kube-proxy --config kube-proxy.yaml
  start coredns coredns -conf Corefile

  await controller-manager "controller-manager is up" healthy https://127.0.0.1:10257/healthz
  await scheduler "scheduler is up" healthy https://127.0.0.1:10259/healthz
  await coredns "coredns is up" healthy http://$node_ip:8181/ready
  await kube-proxy "kube-proxy is up" healthy http://127.0.0.1:10256/healthz
  await kubelet "kubelet is up" healthy http://127.0.0.1:10248/healthz
  await kubelet "$node is ready" kubectl wait --for=condition=Ready --timeout=1s node/$node
  # Pods are refused before it exists.
  await controller-manager "pods are admitted" kubectl get serviceaccount default
}

main "$@"
