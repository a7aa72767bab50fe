"""The clients and servers that applications are made of see the same through two sidecars as they see without any."""

import hashlib
import json
import re
import sys
from pathlib import Path

import pytest
import trustme

from fakes.mesh import APPS, ROOT, Mesh
from fakes.two_ways import both_ways, logged, python, same

pytestmark = pytest.mark.netns

PORT = 8080
ORIGIN = f"http://server:{PORT}"
MEBIBYTE = bytes(range(256)) * 4096

NGINX = """
daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
    types {{ text/plain txt; }}
    server {{
        listen [::]:{port} ipv6only=off;
        root {root}/pages;
        gzip on; gzip_types text/plain; gzip_min_length 100;
        location /closing/ {{ alias {root}/pages/; keepalive_timeout 0; }}
    }}
}}
"""
PIPELINE = (
    r"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    r"GET /redirect HTTP/1.1\r\nHost: a\r\n\r\n"
    r"GET /empty HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
)
TEXT = "".join(f"line {number}\n" for number in range(20_000)).encode()


async def serve_asgi(mesh: Mesh) -> None:
    """Have hypercorn serve `asgi_origin`, in HTTP/1.1 and HTTP/2."""
    hypercorn = [sys.executable, "-m", "hypercorn", "-w0", "-k", "trio", "-b", f"[::]:{PORT}"]
    await mesh.serve([*hypercorn, f"{APPS}/asgi_origin.py:app"], PORT)


async def serve_nginx(mesh: Mesh, root: Path) -> None:
    """Have nginx serve a text that is worth compressing."""
    (root / "pages").mkdir()
    (root / "pages" / "page.txt").write_bytes(TEXT)
    (root / "nginx.conf").write_text(NGINX.format(root=root, port=PORT))
    await mesh.serve(["nginx", "-e", f"{root}/error.log", "-c", f"{root}/nginx.conf"], PORT)


# curl


async def test_curl_waits_for_100_continue_before_it_uploads(mesh: Mesh, tmp_path: Path) -> None:
    await serve_asgi(mesh)
    (tmp_path / "upload").write_bytes(MEBIBYTE * 2)
    done = await both_ways(
        mesh, "curl", "-siS", "-H", "Expect: 100-continue", "--expect100-timeout", "20",
        "-T", f"{tmp_path}/upload", f"{ORIGIN}/echo",
    )  # fmt: skip
    assert done.stdout.startswith("HTTP/1.1 100 ")
    answer = done.stdout.splitlines()[-1]
    assert json.loads(answer)["size"] == 2 << 20
    await logged(mesh, ("PUT", "/echo", 200, 2 << 20, len(answer), "-"))


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
async def test_curl_uploads_what_it_reads_from_a_pipe(mesh: Mesh, version: str) -> None:
    await serve_asgi(mesh)
    words = f"head -c 3000000 /dev/zero | curl -siS {version} -T - {ORIGIN}/echo"
    done = await both_ways(mesh, "sh", "-c", words)
    answer = done.stdout.splitlines()[-1]
    assert json.loads(answer)["size"] == 3_000_000
    await logged(mesh, ("PUT", "/echo", 200, 3_000_000, len(answer), "-"))


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2-prior-knowledge"])
async def test_curl_asks_for_the_head_alone(mesh: Mesh, version: str) -> None:
    await serve_asgi(mesh)
    await both_ways(mesh, "curl", "-sSI", version, f"{ORIGIN}/echo")
    await logged(mesh, ("HEAD", "/echo", 200, 0, 0, "-"))


async def test_curl_keeps_its_connection(mesh: Mesh) -> None:
    await serve_asgi(mesh)
    words = ["-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download} %{num_connects}\n"]
    done = await both_ways(mesh, "curl", "--http1.1", *words, f"{ORIGIN}/stream?[1-5]")
    size = 64 * 16384
    assert done.stdout.splitlines() == [f"200 {size} 1", *[f"200 {size} 0"] * 4]
    await logged(mesh, *(("GET", f"/stream?{number}", 200, 0, size, "-") for number in range(1, 6)))


