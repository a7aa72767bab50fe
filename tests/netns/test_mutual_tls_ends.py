"""How what is inside mutual TLS ends: nobody in between can make a part of it pass for all."""

import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path

import pytest
import trio

from fakes.ca import FakeCa, Leaf
from fakes.footprint import dialled
from fakes.mutual import Mutual, authority_of, mode
from tproxy.lab import Lab, Pod, PodSpec, open_pod
from tproxy.lab.namespaces import socket_in

pytestmark = pytest.mark.netns

MEBIBYTE = bytes(range(256)) * 4096
STRANGER = "spiffe://cluster.local/ns/default/sa/default"
ends = pytest.mark.parametrize("farewell", [True, False], ids=["said", "cut off"])
Talk = Callable[[trio.SocketStream], Awaitable[None]]
MUTUAL_TO_OUTSIDER = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: outsider, namespace: default}
spec: {host: outsider.default.svc.cluster.local, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
---
"""


@asynccontextmanager
async def listening(pod: Pod, port: int, talk: Talk) -> AsyncIterator[None]:
    """Have the next caller of a port served in here, and wait until it is."""
    listener = trio.socket.from_stdlib_socket(socket_in(pod.netns_path, socket.AF_INET))
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await listener.bind(("0.0.0.0", port))
        listener.listen()

        async def serve() -> None:
            caller, _ = await listener.accept()
            async with trio.SocketStream(caller) as stream:
                await talk(stream)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield


def papers(ca: FakeCa, place: Path) -> tuple[Path, Path]:
    """Write what proves to be an outsider's: certificate and key."""
    issued = ca.issue(Leaf(uris=(STRANGER,)))
    certificate, key = place / "certificate.pem", place / "key.pem"
    certificate.write_bytes(issued.certificate)
    key.write_bytes(issued.key)
    return certificate, key


def context(mutual: Mutual, place: Path, side: int) -> ssl.SSLContext:
    """Make an end of TLS that proves to be an outsider's."""
    ca = authority_of(mutual.lab)
    made = ssl.SSLContext(side)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=ca.bundle.decode())
    made.load_cert_chain(*papers(ca, place))
    return made


async def heard(stream: trio.SocketStream, got: list[bytes]) -> None:
    """Take all there is, into `got`; a reset is raised."""
    with trio.fail_after(10):
        while part := await stream.receive_some():
            got.append(part)


async def cut_off(tcp: trio.SocketStream) -> None:
    """End a connection as whoever stands in between could, and wait until the other side has seen it."""
    await tcp.send_eof()
    with suppress(trio.BrokenResourceError):
        await heard(tcp, [])


@ends
async def test_towards_the_server_an_end_must_be_said(
    mutual: Mutual, tmp_path: Path, farewell: bool
) -> None:
    got: list[bytes] = []
    endings: list[bool] = []

    async def application(stream: trio.SocketStream) -> None:
        try:
            await heard(stream, got)
        except trio.BrokenResourceError:
            endings.append(False)
        else:
            endings.append(True)

    await mutual.decree(mutual.server, mode("STRICT"))
    at = (mutual.server.addresses.v4, 7000)
    async with (
        listening(mutual.server, 7000, application),
        await dialled(mutual.outsider, at) as tcp,
    ):
        client = context(mutual, tmp_path, ssl.PROTOCOL_TLS_CLIENT)
        stream = trio.SSLStream(tcp, client, server_hostname="a.example")
        await stream.send_all(b"\0all that there is")
        if farewell:
            with trio.fail_after(5):
                await stream.unwrap()
        else:
            await cut_off(tcp)
    assert (b"".join(got), endings) == (b"\0all that there is", [farewell])
    (line,) = await mutual.mesh.lines(mutual.server)
    assert line["response_flags"] == ("-" if farewell else "DR")


