#!/usr/bin/env bash
# volumes.sh NAME: makes the persistent volumes local-0 to local-11 of storage class 'local' (the default class),
# and recycles those whose claim was deleted: a volume without provisioner stays Released, with its data, forever.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
count=12

select_cluster "${1:-}"
pid_of apiserver >/dev/null || die "cluster $name does not run: up.sh $name"

mapfile -t released < <(kubectl get persistentvolumes -o json |
  jq -r '.items[] | select(.spec.storageClassName == "local" and (.status.phase | IN("Released", "Failed"))) | .metadata.name')
if ((${#released[@]})); then
  kubectl delete persistentvolumes "${released[@]}" >/dev/null
  say "recycled ${released[*]}"
fi

volume() { # NUMBER
  cat <<EOF
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: local-$1}
spec:
  storageClassName: local
  capacity: {storage: 2Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  local: {path: $root/volumes/$1}
  nodeAffinity:
    required:
      nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [$node]}]}]
EOF
}

existing=$(kubectl get persistentvolumes -o name)
wanted=$(
  cat <<EOF
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: local
  annotations: {storageclass.kubernetes.io/is-default-class: "true"}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
EOF
  for ((i = 0; i < count; i++)); do
    if grep -qx "persistentvolume/local-$i" <<<"$existing"; then continue; fi
    # A new volume is empty, and belongs to the user that the project's images run as.
    mkdir -p "$root/volumes/$i"
    find "$root/volumes/$i" -mindepth 1 -delete
    chown 65532:65532 "$root/volumes/$i"
    chmod 0770 "$root/volumes/$i"
    volume "$i"
  done
)
kubectl apply -f - >/dev/null <<<"$wanted"
say "volumes are ready"
