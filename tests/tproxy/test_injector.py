"""The webhook's server: reviews over TLS, files that change under it, and whatever else comes."""

import http.client
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trustme

from tproxy.inject.admission import OnRefusal
from tproxy.injector import CONNECTIONS, MOST_REVIEW, SILENT, BadFiles, Files, Injector, load
from tproxy.model.limits import Limits

POD = {"kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "a"}]}}
REVIEW = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {"uid": "u-1", "operation": "CREATE", "namespace": "shop", "object": POD},
}
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Asker:
    """A client of a running injector."""

    injector: Injector
    reviews: int
    desk: int
    authority: trustme.CA

    async def post(
        self, content: object, path: str = "/inject", method: str = "POST", **headers: str
    ) -> tuple[int, str]:
        """Ask over TLS."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        connection = http.client.HTTPSConnection(
            "localhost", self.reviews, context=_trusting(self.authority), timeout=5
        )
        return await trio.to_thread.run_sync(
            _asked, connection, method, path, body, {**JSON, **headers}
        )

    async def get(self, path: str) -> tuple[int, str]:
        """Ask where health and metrics are."""
        connection = http.client.HTTPConnection("localhost", self.desk, timeout=5)
        return await trio.to_thread.run_sync(_asked, connection, "GET", path, None, {})


def _asked(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
) -> tuple[int, str]:
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def certify(authority: trustme.CA, place: Path) -> None:
    """Write a certificate."""
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(place / "tls.key")
    issued.cert_chain_pems[0].write_to_path(place / "tls.crt")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who vouches for the webhook."""
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    """All of its files, sound."""
    certify(authority, tmp_path)
    (tmp_path / "sidecar.yaml").write_text("initImage: first:1\n")
    return Files(tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "sidecar.yaml")


@asynccontextmanager
async def running(files: Files, authority: trustme.CA) -> AsyncIterator[Asker]:
    """An injector at work."""
    injector = Injector(files, OnRefusal.DENY, Limits(head_seconds=0.5))
    reviews, desk = injector.listeners(port=0, health_port=0)
    ports = (reviews.addresses[0].port, desk.addresses[0].port)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(injector.run, reviews, desk)
            await until(lambda: injector.ready)
            yield Asker(injector, *ports, authority)
            injector.stop()


async def until(claim: Callable[[], bool]) -> None:
    """Wait for what another task does."""
    while not claim():  # noqa: ASYNC110 - it has no event
        await trio.sleep(0.05)


async def test_a_review_is_answered_over_tls(files: Files, authority: trustme.CA) -> None:
    async with running(files, authority) as asker:
        status, content = await asker.post(REVIEW)
        assert status == 200
        assert json.loads(content)["response"]["patchType"] == "JSONPatch"
        assert await asker.get("/healthz/ready") == (200, "LIVE\n")
        assert await asker.get("/healthz/live") == (200, "LIVE\n")
        assert 'tproxy_injections_total{result="injected"} 1.0' in (await asker.get("/metrics"))[1]


@pytest.mark.parametrize(
    ("content", "more", "status"),
    [
        pytest.param(b"x", {}, 400, id="no review"),
        pytest.param(b"x", {"path": "/"}, 404, id="no page"),
        pytest.param(b"", {"method": "GET"}, 405, id="no POST"),
        pytest.param(b"{}", {"Content-Type": "text/plain"}, 415, id="no JSON"),
        pytest.param(b" " * (MOST_REVIEW + 1), {}, 413, id="too large"),
    ],
)
async def test_what_is_no_review_is_refused_and_counted(
    files: Files, authority: trustme.CA, content: bytes, more: dict[str, str], status: int
) -> None:
    async with running(files, authority) as asker:
        assert (await asker.post(content, **more))[0] == status
        assert (await asker.post(REVIEW))[0] == 200


