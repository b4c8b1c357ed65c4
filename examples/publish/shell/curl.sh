#!/usr/bin/env bash
# Publishes to every tab of a user, over HTTP: raw, with headers, as a CloudEvent. curl ends when the log has the event.
# Usage: JWT=… ./curl.sh http://127.0.0.1:8080/api/v1/sse/events
set -euo pipefail
# Every byte but A–Z a–z 0–9 - _ is %XX in a subject.
token() { jq -rn --arg id "$1" '$id | @uri | gsub("[.]"; "%2E") | gsub("~"; "%7E")'; }
# The tenant is the credential's.
post() { curl -fsS "$url" -H "Authorization: Bearer $JWT" -H "Sse-Subject: user.$(token alice@example.com)" "$@"; }

url=$1
post -d '{"orderId":42}'
post -d '{"orderId":42}' -H 'Sse-Event: order.shipped' -H 'Nats-Msg-Id: order-42-shipped'
post -d '{"specversion":"1.0","id":"42","source":"/shop","type":"order.paid","data":{"orderId":42}}' \
  -H 'Content-Type: application/cloudevents+json'
