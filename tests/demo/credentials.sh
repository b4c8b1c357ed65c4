# What a demo needs of an identity provider and of a client, in shell.
# shellcheck shell=bash

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

sign() { # KEY TENANT USER SECONDS [MORE]: a JWT of the issuer "demo", with more claims
  local unsigned
  unsigned=$(printf '{"alg":"HS256","typ":"JWT"}' | base64url).$(
    printf '{"iss":"demo","sub":"%s","tenant":"%s","exp":%d%s}' "$3" "$2" $(($(date +%s) + $4)) "${5:-}" | base64url)
  echo "$unsigned.$(printf %s "$unsigned" | openssl dgst -sha256 -mac HMAC -macopt "key:$1" -binary | base64url)"
}

mint() { # BASE-URL JWT: a single-use token
  curl -fsS -X POST -H "Authorization: Bearer $2" "$1/token" | cut -d '"' -f 4
}

within() { # SECONDS WHAT COMMAND...: what the command prints once it succeeds
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" 2>/dev/null; do
    ((SECONDS < deadline)) || { echo "gave up waiting for $what" >&2; return 1; }
    sleep 0.2
  done
}
