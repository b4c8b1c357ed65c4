"""Serves the pages of the use cases, the client that they import, and, in place of a login, JWTs. For `make dev`: on
loopback, and with a key that nobody else has.

Usage: JWT_KEY=… serve.py PORT GATEWAY
"""

import base64
import hashlib
import hmac
import json
import os
import re
import sys
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

HERE = Path(__file__).resolve().parent
CLIENT = HERE.parent / "clients/js/dist"
#: The back end of every use case.
SERVICE = "service"


def sign(claims: dict) -> str:
    """A JWT, as an identity provider would make it."""
    encode = lambda part: base64.urlsafe_b64encode(part).rstrip(b"=")
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    unsigned = b".".join(map(encode, parts))
    key = os.environ["JWT_KEY"].encode()
    return (unsigned + b"." + encode(hmac.digest(key, unsigned, hashlib.sha256))).decode()


def session(user: str) -> dict:
    """What a page is told of who signed in: any user of acme, who may read all topics and write in rooms."""
    publish = [">"] if user == SERVICE else ["topic.room.*"]
    claims = {"iss": "demo", "sub": user, "tenant": "acme", "exp": int(time.time()) + 3600}
    return {"gateway": sys.argv[2], "jwt": sign(claims | {"topics": [">"], "publish": publish})}


class Pages(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        # Not for a page of another name that was pointed here.
        if self.headers.get("Host") not in self.server.hosts:
            return self.send_error(403)
        url = urlsplit(self.path)
        if url.path != "/session":
            return super().do_GET()
        body = json.dumps(session(parse_qs(url.query).get("user", ["alice"])[0])).encode()
        self.send_response(200)
        for name, value in ("Content-Type", "application/json"), ("Cache-Control", "no-store"):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def translate_path(self, path: str) -> str:
        name = urlsplit(path).path
        if re.fullmatch(r"/client/\w+\.js", name):
            return str(CLIENT / Path(name).name)
        return super().translate_path(path)

    def log_message(self, *_: object) -> None:
        """The gateway's log is what one wants to see."""


port = int(sys.argv[1])
server = ThreadingHTTPServer(("127.0.0.1", port), lambda *a: Pages(*a, directory=str(HERE)))
server.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
server.serve_forever()
