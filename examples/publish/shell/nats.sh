#!/usr/bin/env bash
# Publishes to every tab of a user, by the nats CLI: raw, with headers, as a CloudEvent. With --jetstream it ends when the
# log has the event. Usage: ./nats.sh nats://127.0.0.1:4222
set -euo pipefail
# Every byte but A–Z a–z 0–9 - _ is %XX in a subject.
token() { jq -rn --arg id "$1" '$id | @uri | gsub("[.]"; "%2E") | gsub("~"; "%7E")'; }
publish() { nats --server "$url" pub --jetstream "sse.acme.user.$(token alice@example.com)" "$@"; }

url=$1
publish '{"orderId":42}'
publish '{"orderId":42}' --header Sse-Event:order.shipped --header Nats-Msg-Id:acme:order-42-shipped
publish '{"specversion":"1.0","id":"42","source":"/shop","type":"order.paid","data":{"orderId":42}}' \
  --header Content-Type:application/cloudevents+json
