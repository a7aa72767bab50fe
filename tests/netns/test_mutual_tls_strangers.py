"""Peers that are no sidecar of ours, at a port where mutual TLS is demanded: who is let in, and why who is not."""

import socket
import ssl
import warnings
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from fakes.ca import BAD, FakeCa, Leaf, Papers
from fakes.footprint import dialled
from fakes.mutual import HANDSHAKE_SECONDS, HANDSHAKES, WEB, Mutual, authority_of, mode
from fakes.two_ways import python

pytestmark = pytest.mark.netns

STRANGER = "spiffe://cluster.local/ns/elsewhere/sa/stranger"
ASK = b"GET /1 HTTP/1.1\r\nHost: server\r\n\r\n"
OK = b"HTTP/1.1 200 "
Configure = Callable[[ssl.SSLContext], object]


def good(ca: FakeCa) -> Papers:
    """Make what a stranger is let in with."""
    return ca.issue(Leaf(uris=(STRANGER,)))


@dataclass(frozen=True, slots=True)
class Gate:
    """A STRICT port of the server, and a stranger's place."""

    mutual: Mutual
    place: Path

    def context(
        self, papers: Papers | None, configure: Configure = lambda _: None
    ) -> ssl.SSLContext:
        """Make a client of Python's own, which trusts our root and would do anything."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.load_verify_locations(cadata=authority_of(self.mutual.lab).bundle.decode())
        if papers is not None:
            certificate, key, _ = self.written(papers)
            context.load_cert_chain(certificate, key)
        configure(context)
        return context

    def written(self, papers: Papers) -> list[Path]:
        """Put papers where clients find them: certificate, key and bundle."""
        files = []
        for name in ("certificate", "key", "bundle"):
            files.append(self.place / f"{name}.pem")
            files[-1].write_bytes(getattr(papers, name))
        return files

    async def dial(self, port: int = 8080) -> trio.SocketStream:
        """Connect as the stranger."""
        return await dialled(self.mutual.outsider, (self.mutual.server.addresses.v4, port))

    async def said(self) -> dict[str, Any]:
        """Return the only line that the server's sidecar has logged."""
        (line,) = await self.mutual.mesh.lines(self.mutual.server)
        return line

    async def shook(self, result: str) -> float:
        """Count the handshakes that have come to something."""
        name = "tproxy_tls_handshakes_total"
        return await self.mutual.metric(
            self.mutual.server, name, direction="inbound", result=result
        )


@pytest.fixture
async def shut(mutual: Mutual, tmp_path: Path) -> Gate:
    """A gate that is shut to whoever proves nothing."""
    await mutual.decree(mutual.server, mode("STRICT"))
    return Gate(mutual, tmp_path)


@pytest.fixture
async def gate(shut: Gate) -> Gate:
    """One behind which an application answers."""
    await shut.mutual.mesh.serve(python("http_sink.py", "8080"), 8080)
    return shut


async def ask(stream: "trio.SSLStream[trio.SocketStream]") -> bytes:
    """Shake hands, ask, and return the beginning of the answer."""
    with trio.fail_after(5):
        await stream.do_handshake()
        await stream.send_all(ASK)
        return bytes(await stream.receive_some())


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        pytest.param([], None, id="no ALPN"),
        pytest.param(["istio"], "istio", id="istio"),
        pytest.param(["istio-peer-exchange", "istio"], "istio", id="Istio's usual"),
        pytest.param(["http/1.1"], "http/1.1", id="HTTP/1.1"),
        pytest.param(["acme-tls/1"], None, id="something else"),
    ],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_pythons_tls_is_let_in_with_good_papers(
    gate: Gate, version: ssl.TLSVersion, offered: list[str], agreed: str | None
) -> None:
    context = gate.context(good(authority_of(gate.mutual.lab)))
    context.minimum_version = context.maximum_version = version
    if offered:
        context.set_alpn_protocols(offered)
    before = await gate.shook("ok")
    async with await gate.dial() as tcp:
        stream = trio.SSLStream(tcp, context, server_hostname="anything.example")
        assert (await ask(stream)).startswith(OK)
        assert stream.selected_alpn_protocol() == agreed
        shown: Any = stream.getpeercert()
        assert shown["subjectAltName"] == (("URI", f"spiffe://{WEB}"),)
    line = await gate.said()
    assert line["tproxy"]["source_principal"] == STRANGER.removeprefix("spiffe://")
    assert (line["tproxy"]["tls"], line["response_code"]) == ("mutual", 200)
    assert line["requested_server_name"] == "anything.example"
    assert await gate.shook("ok") == before + 1


