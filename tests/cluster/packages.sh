#!/usr/bin/env bash
# packages.sh [tests]: installs the Debian packages that the node and the images need, and those that only tests need; only
# when something is missing.
set -euo pipefail

missing=()
need() { # PACKAGE TEST...: the package unless the test succeeds
  if ! "${@:2}" &>/dev/null; then missing+=("$1"); fi
}
# A user's PATH may lack the directories of system tools.
PATH=$PATH:/usr/sbin:/sbin

need runc command -v runc
need containernetworking-plugins test -x /usr/lib/cni/ptp
need nftables command -v nft
need iproute2 command -v ip
need iptables command -v iptables
need conntrack command -v conntrack
need buildah command -v buildah
need openssl command -v openssl
need ca-certificates test -s /etc/ssl/certs/ca-certificates.crt
need curl command -v curl
need jq command -v jq
need gcc command -v cc
need libc6-dev sh -c 'echo "int main(void) { return 0; }" | cc -static -x c -o /dev/null -'
need binutils command -v readelf
if [[ ${1:-} == tests ]]; then
  need nodejs command -v node
  need npm command -v npm
  need python3-venv python3 -c 'import ensurepip'
  need chromium command -v chromium
  need default-jdk-headless command -v javac
  need slowhttptest command -v slowhttptest
fi

if ((${#missing[@]} == 0)); then exit; fi
if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
  printf 'packages.sh: missing: %s\n' "${missing[*]}" >&2
  echo 'Install them (the names are Debian'\''s), or run this as root on Debian.' >&2
  exit 1
fi

printf 'installing %s\n' "${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}" >&2; }
# The lists of a fresh machine may be empty or old.
install || { apt-get update >&2 && install; }
