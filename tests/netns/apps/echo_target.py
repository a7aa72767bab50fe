"""An HTTP/1 origin that answers with the request target exactly as it received it.

echo_target.py PORT
"""

import sys

import trio


async def serve(stream: trio.SocketStream) -> None:
    """Answer request after request with their targets; bodies are not expected."""
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            part = await stream.receive_some(65536)
            if not part:
                return
            data += part
        head, _, data = data.partition(b"\r\n\r\n")
        target = head.split(b" ", 2)[1]
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(target) + target
        )


trio.run(trio.serve_tcp, serve, int(sys.argv[1]))