def saying(
    server: ssl.SSLContext, words: bytes, *, farewell: bool
) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Answer whatever is asked, and end as TLS does or as somebody on the way could."""

    async def answer(tcp: trio.SocketStream) -> None:
        stream = trio.SSLStream(tcp, server, server_side=True)
        await stream.receive_some()
        await stream.send_all(words)
        if farewell:
            await stream.aclose()
        else:
            await cut_off(tcp)

    return answer


@ends
async def test_towards_the_client_an_end_must_be_said(
    mutual: Mutual, tmp_path: Path, farewell: bool
) -> None:
    server = context(mutual, tmp_path, ssl.PROTOCOL_TLS_SERVER)

    stand_in = saying(server, b"all that there is", farewell=farewell)
    await mutual.decree(mutual.client, MUTUAL_TO_OUTSIDER)
    got: list[bytes] = []
    at = (mutual.outsider.addresses.v4, 7000)
    async with listening(mutual.outsider, 7000, stand_in), await dialled(mutual.client, at) as own:
        await own.send_all(b"\0hello")
        if farewell:
            await heard(own, got)
        else:
            with pytest.raises(trio.BrokenResourceError):
                await heard(own, got)
    assert b"".join(got) == b"all that there is"
    (line,) = await mutual.mesh.lines(mutual.client)
    assert line["response_flags"] == ("-" if farewell else "UR")
    assert line["tproxy"]["destination_principal"] == STRANGER.removeprefix("spiffe://")


@ends
@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
async def test_a_body_that_ends_with_its_connection_is_whole_only_if_that_is(
    mutual: Mutual, tmp_path: Path, version: str, farewell: bool
) -> None:
    server = context(mutual, tmp_path, ssl.PROTOCOL_TLS_SERVER)

    stand_in = saying(server, b"HTTP/1.0 200 OK\r\n\r\nall that there is", farewell=farewell)
    await mutual.decree(mutual.client, MUTUAL_TO_OUTSIDER)
    async with listening(mutual.outsider, 8080, stand_in):
        done = await mutual.mesh.run("curl", "-sS", version, "http://outsider:8080/")
    assert done.stdout == "all that there is"
    assert (done.returncode == 0) is farewell, done.stderr
    (line,) = await mutual.mesh.lines(mutual.client)
    assert line["response_flags"] == ("-" if farewell else "UC")


async def test_a_server_that_has_said_all_still_listens(mutual: Mutual) -> None:
    got: list[bytes] = []

    async def application(stream: trio.SocketStream) -> None:
        await stream.send_all(b"all that I say")
        await stream.send_eof()
        await heard(stream, got)

    await mutual.decree(mutual.server, mode("STRICT"))
    at = (mutual.server.addresses.v4, 7000)
    async with listening(mutual.server, 7000, application), await dialled(mutual.client, at) as own:
        await own.send_all(b"\0")
        said: list[bytes] = []
        await heard(own, said)
        assert b"".join(said) == b"all that I say"
        await own.send_all(bytes(1 << 20))
        await own.send_eof()
    assert len(b"".join(got)) == 1 + (1 << 20)
    for line in await mutual.proven():
        assert line["response_flags"] == "-"


async def test_forty_mebibytes_pass_each_way_at_once(mutual: Mutual) -> None:
    digests: list[str] = []

    async def exchange(stream: trio.SocketStream) -> None:
        """Send and receive, neither of which waits for the other."""

        async def send() -> None:
            for _ in range(40):
                await stream.send_all(MEBIBYTE)
            await stream.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            seen = sha256()
            while part := await stream.receive_some():
                seen.update(part)
            digests.append(seen.hexdigest())

    at = (mutual.server.addresses.v4, 7000)
    async with listening(mutual.server, 7000, exchange), await dialled(mutual.client, at) as own:
        with trio.fail_after(30):
            await exchange(own)
    assert digests == [sha256(MEBIBYTE * 40).hexdigest()] * 2
    for line in await mutual.proven():
        assert (line["bytes_received"], line["bytes_sent"]) == (40 << 20, 40 << 20)
        assert line["response_flags"] == "-"


# Sidecars that are killed


@asynccontextmanager
async def pair(place: Path) -> AsyncIterator[tuple[Pod, Pod]]:
    """A server's pod and a client's, of a lab of their own."""
    lab = Lab(place / "lab")
    async with (
        open_pod(PodSpec("server", service_account="web"), lab) as server,
        open_pod(PodSpec("client", service_account="sleep"), lab) as client,
    ):
        yield server, client


@pytest.mark.parametrize("whose", ["client", "server"])
async def test_a_killed_sidecar_ends_nothing_well(tmp_path: Path, whose: str) -> None:
    got: list[bytes] = []
    broken = trio.Event()

    async def application(stream: trio.SocketStream) -> None:
        got.append(await stream.receive_some())
        await stream.send_all(b"greeting")
        try:
            await heard(stream, got)
        except trio.BrokenResourceError:
            broken.set()

    async with pair(tmp_path) as (server, client):
        at = (server.addresses.v4, 7000)
        async with listening(server, 7000, application), await dialled(client, at) as own:
            await own.send_all(b"\0hello")
            assert await own.receive_some() == b"greeting"
            victim = client if whose == "client" else server
            assert victim.sidecar is not None
            victim.sidecar.send_signal(signal.SIGKILL)
            if whose == "client":
                with trio.fail_after(5):
                    await broken.wait()
            else:
                with pytest.raises(trio.BrokenResourceError):
                    await heard(own, [])
            with trio.fail_after(5):
                await victim.sidecar.wait()
        assert b"".join(got) == b"\0hello"
