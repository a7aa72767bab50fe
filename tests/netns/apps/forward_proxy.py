"""A forward proxy that tells what it was asked instead of asking anybody: `forward_proxy.py PORT`."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Tell(BaseHTTPRequestHandler):
    """Answer with the request line and the Host."""

    def do_GET(self) -> None:
        told = f"{self.requestline} for {self.headers['Host']}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)


HTTPServer(("", int(sys.argv[1])), Tell).serve_forever()
