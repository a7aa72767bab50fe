"""What PeerAuthentication says about plaintext, as clients with and without a sidecar meet it."""

import pytest
import trio

from fakes.footprint import dialled
from fakes.mutual import SERVICE, SLEEP, Mutual, mode, peer_authentication, plaintext_to
from fakes.two_ways import python

pytestmark = pytest.mark.netns

URL = "http://server:8080/1"
CURL = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}")
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ASK = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"


async def served(mutual: Mutual) -> None:
    """Serve HTTP on 8080 and 9100, and an echo on 7000."""
    for port in (8080, 9100):
        await mutual.mesh.serve(python("http_sink.py", str(port)), port)
    await mutual.mesh.serve(["socat", "TCP6-LISTEN:7000,fork,reuseaddr,ipv6only=0", "PIPE"], 7000)


async def fares(mutual: Mutual, port: int = 8080) -> tuple[str, str]:
    """Ask in mutual TLS and in plaintext: status, or `reset`, of each."""
    url = f"http://server:{port}/1"
    meshed, plain = await mutual.mesh.run(*CURL, url), await mutual.outside(*CURL, url)
    return tuple("reset" if done.returncode == 56 else done.stdout for done in (meshed, plain))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("said", "port", "plaintext"),
    [
        pytest.param([], 8080, "200", id="nothing said"),
        pytest.param([mode("STRICT")], 8080, "reset", id="STRICT"),
        pytest.param([mode("PERMISSIVE")], 8080, "200", id="PERMISSIVE"),
        pytest.param([mode("STRICT")], 9100, "reset", id="STRICT on every port"),
        pytest.param(
            [
                peer_authentication(
                    "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, "
                    "portLevelMtls: {9100: {mode: PERMISSIVE}}}"
                )
            ],
            9100,
            "200",
            id="a port's exception",
        ),
        pytest.param(
            [
                peer_authentication(
                    "{selector: {matchLabels: {app: web}}, portLevelMtls: {9100: {mode: STRICT}}}"
                )
            ],
            9100,
            "reset",
            id="a port that is stricter",
        ),
        pytest.param(
            [
                peer_authentication("{mtls: {mode: STRICT}}", namespace="istio-system"),
                mode("PERMISSIVE"),
            ],
            8080,
            "200",
            id="the namespace over the mesh",
        ),
        pytest.param(
            [peer_authentication("{mtls: {mode: STRICT}}", namespace="istio-system")],
            8080,
            "reset",
            id="the mesh",
        ),
        pytest.param(
            [peer_authentication("{mtls: {mode: STRICT}}", namespace="other")],
            8080,
            "200",
            id="another namespace",
        ),
    ],
)
async def test_who_may_speak_plaintext(
    mutual: Mutual, said: list[str], port: int, plaintext: str
) -> None:
    await mutual.decree(mutual.server, *said)
    await served(mutual)
    assert await fares(mutual, port) == ("200", plaintext)
    meshed, plain = await mutual.mesh.lines(mutual.server, 2)
    assert (meshed["tproxy"]["tls"], meshed["tproxy"]["source_principal"]) == ("mutual", SLEEP)
    assert (plain["tproxy"]["tls"], plain["tproxy"]["source_principal"]) == (None, None)
    if plaintext == "reset":
        assert (plain["response_flags"], plain["response_code_details"]) == (
            "NR",
            "filter_chain_not_found",
        )
        assert plain["connection_termination_details"] == "plaintext_on_strict_port"


async def test_plaintext_of_bytes_and_http2_is_refused_too(mutual: Mutual) -> None:
    await mutual.decree(mutual.server, mode("STRICT"))
    await served(mutual)
    done = await mutual.outside("curl", "-sS", "--http2-prior-knowledge", URL)
    assert done.returncode == 56, done
    async with await dialled(mutual.outsider, (mutual.server.addresses.v4, 7000)) as plain:
        await plain.send_all(b"\0hello")
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await plain.receive_some()
    lines = await mutual.mesh.lines(mutual.server, 2)
    assert {line["connection_termination_details"] for line in lines} == {
        "plaintext_on_strict_port"
    }


async def test_disabled_a_port_has_tls_pass_as_the_applications_own(mutual: Mutual) -> None:
    await mutual.decree(mutual.server, mode("DISABLE"))
    await served(mutual)
    done = await mutual.mesh.run("socat", "-t5", "-", "TCP:server:7000", stdin=b"\0hello")
    # The echo sends the client's sidecar its own ClientHello back.
    assert done.stdout == ""
    outbound, inbound = await mutual.mesh.both()
    assert inbound["tproxy"]["detected_protocol"] == "tls"
    assert inbound["requested_server_name"] == SERVICE
    assert (inbound["tproxy"]["tls"], inbound["tproxy"]["source_principal"]) == (None, None)
    assert outbound["response_flags"] == "UF"
    assert outbound["upstream_transport_failure_reason"].startswith("TLS: protocol: ")
    await mutual.decree(mutual.client, plaintext_to(SERVICE))
    assert await fares(mutual) == ("200", "200")


async def test_a_sidecar_that_is_told_to_speak_plaintext_is_refused_as_others_are(
    mutual: Mutual,
) -> None:
    await mutual.decree(mutual.client, plaintext_to(SERVICE))
    await mutual.decree(mutual.server, mode("STRICT"))
    await served(mutual)
    assert await fares(mutual) == ("503", "reset")
    (outbound,) = await mutual.mesh.lines(mutual.client)
    assert (outbound["response_flags"], outbound["tproxy"]["tls"]) == ("UC", None)


@pytest.mark.parametrize(
    ("port", "said"),
    [
        pytest.param(7000, b"\0one", id="bytes"),
        pytest.param(8081, UPGRADE, id="a tunnel"),
    ],
)
async def test_strict_from_now_on_ends_plaintext_and_nothing_else(
    mutual: Mutual, port: int, said: bytes
) -> None:
    await served(mutual)
    await mutual.mesh.serve(python("websocket_talk.py", "serve", "8081"), 8081)
    at = (mutual.server.addresses.v4, port)
    async with await dialled(mutual.outsider, at) as plain, await dialled(mutual.client, at) as own:
        for stream in (plain, own):
            await stream.send_all(said)
            assert await stream.receive_some()
        await mutual.decree(mutual.server, mode("STRICT"))
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await plain.receive_some()
        (line,) = await mutual.mesh.lines(mutual.server)
        assert (line["response_flags"], line["response_code_details"]) == (
            "NR",
            "filter_chain_not_found",
        )
        # A ping, where that is asked for.
        await own.send_all(b"\x89\x80\0\0\0\0")
        with trio.fail_after(5):
            assert await own.receive_some()


async def test_strict_from_now_on_refuses_the_next_request_of_a_kept_connection(
    mutual: Mutual,
) -> None:
    await served(mutual)
    at = (mutual.server.addresses.v4, 8080)
    async with await dialled(mutual.outsider, at) as plain, await dialled(mutual.client, at) as own:
        for stream in (plain, own):
            await stream.send_all(ASK)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        await mutual.decree(mutual.server, mode("STRICT"))
        await plain.send_all(ASK)
        with trio.fail_after(5):
            assert await plain.receive_some() == b""
        await own.send_all(ASK)
        with trio.fail_after(5):
            assert (await own.receive_some()).startswith(b"HTTP/1.1 200 ")
    lines = await mutual.mesh.lines(mutual.server, 4)
    assert [line["response_flags"] for line in lines] == ["-", "-", "NR", "-"]
    assert lines[2]["tproxy"]["authz"]["reason"] == "plaintext_on_strict_port"