@pytest.mark.parametrize("alpn", [[], ["-alpn", "h2"], ["-alpn", "istio,http/1.1"]])
async def test_openssl_is_let_in_with_good_papers(gate: Gate, alpn: list[str]) -> None:
    files = gate.written(good(authority_of(gate.mutual.lab)))
    words = " ".join(f"{o} {f}" for o, f in zip(("-cert", "-key", "-CAfile"), files, strict=True))
    asked = "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\4\\0\\0\\0\\0\\0"
    if "h2" not in alpn:
        asked = ASK.decode("unicode_escape").encode("unicode_escape").decode()
    connect = f"openssl s_client -connect server:8080 {words} {' '.join(alpn)}"
    command = f"(printf '{asked}'; sleep 0.3) | {connect} -quiet -verify_return_error -no_ign_eof"
    done = await gate.mutual.outside("sh", "-c", command)
    if "h2" in alpn:
        assert "\0\0" in done.stdout, done.stderr
    else:
        assert done.stdout.startswith("HTTP/1.1 200 "), done.stderr
        line = await gate.said()
        assert line["tproxy"]["source_principal"] == STRANGER.removeprefix("spiffe://")


def old(version: ssl.TLSVersion) -> Configure:
    """Speak an old version."""

    def configure(context: ssl.SSLContext) -> None:
        with warnings.catch_warnings():  # Python does not like it either
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version

    return configure


def weak(suites: str) -> Configure:
    """Offer only these suites of TLS 1.2."""

    def configure(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(f"{suites}:@SECLEVEL=0")

    return configure


def of(*uris: str) -> Callable[[FakeCa], Papers]:
    """Make papers that name these, signed as they should be."""
    return lambda ca: ca.issue(Leaf(uris=uris))


@pytest.mark.parametrize(
    ("papers", "configure", "reason"),
    [
        pytest.param(None, None, "no_certificate", id="no certificate"),
        pytest.param(of("spiffe://other.example/ns/default/sa/web"), None, "untrusted", id="another trust domain"),
        pytest.param(BAD["another authority's signature"], None, "untrusted", id="another authority"),
        pytest.param(BAD["expired"], None, "expired", id="expired"),
        pytest.param(BAD["not yet valid"], None, "not_yet_valid", id="not yet valid"),
        pytest.param(BAD["two URIs"], None, "bad_certificate", id="two URIs"),
        pytest.param(BAD["a DNS name only"], None, "bad_certificate", id="a DNS name only"),
        pytest.param(BAD["a CA's certificate"], None, "bad_certificate", id="a CA's"),
        pytest.param(BAD["keyCertSign"], None, "bad_certificate", id="one that may sign"),
        pytest.param(BAD["for servers only"], None, "bad_certificate", id="for servers only"),
        pytest.param(BAD["an RSA key of 1024 bits"], None, "bad_certificate", id="a weak key"),
        pytest.param(BAD["a query"], None, "bad_certificate", id="an id with a query"),
        pytest.param(good, old(ssl.TLSVersion.TLSv1), "protocol", id="TLS 1.0"),
        pytest.param(good, old(ssl.TLSVersion.TLSv1_1), "protocol", id="TLS 1.1"),
        pytest.param(good, weak("ECDHE-ECDSA-AES128-SHA"), "protocol", id="a suite of CBC"),
        pytest.param(good, weak("AES128-GCM-SHA256"), "protocol", id="no forward secrecy"),
        pytest.param(good, weak("aNULL"), "protocol", id="nobody in particular"),
        pytest.param(good, weak("eNULL"), "protocol", id="no encryption"),
    ],
)  # fmt: skip
async def test_a_stranger_is_refused_and_the_log_says_why(
    shut: Gate,
    papers: Callable[[FakeCa], Papers] | None,
    configure: Configure | None,
    reason: str,
) -> None:
    shown = papers(authority_of(shut.mutual.lab)) if papers else None
    context = shut.context(shown, configure or (lambda _: None))
    before = await shut.shook(reason)
    async with await shut.dial() as tcp:
        with pytest.raises(trio.BrokenResourceError):
            await ask(trio.SSLStream(tcp, context, server_hostname="anything.example"))
    line = await shut.said()
    assert (line["response_flags"], line["response_code_details"]) == (
        "DPE",
        "tls_handshake_failed",
    )
    assert line["connection_termination_details"].partition(":")[0] == reason
    assert (line["tproxy"]["source_principal"], line["tproxy"]["tls"]) == (None, None)
    assert await shut.shook(reason) == before + 1


class Drop(trio.abc.HalfCloseableStream):
    """Sends bytes one by one."""

    def __init__(self, tcp: trio.SocketStream) -> None:
        self._tcp = tcp
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send them, each on its own."""
        for byte in bytes(data):
            await self._tcp.send_all(bytes((byte,)))

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for room."""
        await self._tcp.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End our direction."""
        await self._tcp.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Take what has come, of one byte at most."""
        return bytes(await self._tcp.receive_some(1 if max_bytes else max_bytes))

    async def aclose(self) -> None:
        """Close."""
        await self._tcp.aclose()


async def test_a_handshake_of_single_bytes_is_fine(gate: Gate) -> None:
    context = gate.context(good(authority_of(gate.mutual.lab)))
    async with await gate.dial() as tcp:
        stream = trio.SSLStream(Drop(tcp), context, server_hostname="a.example")
        with trio.fail_after(5):
            await stream.do_handshake()
            await stream.send_all(ASK)
            assert (await stream.receive_some()).startswith(OK)
    assert (await gate.said())["tproxy"]["tls"] == "mutual"


def hello(gate: Gate) -> bytes:
    """Make the beginning of a handshake."""
    outgoing = ssl.MemoryBIO()
    tls = gate.context(None).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        pytest.param(b"", "timeout", id="nothing"),
        pytest.param(None, "closed", id="its end"),
        pytest.param(b"\x17\x03\x03\0\x05hello", "protocol", id="data too soon"),
        pytest.param(b"\x16\x03\x03\xff\xff" + bytes(100), "protocol", id="a record too large"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", "protocol", id="no record at all"),
        pytest.param(b"\x15\x03\x03\0\x02\2\x28", "rejected", id="an alert"),
    ],
)
async def test_a_handshake_that_goes_on_with(shut: Gate, then: bytes | None, reason: str) -> None:
    before = await shut.shook(reason)
    async with await shut.dial() as tcp:
        await tcp.send_all(hello(shut) + (then or b""))
        if then is None:
            await tcp.send_eof()
        with trio.fail_after(HANDSHAKE_SECONDS + 2), suppress(trio.BrokenResourceError):
            while await tcp.receive_some():
                pass
    line = await shut.said()
    assert line["connection_termination_details"].partition(":")[0] == reason
    assert await shut.shook(reason) == before + 1


