"""The pages of `asgi_origin` that Python's clients ask for, served by aiohttp."""

import hashlib
import json
import sys

from aiohttp import web

DIFFERENT = frozenset(("host", "connection", "x-forwarded-client-cert", "x-request-id"))
FRAMING = {"content-length": 1, "transfer-encoding": 2}


async def echo(request: web.Request) -> web.Response:
    body = await request.read()
    headers = [pair for pair in request.headers.items() if pair[0].lower() not in DIFFERENT]
    headers.sort(key=lambda pair: FRAMING.get(pair[0].lower(), 0))
    asked = {
        "method": request.method,
        "query": request.raw_path.partition("?")[2],
        "headers": headers,
        "size": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    response = web.Response(body=json.dumps(asked).encode())
    response.headers.add("Set-Cookie", "a=1")
    response.headers.add("Set-Cookie", "b=2; Path=/")
    return response


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(64):
        await response.write(bytes([number]) * 16384)
    await response.write_eof()
    return response


async def empty(_: web.Request) -> web.Response:
    return web.Response(status=204)


async def redirect(_: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "/echo?moved"})


pages = web.Application(client_max_size=1 << 24)
pages.router.add_route("*", "/echo", echo)
pages.router.add_get("/stream", stream)
pages.router.add_get("/empty", empty)
pages.router.add_get("/redirect", redirect)
web.run_app(pages, port=int(sys.argv[1]), print=None)
