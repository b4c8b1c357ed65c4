"""Publishes to every tab of a user: raw, with headers, as a CloudEvent. Usage: python publish.py nats://127.0.0.1:4222"""
import asyncio
import sys
from urllib.parse import quote

import nats

# Every byte but A–Z a–z 0–9 - _ is %XX in a subject.
user = quote("alice@example.com", safe="").replace(".", "%2E").replace("~", "%7E")
cloud = b'{"specversion":"1.0","id":"42","source":"/shop","type":"order.paid","data":{"orderId":42}}'

async def main(url: str, subject: str = f"sse.acme.user.{user}", order: bytes = b'{"orderId":42}') -> None:
    async with await nats.connect(url) as connection:
        log = connection.jetstream()  # each publish returns when the log has the event
        await log.publish(subject, order)
        await log.publish(subject, order, headers={"Sse-Event": "order.shipped", "Nats-Msg-Id": "acme:order-42-shipped"})
        await log.publish(subject, cloud, headers={"Content-Type": "application/cloudevents+json"})

asyncio.run(main(sys.argv[1]))
