#!/usr/bin/env bash
# peers.sh: makes what the gateway is measured beside: Mercure and nats-server from their Go modules, nchan from Debian.
# Nothing of it is installed into the system: Debian's packages are unpacked into the cache, and no service begins.
# One folder is the exception: nchan has nginx make Debian's temporary folders, whatever its configuration says.
set -euo pipefail
# shellcheck source=../tests/install/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../tests/install/lib.sh"

"$tests/cluster/toolbox/build.sh" nats-server mercure >/dev/null

if ! mkdir -p /var/lib/nginx 2>/dev/null; then
  echo 'peers.sh: /var/lib/nginx can not be made: nchan is not measured' >&2
  exit
fi
nchan=$cache/nchan
if [[ -x $nchan/usr/sbin/nginx && -f $nchan/usr/lib/nginx/modules/ngx_nchan_module.so ]]; then exit; fi
if ! command -v apt-get >/dev/null; then
  echo 'peers.sh: no Debian: nchan is not measured' >&2
  exit
fi
echo 'unpacking nginx and nchan' >&2
mkdir -p "$cache"
folder=$(mktemp -d "$cache/nchan.XXXXXX")
trap 'rm -rf "$folder"' EXIT
unpack "$folder/root" echo nginx libnginx-mod-nchan
rm -rf "$nchan"
mv "$folder/root" "$nchan"
