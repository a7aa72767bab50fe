"""Mutual TLS between two sidecars: applications notice nothing of it, and the wire nothing of what they say."""

import hashlib
import os
import sys
from pathlib import Path

import pytest

from fakes.footprint import sidecar_pids
from fakes.mesh import APPS, ROOT
from fakes.mutual import MARKER, SERVICE, Mutual, Tap, mode, plaintext_to, tapped
from fakes.two_ways import python

pytestmark = pytest.mark.netns

SINK = python("http_sink.py", "8080")
families = pytest.mark.parametrize("family", ["-4", "-6"])
modes = pytest.mark.parametrize("required", ["STRICT", "PERMISSIVE"])
BULK = 100 << 20


def digest(size: int) -> str:
    """Return the digest of that many bytes of what `http_sink.py` sends."""
    block = hashlib.sha256(b"tproxy").digest() * 2048
    whole, rest = divmod(size, len(block))
    return hashlib.sha256(block * whole + block[:rest]).hexdigest()


def piped(first: str, then: str) -> list[str]:
    """Make a command of what one program sends to another."""
    return ["sh", "-c", f"{first} | {then}"]


@families
@modes
async def test_curl_downloads_and_uploads_over_http1(
    mutual: Mutual, family: str, required: str
) -> None:
    await mutual.decree(mutual.server, mode(required))
    await mutual.mesh.serve(SINK, 8080)
    down = f"curl -sS {family} http://server:8080/3000000"
    up = f"curl -sS {family} -T - -H 'Content-Length: 3000000' -H 'Transfer-Encoding:' http://server:8080/"
    fetched = await mutual.mesh.run(*piped(down, "sha256sum"))
    assert fetched.stdout.split()[0] == digest(3_000_000)
    assert (await mutual.mesh.run(*piped(down, up))).stdout == digest(3_000_000)
    lines = await mutual.proven(3)
    assert {line["response_code"] for line in lines} == {200}
    assert {line["requested_server_name"] for line in lines[3:]} == {SERVICE}


@families
async def test_curl_and_h2load_over_http2(mutual: Mutual, family: str) -> None:
    await mutual.decree(mutual.server, mode("STRICT"))
    await mutual.mesh.serve(["nghttpd", "--no-tls", "-d", str(APPS), "8081"], 8081)
    url = "http://server:8081/grpc_echo.py"
    done = await mutual.mesh.run("curl", "-sS", family, "--http2-prior-knowledge", url)
    assert (done.stdout, done.stderr) == ((APPS / "grpc_echo.py").read_text(), "")
    address = mutual.mesh.host(family)
    many = f"http://{f'[{address}]' if family == '-6' else address}:8081/grpc_echo.py"
    done = await mutual.mesh.run("h2load", "-n300", "-c4", "-m16", many)
    assert "300 succeeded, 0 failed, 0 errored" in done.stdout, done.stdout
    lines = await mutual.proven(301)
    assert {line["tproxy"]["detection"] for line in lines} == {"h2", "alpn"}


async def test_grpc_in_all_four_kinds(mutual: Mutual) -> None:
    await mutual.decree(mutual.server, mode("STRICT"))
    await mutual.mesh.serve(python("grpc_echo.py", "serve", "50051"), 50051)
    done = await mutual.mesh.run(*python("grpc_echo.py", "call", "server:50051"))
    assert done.stdout.splitlines() == [
        "unary b'HELLO' {'x-seen': 'yes', 'x-raw-bin': b'\\x00\\xff'}",
        "upload b'2000000'",
        "download 500",
        "talk [b'ba', b'dc']",
        "refused FAILED_PRECONDITION as asked",
    ], done.stderr
    await mutual.proven(5)


async def test_websockets(mutual: Mutual) -> None:
    await mutual.decree(mutual.server, mode("STRICT"))
    await mutual.mesh.serve(python("websocket_talk.py", "serve", "8080"), 8080)
    done = await mutual.mesh.run(*python("websocket_talk.py", "call", "ws://server:8080"))
    assert done.stdout.splitlines()[-3:] == [
        "pong True",
        "closed 4001 (private use) as asked",
        "left 1001",
    ], done.stderr
    lines = await mutual.proven(2)
    assert {(line["response_code"], line["response_flags"]) for line in lines} == {(101, "-")}


@modes
async def test_redis(mutual: Mutual, required: str) -> None:
    await mutual.decree(mutual.server, mode(required))
    words = ["--port", "6379", "--bind", "*", "-::*", "--protected-mode", "no", "--save", ""]
    await mutual.mesh.serve(["redis-server", *words], 6379)
    asked = ["redis-cli", "-h", "server"]
    assert (await mutual.mesh.run(*asked, "SET", "a", "b")).stdout == "OK\n"
    assert (await mutual.mesh.run(*asked, "GET", "a")).stdout == "b\n"
    await mutual.proven(2)


@pytest.mark.parametrize("port", [3306, 25])
@modes
async def test_a_server_that_speaks_first(mutual: Mutual, port: int, required: str) -> None:
    await mutual.decree(mutual.server, mode(required))
    await mutual.mesh.serve(python("tcp_services.py", f"greet:{port}"), port)
    greeting = f"printf hello | socat -t5 - TCP:server:{port}"
    silent = python("waits.py", "server", str(port))
    assert (await mutual.mesh.run("sh", "-c", greeting)).stdout == "220 ready\r\n250 hello"
    assert (await mutual.mesh.run(*silent)).stdout == "220 ready 250 hello\n"
    await mutual.proven(2)
    outside = await mutual.outside(*silent)
    refused = "ConnectionResetError" in outside.stderr
    assert refused is (required == "STRICT"), outside
    assert outside.stdout == ("" if refused else "220 ready 250 hello\n")