async def test_whoever_speaks_no_tls_is_let_go(
    files: Files, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running(files, authority) as asker:
        stream = await trio.open_tcp_stream("localhost", asker.reviews)
        async with stream:
            await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises((trio.BrokenResourceError, EOFError)):  # noqa: PT012 - either end
                while await stream.receive_some():
                    pass
                raise EOFError
        await until(lambda: "agreed on no TLS with us" in caplog.text)
        assert (await asker.post(REVIEW))[0] == 200


async def _read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    content = b""
    with suppress(trio.BrokenResourceError):
        while part := await stream.receive_some():
            content += part
    return content


def _trusting(authority: trustme.CA) -> ssl.SSLContext:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return trusting


async def test_whoever_finishes_no_request_is_let_go(files: Files, authority: trustme.CA) -> None:
    async with running(files, authority) as asker:
        stream = await trio.open_ssl_over_tcp_stream(
            "localhost", asker.reviews, ssl_context=_trusting(authority), https_compatible=True
        )
        async with stream:
            await stream.send_all(b"POST /inject HTTP/1.1\r\nHost: a\r\n")
            assert (await _read_to_end(stream)).startswith(b"HTTP/1.1 408")


async def test_a_flood_of_connections_leaves_health_and_metrics_alone(
    files: Files, authority: trustme.CA
) -> None:
    async with running(files, authority) as asker:
        held = [
            await trio.open_tcp_stream("127.0.0.1", asker.reviews) for _ in range(CONNECTIONS + 1)
        ]
        assert await asker.get("/healthz/live") == (200, "LIVE\n")
        for each in held:
            await each.aclose()


async def test_silence_keeps_nobody_out(files: Files, authority: trustme.CA) -> None:
    trusting = _trusting(authority)
    async with running(files, authority) as asker:
        held: list[trio.abc.Stream] = [
            await trio.open_tcp_stream("127.0.0.1", asker.reviews) for _ in range(SILENT + 1)
        ]
        for _ in range(SILENT + 1):
            stream = await trio.open_ssl_over_tcp_stream(
                "localhost", asker.reviews, ssl_context=trusting, https_compatible=True
            )
            await stream.do_handshake()
            held.append(stream)
        assert (await asker.post(REVIEW))[0] == 200
        # The oldest of each kind have been let go for it.
        assert [await _read_to_end(held[at]) for at in (0, SILENT + 1)] == [b"", b""]
        for each in held:
            await trio.aclose_forcefully(each)


async def test_who_keeps_a_connection_is_told_to_go_as_it_leaves(
    files: Files, authority: trustme.CA
) -> None:
    async with running(files, authority) as asker:
        kept = http.client.HTTPSConnection(
            "localhost", asker.reviews, context=_trusting(authority), timeout=5
        )

        def asked() -> tuple[int, str | None]:
            kept.request("POST", "/inject", json.dumps(REVIEW), JSON)
            answer = kept.getresponse()
            answer.read()
            return answer.status, answer.headers["Connection"]

        assert await trio.to_thread.run_sync(asked) == (200, None)
        asker.injector.stop()
        await until(lambda: not asker.injector.ready)
        assert await trio.to_thread.run_sync(asked) == (200, "close")
        kept.close()


async def test_files_are_taken_as_they_change_and_bad_ones_change_nothing(
    files: Files, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert files.settings is not None
    async with running(files, authority) as asker:
        files.settings.write_text("initImage: second:2\n")
        certify(authority, files.certificate.parent)
        await until(lambda: caplog.text.count("its certificate ends") >= 3)
        files.settings.write_text("initImages: third:3\n")
        await until(lambda: "unknown field `initImages`" in caplog.text)
        _, content = await asker.post(REVIEW)
        assert json.loads(content)["response"]["allowed"]
        assert "tproxy_injector_last_reload_successful 0.0" in (await asker.get("/metrics"))[1]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        pytest.param("tls.crt", None, "cannot be read: No such file", id="no certificate"),
        pytest.param("tls.crt", b"x", "holds no certificate in PEM", id="no PEM"),
        pytest.param("tls.key", b"x", "is no private key in PEM", id="no key"),
        pytest.param("sidecar.yaml", b"a: 1", "unknown field `a`", id="settings"),
    ],
)
def test_without_sound_files_it_does_not_start(
    files: Files, name: str, content: bytes | None, said: str
) -> None:
    file = files.certificate.parent / name
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(BadFiles, match=said):
        load(files)


def test_a_key_of_another_certificate_is_refused(files: Files) -> None:
    other = trustme.CA().issue_cert("localhost")
    other.private_key_pem.write_to_path(files.key)
    with pytest.raises(BadFiles, match="is another certificate's"):
        load(files)


def test_settings_may_be_left_out(files: Files) -> None:
    assert load(Files(files.certificate, files.key)).sidecar.policies == ""
