"""An application's server: says who has called it, and can hold a response half sent until SIGUSR1; SIGTERM lets it end its work."""

import json
import os
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RELEASED = threading.Event()


class Origin(BaseHTTPRequestHandler):
    """Tell the caller what arrived."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        told = {"headers": dict(self.headers), "client": self.client_address[0], "uid": os.getuid()}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        half = len(body) // 2
        self.wfile.write(body[:half])
        if self.path == "/held":
            RELEASED.wait()
        self.wfile.write(body[half:])


class Server(ThreadingHTTPServer):
    """Serves both families, and ends only when each of its responses is sent."""

    address_family = socket.AF_INET6
    daemon_threads = False


def main() -> None:
    """Serve until SIGTERM."""
    server = Server(("::", 8000), Origin)

    def leave(*_: object) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGUSR1, lambda *_: RELEASED.set())
    server.serve_forever()
    server.server_close()


main()