@families
async def test_a_hundred_mebibytes_each_way_on_bare_connections(
    mutual: Mutual, family: str
) -> None:
    await mutual.decree(mutual.server, mode("STRICT"))
    await mutual.mesh.serve(python("tcp_services.py", "digest:7000"), 7000)
    target = f"TCP{family[1]}:server:7000"
    sent = f"head -c {BULK} /dev/zero"
    done = await mutual.mesh.run(*piped(sent, f"socat -t20 - {target}"))
    assert done.stdout == hashlib.sha256(bytes(BULK)).hexdigest()
    await mutual.mesh.serve(python("tcp_services.py", "zeros:7005"), 7005)
    fetch = f"echo {BULK} | socat -t20 - {target[:-1]}5"
    done = await mutual.mesh.run(*piped(fetch, "sha256sum"))
    assert done.stdout.split()[0] == hashlib.sha256(bytes(BULK)).hexdigest()
    lines = await mutual.proven(2)
    moved = {(line["bytes_received"], line["bytes_sent"]) for line in lines}
    assert moved == {(BULK, 64), (len(f"{BULK}\n"), BULK)}
    assert {line["response_flags"] for line in lines} == {"-"}


@families
async def test_a_half_closed_connection_stays_half_open(mutual: Mutual, family: str) -> None:
    await mutual.mesh.serve(python("tcp_services.py", "digest:7000"), 7000)
    sent = os.urandom(300_000)
    done = await mutual.mesh.run("socat", "-t10", "-", f"TCP{family[1]}:server:7000", stdin=sent)
    assert done.stdout == hashlib.sha256(sent).hexdigest()
    for line in await mutual.proven():
        assert (line["bytes_received"], line["bytes_sent"]) == (300_000, 64)
        assert line["response_flags"] == "-"


async def test_a_reset_arrives_as_one_after_what_came_before_it(mutual: Mutual) -> None:
    await mutual.mesh.serve(python("tcp_services.py", "reset:7001"), 7001)
    script = (
        "import socket; s = socket.create_connection(('server', 7001)); s.sendall(b'\\0go'); "
        "print(s.recv(100), flush=True); s.recv(100)"
    )
    done = await mutual.mesh.run(sys.executable, "-c", script)
    assert done.stdout == "b'before the end'\n"
    assert "ConnectionResetError" in done.stderr
    assert {line["response_flags"] for line in await mutual.proven()} == {"UR"}


# What the wire knows


async def exchanged(mutual: Mutual, tap: Tap) -> bytes:
    """Exchange the marker in every protocol, and return what the wire has had of it."""
    marks = MARKER * 20
    url = "http://server:8080"
    telling = ["-H", f"x-mark: {MARKER.decode() * 3}", "--data-binary", marks.decode()]
    for version in ("--http1.1", "--http2-prior-knowledge"):
        done = await mutual.mesh.run("curl", "-sS", version, *telling, f"{url}/echo?{'mark' * 9}")
        assert done.returncode == 0, done.stderr
    done = await mutual.mesh.run("socat", "-t5", "-", "TCP:server:7000", stdin=marks)
    assert done.stdout.encode() == marks
    return tap.heard()


async def serve_all(mutual: Mutual) -> None:
    """Serve HTTP in both versions on port 8080, and an echo on port 7000."""
    hypercorn = [sys.executable, "-m", "hypercorn", "-w0", "-k", "trio", "-b", "[::]:8080"]
    await mutual.mesh.serve([*hypercorn, f"{APPS}/asgi_origin.py:app"], 8080)
    await mutual.mesh.serve(["socat", "TCP6-LISTEN:7000,fork,reuseaddr,ipv6only=0", "PIPE"], 7000)


async def test_nothing_that_applications_say_is_readable_on_the_wire(mutual: Mutual) -> None:
    await serve_all(mutual)
    with tapped(mutual.server) as tap:
        secret = await exchanged(mutual, tap)
        await mutual.proven(3)
        assert secret.count(b"\x17\x03\x03") > 6, "records of application data"
        for word in (MARKER, b"markmark", b"HTTP/1.1", b"PRI * HTTP/2.0", b"x-mark"):
            assert word not in secret
        # That it can be seen at all:
        await mutual.decree(mutual.client, plaintext_to(SERVICE))
        plain = await exchanged(mutual, tap)
        assert all(word in plain for word in (MARKER, b"markmark", b"HTTP/1.1", b"PRI * HTTP/2.0"))


@families
async def test_a_pod_that_calls_itself_needs_no_proof(mutual: Mutual, family: str) -> None:
    """What does not leave the pod is not captured: docs/capture.md."""
    await mutual.decree(mutual.server, mode("STRICT"))
    await mutual.mesh.serve(SINK, 8080)
    url = "http://server:8080/1"
    done = await mutual.server.run(["curl", "-sS", family, "-w", " %{http_code}", url], user=ROOT)
    assert done.stdout.endswith(" 200"), done.stderr
    done = await mutual.mesh.run("curl", "-sS", family, "-w", " %{http_code}", url)
    assert done.stdout.endswith(" 200"), done.stderr
    await mutual.proven()


async def test_no_image_of_a_sidecar_that_holds_a_key_is_kept(mutual: Mutual) -> None:
    pids = sidecar_pids(mutual.server)
    assert pids
    for pid in pids:
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        (core,) = (line.split() for line in limits if line.startswith("Max core file size"))
        # With 0 the kernel would still feed a program that `core_pattern` names.
        assert core[-3:-1] == ["1", "1"]