async def test_what_only_begins_like_tls_is_plaintext(shut: Gate) -> None:
    async with await shut.dial() as tcp:
        await tcp.send_all(b"\x16\x03\x01\0\x05hello")
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await tcp.receive_some()
    assert (await shut.said())["connection_termination_details"] == "plaintext_on_strict_port"


async def test_of_too_many_handshakes_the_oldest_is_given_up(shut: Gate) -> None:
    before = await shut.shook("overload")
    async with AsyncExitStack() as held:
        for _ in range(HANDSHAKES + 1):
            tcp = await held.enter_async_context(await shut.dial())
            await tcp.send_all(hello(shut))
            with trio.fail_after(5):
                assert await tcp.receive_some()
        line = await shut.said()
        assert line["connection_termination_details"] == "overload"
    assert await shut.shook("overload") == before + 1


async def client_of_openssl(gate: Gate, words: str, typed: str) -> str:
    """Type something to `openssl s_client`, and return all that it prints."""
    files = gate.written(good(authority_of(gate.mutual.lab)))
    papers = " ".join(f"{o} {f}" for o, f in zip(("-cert", "-key", "-CAfile"), files, strict=True))
    connect = f"openssl s_client -connect server:8080 {papers} {words}"
    return (await gate.mutual.outside("sh", "-c", f"({typed}) | {connect} 2>&1")).stdout


async def test_nobody_renegotiates(shut: Gate) -> None:
    printed = await client_of_openssl(shut, "-tls1_2", "sleep 0.2; echo R; sleep 0.2")
    assert "RENEGOTIATING" in printed
    assert "no renegotiation" in printed


async def test_keys_are_updated_as_often_as_a_peer_asks(gate: Gate) -> None:
    typed = "for _ in 1 2 3; do sleep 0.1; echo K; done; sleep 0.1; printf 'GET /1 HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n'; sleep 0.3"
    printed = await client_of_openssl(gate, "-tls1_3", typed)
    assert printed.count("KEYUPDATE") == 3
    assert "HTTP/1.1 200 " in printed


async def test_no_session_proves_anything_twice(gate: Gate) -> None:
    printed = await client_of_openssl(gate, "-tls1_2 -reconnect", "sleep 0.3")
    assert printed.count("New, TLSv1.2") == 6
    kept = gate.place / "session"
    typed = "printf 'GET /1 HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n'; sleep 0.3"
    printed = await client_of_openssl(gate, f"-tls1_3 -sess_out {kept}", typed)
    assert "HTTP/1.1 200 " in printed
    assert not kept.exists(), "no ticket is sent that could be shown again"
