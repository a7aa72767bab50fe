"""Print a page of a server in this pod: page.py PORT PATH."""

import http.client
import sys


def main(port: str, path: str) -> None:
    """Ask for it."""
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
    connection.request("GET", path)
    print(connection.getresponse().read().decode())


main(*sys.argv[1:])
