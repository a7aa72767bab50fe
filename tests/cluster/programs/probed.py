"""An application that kubelets probe: it is well, but for what a file `no-WORD` in /state says of the path /WORD."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

STATE = Path("/state")


class Probed(BaseHTTPRequestHandler):
    """Say how it is."""

    def do_GET(self) -> None:
        ill = (STATE / f"no-{self.path.strip('/')}").exists()
        self.send_response(503 if ill else 200)
        self.send_header("content-length", "0")
        self.end_headers()


for each in STATE.glob("no-*"):
    each.unlink()
ThreadingHTTPServer(("", int(sys.argv[1])), Probed).serve_forever()