async def test_pipelined_requests_are_answered_in_their_order(mesh: Mesh) -> None:
    await serve_asgi(mesh)
    words = " ".join(("printf", f"'{PIPELINE}'", "| socat -t5 -", f"TCP:$0:{PORT}"))
    through = await mesh.run("sh", "-c", words, "server")
    direct = await mesh.server.run(["sh", "-c", words, "localhost"], user=ROOT)
    assert same(through.stdout) == same(direct.stdout)
    assert re.findall("HTTP/1.1 ([0-9]+)", through.stdout) == ["200", "302", "204"]
    (answer,) = re.findall(r"\{.*\}", through.stdout)
    await logged(
        mesh,
        ("POST", "/echo", 200, 5, len(answer), "-"),
        ("GET", "/redirect", 302, 0, 0, "-"),
        ("GET", "/empty", 204, 0, 0, "-"),
    )


async def test_curl_asks_a_forward_proxy(mesh: Mesh) -> None:
    await mesh.serve(python("forward_proxy.py", str(PORT)), PORT)
    done = await mesh.run("curl", "-sS", "-x", ORIGIN, "http://origin.example/page?x")
    told = "GET http://origin.example/page?x HTTP/1.1 for origin.example\n"
    assert (done.stdout, done.stderr) == (told, "")
    await logged(mesh, ("GET", "/page?x", 200, 0, len(told), "-"))


async def test_early_hints_and_trailers_reach_curl(mesh: Mesh) -> None:
    await serve_asgi(mesh)
    words = ["curl", "-siS", "--http2-prior-knowledge", "-H", "TE: trailers"]
    hints = await both_ways(mesh, *words, f"{ORIGIN}/hints")
    assert re.findall("HTTP/2 ([0-9]+)", hints.stdout) == ["103", "200"]
    trailers = await both_ways(mesh, *words, f"{ORIGIN}/trailers")
    assert trailers.stdout.splitlines()[-3:] == ["body", "x-checksum: 0123", "x-empty: "]
    await logged(mesh, *(("GET", path, 200, 0, 5, "-") for path in ("/hints", "/trailers")))


# wget, ab and nginx


async def test_wget_goes_on_with_a_download(mesh: Mesh, tmp_path: Path) -> None:
    await serve_nginx(mesh, tmp_path)
    page = tmp_path / "page.txt"
    page.write_bytes(TEXT[:1000])
    done = await mesh.run("wget", "-q", "-c", "-P", str(tmp_path), f"{ORIGIN}/page.txt")
    assert (done.returncode, done.stderr) == (0, "")
    assert page.read_bytes() == TEXT
    await logged(mesh, ("GET", "/page.txt", 206, 0, len(TEXT) - 1000, "-"))


async def test_wget_follows_a_redirect_and_goes_on(mesh: Mesh) -> None:
    await serve_asgi(mesh)
    words = ["wget", "-qO-", f"{ORIGIN}/redirect", f"{ORIGIN}/echo?again"]
    answers = re.findall(r"\{.*?\}", (await both_ways(mesh, *words)).stdout)
    assert [json.loads(answer)["query"] for answer in answers] == ["moved", "again"]
    await logged(
        mesh,
        ("GET", "/redirect", 302, 0, 0, "-"),
        ("GET", "/echo?moved", 200, 0, len(answers[0]), "-"),
        ("GET", "/echo?again", 200, 0, len(answers[1]), "-"),
    )


