"""Origins of one service: `v1:8081 v2:8082` serves each version at its port, which answers its name and does as it is told.

PUT /mood takes `{"status": 503, "delay": 0.2, "failures": 3}`: what to answer, how late, and how often before all is well
again. GET /seen gives the heads of all requests but these.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6, socket
from typing import Any


class Origin(ThreadingHTTPServer):
    """One version. What changes: its mood, and what it has seen."""

    address_family = AF_INET6
    request_queue_size = 128

    def __init__(self, name: str, port: int) -> None:
        super().__init__(("::", port), Answer)
        self.name = name
        self.mood: dict[str, Any] = {}
        self.seen: list[dict[str, str]] = []
        self.lock = threading.Lock()

    def answer(self, head: dict[str, str]) -> tuple[int, float]:
        """Say what the next request is answered, and how late."""
        with self.lock:
            self.seen.append(head)
            status, failures = self.mood.get("status", 200), self.mood.get("failures")
            if failures is not None:
                status = status if failures > 0 else 200
                self.mood["failures"] = failures - 1
            return status, self.mood.get("delay", 0.0)

    def handle_error(self, request: socket, client_address: object) -> None:  # type: ignore[override]
        """Say nothing of clients that have left."""


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Origin

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/seen":
            self._send(200, json.dumps(self.server.seen).encode())
            return
        head = {name.lower(): value for name, value in self.headers.items()}
        at = f"{time.monotonic():.4f}"
        asked = {**head, ":path": self.path, ":method": self.command, ":at": at}
        status, delay = self.server.answer(asked)
        time.sleep(delay)  # noqa: TID251 - a thread of its own
        self._send(status, self.server.name.encode() + b" " + body)

    do_POST = do_GET  # noqa: N815 - http.server's own word

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.mood = json.loads(body)
        self._send(200, b"")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Version", self.server.name)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


versions = [each.split(":") for each in sys.argv[1:]]
origins = [Origin(name, int(port)) for name, port in versions]
for origin in origins[1:]:
    threading.Thread(target=origin.serve_forever, daemon=True).start()
origins[0].serve_forever()
