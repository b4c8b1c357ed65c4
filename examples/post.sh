# shellcheck shell=bash
# post SUBJECT TYPE DATA [OPTION OF CURL...]: publishes as a back end would, to the gateway of `make dev`; the event's id.
session=$(curl -fsS --noproxy '*' "${PAGES:-http://127.0.0.1:8000}/session?user=service")
post() {
  curl -fsS --noproxy '*' "$(jq -r .gateway <<<"$session")/events" -H "Authorization: Bearer $(jq -r .jwt <<<"$session")" \
    -H "Sse-Subject: $1" -H "Sse-Event: $2" -d "$3" "${@:4}" | jq -r .id
}