@pytest.mark.parametrize("keep", [[], ["-k"]], ids=["one connection each", "connections kept"])
async def test_ab_has_no_failed_request(mesh: Mesh, tmp_path: Path, keep: list[str]) -> None:
    await serve_nginx(mesh, tmp_path)
    done = await mesh.run("ab", "-q", "-n300", "-c8", *keep, f"{ORIGIN}/page.txt")
    counts = dict(re.findall(r"^([A-Z][\w -]+):\s+(\d+)", done.stdout, re.MULTILINE))
    assert (counts["Complete requests"], counts["Failed requests"]) == ("300", "0"), done.stderr
    assert counts.get("Keep-Alive requests") == ("300" if keep else None)
    assert counts["HTML transferred"] == str(300 * len(TEXT))
    await logged(mesh, *[("GET", "/page.txt", 200, 0, len(TEXT), "-")] * 300)


@pytest.mark.parametrize(
    ("asked", "status", "size"),
    [
        pytest.param(["-H", "Range: bytes=5-14"], 206, 10, id="a range"),
        pytest.param(["-H", "Range: bytes=999999999-"], 416, None, id="a range beyond the end"),
        pytest.param(["-H", "Range: bytes=0-9,20-29"], 206, None, id="two ranges"),
        pytest.param(["-H", "If-None-Match: *"], 304, 0, id="what the client has already"),
        pytest.param(["--compressed"], 200, None, id="compressed and chunked"),
        pytest.param(["--http1.0"], 200, len(TEXT), id="a page in HTTP/1.0"),
        pytest.param(["-X", "DELETE"], 405, None, id="what nginx refuses"),
    ],
)
async def test_curl_asks_nginx_for(
    mesh: Mesh, tmp_path: Path, asked: list[str], status: int, size: int | None
) -> None:
    await serve_nginx(mesh, tmp_path)
    await both_ways(mesh, "curl", "-siS", *asked, f"{ORIGIN}/page.txt")
    told = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"]
    answer = (await mesh.run(*told, *asked, f"{ORIGIN}/page.txt")).stdout.split()
    assert answer == [str(status), answer[1] if size is None else str(size)]
    method = "DELETE" if "DELETE" in asked else "GET"
    await logged(mesh, *[(method, "/page.txt", status, 0, int(answer[1]), "-")] * 2)


async def test_nginx_ends_each_connection_and_curl_keeps_its_own(
    mesh: Mesh, tmp_path: Path
) -> None:
    await serve_nginx(mesh, tmp_path)
    answers = await curls(mesh, f"{ORIGIN}/closing/page.txt?[1-3]")
    assert answers == ["200 1", "200 0", "200 0"]
    lines = await mesh.lines(mesh.server, 3)
    assert len({line["upstream_local_address"] for line in lines}) == 3


async def test_curl_ends_each_connection_and_both_sidecars_keep_theirs(
    mesh: Mesh, tmp_path: Path
) -> None:
    await serve_nginx(mesh, tmp_path)
    closing = ["-H", "Connection: close"]
    assert await curls(mesh, *closing, f"{ORIGIN}/page.txt?[1-3]") == ["200 1"] * 3
    for line in await mesh.both(3):
        assert line["response_flags"] == "-"
    lines = await mesh.lines(mesh.server, 3)
    assert len({line["upstream_local_address"] for line in lines}) == 1


@pytest.mark.parametrize(
    "offered",
    [
        pytest.param(["-H", "Connection: Upgrade", "-H", "Upgrade: foo/2"], id="an unknown one"),
        pytest.param(["--http2"], id="HTTP/2"),
    ],
)
@pytest.mark.parametrize("origin", ["nginx", "hypercorn"])
async def test_an_upgrade_that_the_origin_ignores_is_an_ordinary_request(
    mesh: Mesh, tmp_path: Path, origin: str, offered: list[str]
) -> None:
    await (serve_nginx(mesh, tmp_path) if origin == "nginx" else serve_asgi(mesh))
    page = "page.txt" if origin == "nginx" else "stream"
    assert await curls(mesh, *offered, f"{ORIGIN}/{page}?[1-2]") == ["200 1", "200 0"]


