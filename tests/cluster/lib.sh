# Shared by the scripts of this folder: where things are, how processes are recorded, how a node is stopped.
# shellcheck shell=bash disable=SC2034
shopt -s inherit_errexit
export LC_ALL=C
# A user's PATH may lack the directories of system tools.
PATH=$PATH:/usr/sbin:/sbin
# Scripts that one of them calls keep its clock.
export SSE_BEGAN=${SSE_BEGAN:-${EPOCHREALTIME/./}}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SSE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sse-gateway}
bin=$cache/bin
clusters=${SSE_CLUSTER_ROOT:-/var/tmp/sse-gateway}
# The bridge, the addresses and the ports are the machine's, so one cluster runs at a time: this file names its root.
running=/run/sse-gateway-cluster
boot=$(</proc/sys/kernel/random/boot_id)

node=node1
node_ip=10.250.0.1
pods=10.244.0.0/16
services=10.96.0.0/16
bridge=sse-node
table=sse-cluster

# What the node is made of.
node_tools=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl
  containerd containerd-shim-runc-v2 ctr coredns)

say() { # TEXT...: one line of progress, with the seconds since the script began
  local tenths=$(((${EPOCHREALTIME/./} - SSE_BEGAN) / 100000))
  printf '[%3d.%ds] %s\n' $((tenths / 10)) $((tenths % 10)) "$*" >&2
}

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

select_cluster() { # NAME: sets the paths of that cluster
  [[ ${1:-} == demo || ${1:-} == test ]] || die "the cluster is 'demo' or 'test', not '${1:-}'"
  # The path goes into configuration files and sockets (108 bytes at most), unquoted.
  [[ $clusters =~ ^/[A-Za-z0-9._/-]{1,60}$ ]] || die "SSE_CLUSTER_ROOT must be a short absolute path of plain characters"
  name=$1
  root=$clusters/$1
  socket=$root/containerd/containerd.sock
  kubeconfig=$root/admin.kubeconfig
}

lock_machine() {
  ((EUID == 0)) || die "needs root: a node makes network namespaces, mounts and cgroups"
  exec 9>"$running.lock"
  flock -n 9 || { say "waiting for another up.sh or down.sh"; flock 9; }
}

# kind is preferred where it can be used: it is what most people have.
kind_here() { command -v kind >/dev/null && command -v docker >/dev/null && docker info &>/dev/null; }

kubectl() { "$bin/kubectl" --kubeconfig "$kubeconfig" --request-timeout=10s "$@"; }
ctr() { "$bin/ctr" -a "$socket" -n k8s.io "$@"; }

# --- Processes: each is recorded as "pid, start time, boot", for a bare pid may belong to another process by now.

start_time() { # PID: of a living process
  local stat fields
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  # Field 2 is the name in brackets and may hold blanks; what follows it begins with field 3, the state.
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != [ZX] ]] && echo "${fields[19]}"
}

pid_of() { # NAME: the recorded process, if it lives
  local pid start on
  read -r pid start on 2>/dev/null <"$root/run/$1.pid" || return 1
  [[ $on == "$boot" && $(start_time "$pid") == "$start" ]] && echo "$pid"
}

record() { # NAME PID
  echo "$2 $(start_time "$2" || echo ended) $boot" >"$root/run/$1.pid"
}

finish() { # SECONDS PID...: waits for processes that were told to end, kills what does not
  local deadline=$((SECONDS + $1)) pid start
  for pid in "${@:2}"; do
    start=$(start_time "$pid") || continue
    while [[ $(start_time "$pid") == "$start" ]]; do
      if ((SECONDS >= deadline)); then kill -KILL "$pid" 2>/dev/null || true; fi
      sleep 0.05
    done
  done
}

