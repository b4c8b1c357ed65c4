"""Publishes one event, in a span that the deliveries of the event are linked to, and prints its sequence.

Usage: OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 publish.py nats://nats:4222 sse.acme.all data
"""

import asyncio
import sys

import nats
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

ABOUT = {"messaging.system": "nats", "messaging.operation.type": "send"}


async def publish(url: str, subject: str, data: str) -> int:
    connection = await nats.connect(url, allow_reconnect=False)
    tracer = trace.get_tracer("shop")
    with tracer.start_as_current_span("order.publish", kind=trace.SpanKind.PRODUCER, attributes=ABOUT):
        headers: dict[str, str] = {}
        propagate.inject(headers)  # traceparent, by W3C Trace Context
        stored = await connection.jetstream().publish(subject, data.encode(), headers=headers)
    await connection.close()
    return stored.seq


provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
print(asyncio.run(publish(*sys.argv[1:])))
provider.shutdown()  # exports what waits