async def curls(mesh: Mesh, *words: str) -> list[str]:
    """Status and connections opened of each of curl's requests."""
    told = ["-sS", "-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n"]
    done = await mesh.run("curl", *told, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


async def test_curl_says_who_it_is_and_where_it_comes_from(mesh: Mesh) -> None:
    await serve_asgi(mesh)
    words = ["-u", "user:word", "-e", "http://elsewhere/", "-b", "a=1; b=2", "-A", "some agent"]
    done = await both_ways(mesh, "curl", "-siS", *words, f"{ORIGIN}/echo?q=%25")
    headers = json.loads(done.stdout.splitlines()[-1])["headers"]
    assert ["authorization", "Basic dXNlcjp3b3Jk"] in headers
    (line,) = await mesh.lines(mesh.client)
    assert line["user_agent"] == "some agent"


async def test_a_mebibyte_of_cookies_is_refused(mesh: Mesh) -> None:
    await serve_asgi(mesh)
    head = r"GET / HTTP/1.1\r\nHost: a\r\nCookie: "
    words = (
        f"(printf '{head}'; head -c 1048576 /dev/zero | tr '\\0' a) | socat -t5 - TCP:server:{PORT}"
    )
    done = await mesh.run("sh", "-c", words)
    assert done.stdout.startswith("HTTP/1.1 431 ")
    (line,) = await mesh.lines(mesh.client)
    assert (line["response_code"], line["response_flags"]) == (431, "DPE")


async def test_http10_without_a_host_is_answered_to_its_end(mesh: Mesh, tmp_path: Path) -> None:
    await serve_nginx(mesh, tmp_path)
    words = rf"printf 'GET /page.txt HTTP/1.0\r\n\r\n' | socat -t5 - TCP:server:{PORT}"
    done = await mesh.run("sh", "-c", words)
    head, _, body = done.stdout.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 ")
    assert body.encode() == TEXT


# An explicit proxy, which applications reach through us


@pytest.mark.parametrize(
    ("scheme", "words", "method"),
    [
        pytest.param("http", [], "GET", id="asked for a page"),
        pytest.param("http", ["-p"], "CONNECT", id="asked for a tunnel"),
        pytest.param("https", [], "CONNECT", id="asked for a tunnel, for TLS"),
    ],
)
async def test_an_explicit_proxy(
    mesh: Mesh, tmp_path: Path, scheme: str, words: list[str], method: str
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "key.pem"
    )
    (tmp_path / "tinyproxy.conf").write_text("Port 8888\nConnectPort 8080\nConnectPort 8443\n")
    await mesh.serve(["tinyproxy", "-d", "-c", f"{tmp_path}/tinyproxy.conf"], 8888)
    await serve_nginx(mesh, tmp_path)
    origin = f"http://localhost:{PORT}/page.txt"
    if scheme == "https":
        serve = f"openssl s_server -quiet -WWW -accept 8443 -cert {tmp_path}/key.pem"
        await mesh.serve(["sh", "-c", f"cd {tmp_path}/pages && exec {serve}"], 8443)
        origin = "https://localhost:8443/page.txt"
    trusting = ["--cacert", f"{tmp_path}/ca.pem"]
    done = await mesh.run("curl", "-sS", "-x", "http://server:8888", *trusting, *words, origin)
    assert done.stdout.encode() == TEXT, done.stderr
    for line in await mesh.both():
        assert (line["method"], line["response_code"]) == (method, 200)
        assert line["authority"] == origin.split("/")[2]


# Python


@pytest.mark.parametrize(
    ("origin", "client"),
    [
        pytest.param(origin, client, id=f"{client} of {origin}")
        for origin, clients in {
            "hypercorn": ("urllib3", "requests", "httpx", "httpx-h2", "aiohttp"),
            "aiohttp": ("requests", "aiohttp"),
        }.items()
        for client in clients
    ],
)
async def test_a_python_client_sees_the_same(mesh: Mesh, origin: str, client: str) -> None:
    if origin == "hypercorn":
        await serve_asgi(mesh)
    else:
        await mesh.serve(python("aiohttp_origin.py", str(PORT)), PORT)
    done = await both_ways(mesh, *python("http_clients.py", client, ORIGIN))
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["status"] for answer in seen] == [200, 200, 200, 200, 200, 200, 204, 302]
    fields = ("method", "path", "status", "uploaded", "size")
    await logged(mesh, *((*(answer[field] for field in fields), "-") for answer in seen))


