#!/usr/bin/env bash
# install.sh: nginx as Debian ships it, for the tests that look through a proxy. It is unpacked into the cache, so that no
# service begins; where the machine has one, that is taken. The last line of stdout is the binary.
set -euo pipefail
# shellcheck source=../install/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../install/lib.sh"
nginx=$cache/nginx

lock nginx
if [[ ! -x $nginx/usr/sbin/nginx ]]; then
  folder=$(mktemp -d "$cache/nginx.XXXXXX")
  trap 'rm -rf "$folder"' EXIT
  if found=$(PATH=$PATH:/usr/sbin command -v nginx); then
    mkdir -p "$folder/root/usr/sbin"
    ln -s "$found" "$folder/root/usr/sbin/nginx"
  else
    printf 'unpacking nginx\n' >&2
    unpack "$folder/root" echo nginx
  fi
  rm -rf "$nginx"
  mv "$folder/root" "$nginx"
fi
printf '%s\n' "$nginx/usr/sbin/nginx"
