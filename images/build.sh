#!/usr/bin/env bash
# build.sh OUTDIR [IMAGE...]: writes OUTDIR/IMAGE.tar (docker-archive, localhost/IMAGE:$TAG, TAG is 'dev' by default)
# without Docker or a registry, from each image's Dockerfile and binaries that are already there. Images: sse-gateway,
# sse-operator and nats (these by default), prometheus, prometheus-adapter, pause. PROFILE_DIR: where cargo put the binaries, unless target/<host>/release.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/.." && pwd)
version=$(awk -F'"' '/^version = / {print $2; exit}' "$repository/Cargo.toml")

die() { printf 'images/build.sh: %s\n' "$*" >&2; exit 1; }

(($#)) || die "usage: build.sh OUTDIR [IMAGE...]"
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
if ((!$#)); then set -- sse-gateway sse-operator nats; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Storage of its own: nothing is left on the machine, and two runs do not meet.
buildah() { command buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }

cargo_binary() { # NAME
  local profile=${PROFILE_DIR:-}
  if [[ -z $profile ]]; then
    profile=${CARGO_TARGET_DIR:-$repository/target}/$(rustc -vV | sed -n 's/^host: //p')/release
  fi
  [[ -x $profile/$1 ]] || die "$profile/$1 is missing: cargo build --release --locked -p $1"
  echo "$profile/$1"
}

fill() { # IMAGE DIRECTORY: what the Dockerfile's stage 'build' would leave in /rootfs
  local tools binary
  # Without an entry for its user the kubelet would run a container with group 0.
  install -D -m 644 "$here/passwd" "$2/etc/passwd"
  case $1 in
    sse-gateway | sse-operator)
      binary=$(cargo_binary "$1")
      install -D -t "$2" "$binary"
      # The authorities that this machine trusts.
      install -D -m 644 -t "$2/etc/ssl/certs" /etc/ssl/certs/ca-certificates.crt
      ;;
    nats)
      tools=$("$repository/tests/cluster/toolbox/build.sh" nats-server nats-pub nats-sub nats-req)
      install -D -t "$2" "$tools"/nats-{server,pub,sub,req}
      ;;
    prometheus | prometheus-adapter)
      tools=$("$repository/tests/cluster/toolbox/build.sh" "$1")
      install -D -t "$2" "$tools/$1"
      ;;
    pause)
      cc -static -O2 -o "$2/pause" "$here/pause/pause.c"
      ;;
    *) die "no image '$1'" ;;
  esac
}

for image; do
  tag=${TAG:-dev}
  # The node's configuration names it.
  if [[ $image == pause ]]; then tag=1; fi
  context=$work/$image
  fill "$image" "$context/rootfs"
  while read -r -d '' binary; do
    if readelf -lW "$binary" | grep -q INTERP; then
      die "${binary##*/} is linked dynamically and can not run in an image from scratch (see .cargo/config.toml)"
    fi
  done < <(find "$context/rootfs" -type f -perm -100 -print0)

  archive=$out/$image.tar
  inputs=$(cd "$context" && { echo "$tag $version"; cat "$here/$image/Dockerfile"; find . -type f -print0 | sort -z | xargs -0 sha256sum; } | sha256sum)
  if [[ -f $archive && -f $archive.inputs && $(<"$archive.inputs") == "$inputs" ]]; then
    printf '%s is up to date\n' "$archive" >&2
    continue
  fi
  # The named context stands in for the stage 'build', which buildah then skips. A fixed time makes equal inputs equal images.
  mkdir -p "$work/empty"
  buildah bud --quiet --isolation chroot --timestamp 0 --build-context "build=$context" --build-arg "VERSION=$version" \
    --tag "localhost/$image:$tag" --file "$here/$image/Dockerfile" "$work/empty" >/dev/null
  rm -f "$archive.inputs" "$archive.$$"
  buildah push --quiet "localhost/$image:$tag" "docker-archive:$archive.$$:localhost/$image:$tag" >&2
  mv "$archive.$$" "$archive"
  printf '%s\n' "$inputs" >"$archive.inputs"
  printf 'wrote %s: localhost/%s:%s\n' "$archive" "$image" "$tag" >&2
done
