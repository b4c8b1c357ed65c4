#!/usr/bin/env bash
# jnats.sh [FOLDER]: fetches NATS' client for Java from Maven Central, checked by its digest. What is there stays. The last
# line of stdout is the jar. A project of Maven or Gradle asks for io.nats:jnats:2.26.2.
set -euo pipefail
version=2.26.2 digest=0deaf67bc6c69ed0cf3af915c7fe2dde2c3f66d996c32c218e2c1146a106b0ae
jar=${1:-.}/jnats-$version.jar
check() { printf '%s  %s\n' "$digest" "$1" | sha256sum --check --status; }

if ! [[ -f $jar ]] || ! check "$jar"; then
  curl -fsSL --retry 3 -o "$jar.new" "https://repo1.maven.org/maven2/io/nats/jnats/$version/jnats-$version.jar"
  check "$jar.new" || { echo "jnats.sh: not the jar that was pinned" >&2; exit 1; }
  mv -f "$jar.new" "$jar"
fi
printf '%s\n' "$jar"