stop() { # NAME...: ends recorded processes, together; after $grace seconds by force
  local each pid pids=() names=()
  for each; do
    if pid=$(pid_of "$each") && kill "$pid" 2>/dev/null; then pids+=("$pid") names+=("$each"); fi
  done
  if ((${#pids[@]})); then
    finish "${grace:-20}" "${pids[@]}"
    say "stopped ${names[*]}"
  fi
  for each; do rm -f "$root/run/$each.pid"; done
}

# --- What containerd started: known by its task directories and by its socket on the shims' command lines.

containers() { # the first process of each container, also when its shim was killed
  local task pid
  for task in "$root"/containerd/state/io.containerd.runtime.v2.task/k8s.io/*; do
    { pid=$(<"$task/init.pid"); } 2>/dev/null || continue
    if grep -q "${task##*/}" "/proc/$pid/cgroup" 2>/dev/null; then echo "$pid"; fi
  done
}

shims() {
  local process arguments argument
  for process in /proc/[0-9]*; do
    { mapfile -d '' -t arguments <"$process/cmdline"; } 2>/dev/null || continue
    [[ ${arguments[0]:-} == *containerd-shim-runc-v2 ]] || continue
    for argument in "${arguments[@]}"; do
      if [[ $argument == "$socket" ]]; then echo "${process##*/}"; fi
    done
  done
}

stop_containers() {
  local task pids shim_pids sockets
  mapfile -t pids < <(containers)
  if ((${#pids[@]})); then
    kill "${pids[@]}" 2>/dev/null || true
    finish 5 "${pids[@]}"
    say "stopped ${#pids[@]} containers"
  fi
  # Shims and CNI leave files in directories of the machine.
  mapfile -t sockets < <(cat "$root"/containerd/state/io.containerd.runtime.v2.task/k8s.io/*/bootstrap.json 2>/dev/null |
    grep -o '/run/containerd/s/[0-9a-f]*')
  for task in "$root"/containerd/state/io.containerd.runtime.v2.task/k8s.io/*; do
    rm -f "/var/lib/cni/results/"*"-${task##*/}-"*
  done
  mapfile -t shim_pids < <(shims)
  if ((${#shim_pids[@]})); then
    kill -KILL "${shim_pids[@]}" 2>/dev/null || true
    finish 5 "${shim_pids[@]}"
  fi
  if ((${#sockets[@]})); then rm -f "${sockets[@]}"; fi
}

mounts() { # below the root, deepest first
  local mount
  while read -r _ _ _ _ mount _; do
    if [[ $mount == "$root"/* ]]; then printf '%b\n' "$mount"; fi
  done </proc/self/mountinfo | sort -r
}

unmount() {
  local mount
  while read -r mount; do umount "$mount" 2>/dev/null || umount -l "$mount"; done < <(mounts)
}

# --- The network of the node: a bridge that holds its address, and masquerading for pods.

network_up() {
  [[ -e $root/run/ip_forward ]] || cat /proc/sys/net/ipv4/ip_forward >"$root/run/ip_forward"
  echo 1 >/proc/sys/net/ipv4/ip_forward
  ip link show "$bridge" &>/dev/null || ip link add "$bridge" type bridge
  ip address replace "$node_ip/24" dev "$bridge"
  ip link set "$bridge" up
  # Not the CNI plugin's ipMasq: its chains would outlive pods that are killed.
  nft -f - <<EOF
table ip $table
delete table ip $table
table ip $table {
  chain postrouting {
    type nat hook postrouting priority srcnat
    ip saddr $pods ip daddr != { $pods, $node_ip } masquerade
  }
}
EOF
}

network_down() {
  ip link delete "$bridge" 2>/dev/null || true
  local each
  for each in "ip $table" "ip kube-proxy" "ip6 kube-proxy"; do
    # shellcheck disable=SC2086
    nft delete table $each 2>/dev/null || true
  done
  if [[ -s $root/run/ip_forward ]]; then cat "$root/run/ip_forward" >/proc/sys/net/ipv4/ip_forward; fi
  rm -f "$root/run/ip_forward"
}

stop_cluster() { # everything of this cluster that lives outside its files; also mends what a crash left
  if [[ ! -d $root/run ]]; then return; fi
  stop kubelet kube-proxy coredns scheduler controller-manager
  stop_containers
  stop containerd apiserver
  stop etcd
  unmount
  # To containerd and the CNI plugins a stopped cluster looks like a machine that was switched off:
  # no tasks, no namespaces, no addresses in use.
  rm -rf "$root/containerd/state" "$root/ipam"
  find /var/log/containers -lname "$root/*" -delete 2>/dev/null || true
  if [[ -e $running && $(<"$running") == "$root" ]]; then
    network_down
    # Only empty cgroups can be removed.
    find /sys/fs/cgroup/kubepods /sys/fs/cgroup/*/kubepods -depth -type d -exec rmdir {} + 2>/dev/null || true
    rm -f "$running"
    say "cluster $name is stopped"
  fi
  rm -f "$root/run/boot"
}

purge() {
  unmount
  [[ -z $(mounts) ]] || die "there are still mounts below $root"
  rm -rf --one-file-system "$root"
  say "cluster $name is deleted"
}
