"""The PyPI package `httpx-sse`: the JWT as Bearer, and the last id in the header when it comes back.

Prints what it sees. Usage: JWT=… httpx_client.py BASE 1|2, where 2 is HTTP/2 without TLS.
"""

import json
import os
import sys
import time

import h2.exceptions
import httpx
from httpx_sse import SSEError, connect_sse

base, version = sys.argv[1:]
headers = {"Authorization": f"Bearer {os.environ['JWT']}"}
with httpx.Client(http1=version == "1", http2=version == "2", timeout=httpx.Timeout(5, read=None)) as client:
    while True:
        try:
            with connect_sse(client, "GET", f"{base}/stream", headers=headers) as source:
                assert source.response.http_version == f"HTTP/{'1.1' if version == '1' else '2'}"
                for event in source.iter_sse():
                    headers["Last-Event-ID"] = event.id
                    print(json.dumps({"type": event.event, "id": event.id, "data": event.data}), flush=True)
        # To h2, PING after GOAWAY is an error: python-hyper/h2#1199.
        except (httpx.TransportError, h2.exceptions.ProtocolError, SSEError) as error:
            print(error, file=sys.stderr, flush=True)
            time.sleep(0.1)
