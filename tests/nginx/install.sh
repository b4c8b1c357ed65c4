#!/usr/bin/env bash
# install.sh: nginx as Debian ships it, for the tests that look through a proxy. It is unpacked into the cache, so that no
# service begins; where the machine has one, that is taken. The last line of stdout is the binary.
set -euo pipefail
cache=${SSE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sse-gateway}
nginx=$cache/nginx

die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

mkdir -p "$cache"
exec 9>"$cache/.nginx.lock"
flock 9
if [[ ! -x $nginx/usr/sbin/nginx ]]; then
  folder=$(mktemp -d "$cache/nginx.XXXXXX")
  trap 'rm -rf "$folder"' EXIT
  if found=$(PATH=$PATH:/usr/sbin command -v nginx); then
    mkdir -p "$folder/root/usr/sbin"
    ln -s "$found" "$folder/root/usr/sbin/nginx"
  else
    command -v apt-get >/dev/null || die "no nginx, and no Debian to take it from"
    printf 'unpacking nginx\n' >&2
    fetch() { (cd "$folder" && apt-get download nginx >&2); }
    # The lists of a fresh machine may be empty or old.
    fetch || { apt-get update >&2 && fetch; }
    dpkg -x "$folder"/nginx_*.deb "$folder/root"
  fi
  rm -rf "$nginx"
  mv "$folder/root" "$nginx"
fi
printf '%s\n' "$nginx/usr/sbin/nginx"