@pytest.mark.parametrize("version", ["events", "events-h2"])
async def test_server_sent_events_arrive_as_they_are_sent(mesh: Mesh, version: str) -> None:
    await serve_asgi(mesh)
    done = await mesh.run(*python("http_clients.py", version, ORIGIN))
    late = [float(line) for line in done.stdout.splitlines()]
    assert len(late) == 5, done.stderr
    assert max(late) < 0.5
    lines = await mesh.both(6)
    answers = [(line["response_code"], line["response_flags"]) for line in lines]
    assert sorted(answers) == [(200, "-")] * 2 + [(204, "-")] * 10


async def test_websockets_carry_every_kind_of_message(mesh: Mesh) -> None:
    await mesh.serve(python("websocket_talk.py", "serve", str(PORT)), PORT)
    url = ORIGIN.replace("http", "ws")
    done = await mesh.run(*python("websocket_talk.py", "call", url))
    direct = await mesh.server.run(
        python("websocket_talk.py", "call", url.replace("server", "localhost")), user=ROOT
    )
    assert done.stdout == direct.stdout, done.stderr
    assert done.stdout.splitlines() == [
        "text True",
        "fragments b'abc'",
        f"bytes {hashlib.sha256(MEBIBYTE).hexdigest()}",
        "pong True",
        "closed 4001 (private use) as asked",
        "left 1001",
    ]
    lines = await mesh.both(2)
    assert {(line["response_code"], line["response_flags"]) for line in lines} == {(101, "-")}


# gRPC


@pytest.mark.parametrize(
    ("call", "printed", "flags"),
    [
        pytest.param(
            "deadline", ["DEADLINE_EXCEEDED", "whose time was up"], {"DR"}, id="a deadline"
        ),
        pytest.param(
            "cancel", ["yes", "True CANCELLED", "who changed his mind"], {"DR"}, id="a cancellation"
        ),
        pytest.param("large", ["True"], set(), id="the largest message that gRPC takes"),
        pytest.param("metadata", ["True", "True"], set(), id="binary metadata"),
    ],
)
async def test_grpc_carries(mesh: Mesh, call: str, printed: list[str], flags: set[str]) -> None:
    await mesh.serve(python("grpc_limits.py", "serve", "50051"), 50051)
    done = await mesh.run(*python("grpc_limits.py", call, "server:50051"))
    assert done.stdout.splitlines() == printed, done.stderr
    lines = await mesh.both(len(flags) + 1)
    assert {line["response_flags"] for line in lines} == {"-", *flags}
    waits = {line["response_flags"] for line in lines if "/Wait" in line["path"]}
    # A server knows of the deadline too, and may be the first to end the call.
    assert flags <= waits <= {*flags, "-"}


async def test_grpc_health_is_asked_and_watched(mesh: Mesh) -> None:
    await mesh.serve(python("health_grpc.py", "serve", "50051"), 50051)
    done = await mesh.run(*python("health_grpc.py", "call", "server:50051"))
    assert done.stdout.splitlines() == [
        "check SERVING",
        "unknown NOT_FOUND",
        "watch SERVING",
        "watch NOT_SERVING",
    ], done.stderr
    lines = await mesh.both(4)
    paths = {line["path"]: (line["response_code"], line["response_flags"]) for line in lines}
    assert paths.pop("/grpc.health.v1.Health/Watch") == (200, "DR"), "its watcher left it"
    assert set(paths.values()) == {(200, "-")}
