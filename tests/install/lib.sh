# Shared by the scripts that install what the tests look with, pinned beside them: where it goes, and how a folder is made
# anew when what it is made of has changed. Only packages.sh installs anything into the system.
# shellcheck shell=bash disable=SC2034
here=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${SSE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sse-gateway}

die() {
  printf '%s: %s\n' "$0" "$*" >&2
  exit 1
}

packages() { "$tests/cluster/packages.sh" "$@"; }

python_packages() {
  # Debian has what a virtual environment begins with in a package of its own.
  python3 -c 'import ensurepip' 2>/dev/null || packages tests
}

lock() { # NAME: one at a time
  mkdir -p "$cache"
  exec 9>"$cache/.$1.lock"
  flock 9
}

outdated() { # FOLDER FILE...: whether it was made of other files, by other tools, or not to the end
  inputs=$({ node --version 2>/dev/null || true; python3 -VV; cat "${@:2}"; printf '%s\n' "$1"; } | sha256sum)
  if [[ -f $1/.sha256 && $(<"$1/.sha256") == "$inputs" ]]; then return 1; fi
  printf 'installing into %s\n' "$1" >&2
}

complete() { printf '%s\n' "$inputs" >"$1/.sha256"; } # FOLDER: that was outdated

npm_ci() { # FOLDER with a package-lock.json
  (cd "$1" && npm ci --silent --ignore-scripts --no-audit --no-fund) >&2 || die "npm could not install package-lock.json"
}

venv() { # FOLDER
  python3 -m venv "$1" >&2 || die "python3 makes no virtual environment"
}

pip_install() { # VENV FILE OPTION...: all that is needed is in the file
  "$1/bin/pip" install --quiet --disable-pip-version-check --no-input --no-deps "${@:3}" --requirement "$2" >&2 ||
    die "the packages of ${2##*/} can not be had"
}

npm_and_pip() { # FOLDER: of the package-lock.json and the requirements.txt beside the script
  packages tests
  lock "${1##*/}"
  if outdated "$1" "$here"/package*.json "$here/requirements.txt"; then
    rm -rf "$1"
    mkdir "$1"
    cp "$here"/package*.json "$1"
    npm_ci "$1"
    venv "$1/python"
    pip_install "$1/python" "$here/requirements.txt" --only-binary :all:
    "$1/python/bin/pip" check >&2 || die "requirements.txt lacks a package"
    complete "$1"
  fi
}

unpack() { # FOLDER COMMAND...: the Debian packages that it names, checked by apt and unpacked, so that no service begins
  local folder=$1 package
  shift
  command -v apt-get >/dev/null || die "no Debian to take this from: ${*: -1}"
  mkdir -p "$folder"
  # shellcheck disable=SC2046
  fetch() { (cd "$folder" && apt-get download $("$@") >&2); }
  # The lists of a fresh machine may be empty or old.
  fetch "$@" || { apt-get update >&2 && fetch "$@"; } || die "this can not be had: ${*: -1}"
  for package in "$folder"/*.deb; do dpkg -x "$package" "$folder"; done
  rm "$folder"/*.deb
}
