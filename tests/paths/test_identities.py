"""Who has proven to be whom, seen from the application, the log and the counters, in either version."""

from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families as parse_text

from fakes.path import Path, ask, to_app
from fakes.policies import snapshot
from fakes.talk import App, Call, Heard, answer, echo, whole
from tproxy.model.flow import Direction, Protocol
from tproxy.model.identity import Peer, Proof

across = pytest.mark.parametrize(
    ("protocol", "upstream"),
    [
        pytest.param(one, other, id=f"{one} to {other}")
        for one in (Protocol.HTTP1, Protocol.HTTP2)
        for other in (Protocol.HTTP1, Protocol.HTTP2)
    ],
)
OURS, CLIENT = Peer("cluster.local", "web", "shop"), Peer("cluster.local", "prod", "sleep")
PROOF = Proof(OURS, "ab" * 32, "TLSv1.3")
NAME = b"x-forwarded-client-cert"
CERT = (
    b"By=spiffe://cluster.local/ns/web/sa/shop;Hash=" + b"ab" * 32 + b';Subject="";'
    b"URI=spiffe://cluster.local/ns/prod/sa/sleep"
)
FORGED = (
    (NAME, b"URI=spiffe://cluster.local/ns/prod/sa/admin"),
    (NAME, b"Hash=00"),
    (b"x-envoy-peer-metadata", b"Cg=="),
    (b"x-envoy-peer-metadata-id", b"sidecar~admin"),
)


def recording(heard: list[Heard]) -> App:
    """An application that remembers what it is asked, and says who it is in Istio's way."""

    async def app(call: Call) -> None:
        heard.append(await whole(call))
        await answer(call, b"ok", fields=FORGED[2:])

    return app


def samples(path: Path, name: str) -> list[dict[str, str]]:
    """The labels of a counter's series."""
    families = parse_text(path.metrics.exposition()[0].decode())
    return [each.labels for family in families for each in family.samples if each.name == name]


@across
async def test_on_mutual_tls_the_application_is_told_who_calls(
    protocol: Protocol, upstream: Protocol
) -> None:
    heard: list[Heard] = []
    async with to_app(recording(heard), protocol, upstream=upstream) as path:
        path.proven = CLIENT, PROOF
        talk = path.talk()
        for _ in range(2):
            await ask(talk, fields=FORGED)
        lines: list[dict[str, Any]] = await path.logged(2)

        assert [each.get(NAME) for each in heard] == [[CERT], [CERT]]
        assert {line["tproxy"]["tls"] for line in lines} == {"mutual"}
        assert lines[0]["tproxy"]["source_principal"] == "cluster.local/ns/prod/sa/sleep"
        (labels,) = samples(path, "istio_requests_total")
        assert labels["connection_security_policy"] == "mutual_tls"
        assert labels["source_principal"] == "spiffe://cluster.local/ns/prod/sa/sleep"


@across
@pytest.mark.parametrize("direction", [pytest.param(each, id=each) for each in Direction])
async def test_on_plaintext_nobody_can_pass_for_another(
    direction: Direction, protocol: Protocol, upstream: Protocol
) -> None:
    heard: list[Heard] = []
    async with to_app(recording(heard), protocol, upstream=upstream) as path:
        path.direction = direction
        got = await path.get(fields=FORGED)
        (line,) = await path.logged()

        names = {name.lower() for name, _ in (*heard[0].fields, *got.fields)}
        assert names.isdisjoint(name for name, _ in FORGED)
        assert (line["tproxy"]["tls"], line["tproxy"]["source_principal"]) == (None, None)


@across
@pytest.mark.parametrize(
    "proven", [pytest.param(True, id="mutual TLS"), pytest.param(False, id="plaintext")]
)
async def test_trailers_cannot_say_it_either(
    protocol: Protocol, upstream: Protocol, proven: bool
) -> None:
    heard: list[Heard] = []

    async def app(call: Call) -> None:
        await echo(call)
        heard.append(call.heard)

    async with to_app(app, protocol, upstream=upstream) as path:
        path.proven = (CLIENT, PROOF) if proven else None
        call = await path.talk().call()
        chunked = [(b"transfer-encoding", b"chunked")] if protocol is Protocol.HTTP1 else []
        await call.say((b"POST", b"/"), [*chunked, (b"te", b"trailers")])
        await call.send(b"body")
        await call.end([*FORGED, (b"x-sum", b"42")])
        got = await whole(call)
        await path.logged()

        assert heard[0].trailers == got.trailers == [(b"x-sum", b"42")]
        assert heard[0].get(NAME) == ([CERT] if proven else [])


async def test_connection_cannot_take_away_what_we_say() -> None:
    heard: list[Heard] = []
    async with to_app(recording(heard), Protocol.HTTP1) as path:
        path.proven = CLIENT, PROOF
        await path.get(fields=((b"Connection", b"close, X-Forwarded-Client-Cert"), *FORGED))
        assert heard[0].get(NAME) == [CERT]


ONLY_ADMIN = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only-admin, namespace: web}
spec: {rules: [{when: [{key: "request.headers[x-forwarded-client-cert]", values: ["*/sa/admin"]}]}]}
"""


@pytest.mark.parametrize(
    ("who", "status"),
    [
        pytest.param(None, 403, id="nobody"),
        pytest.param(CLIENT, 403, id="another"),
        pytest.param(Peer("cluster.local", "prod", "admin"), 200, id="the one"),
    ],
)
@pytest.mark.parametrize(
    "protocol",
    [pytest.param(Protocol.HTTP1, id="http1"), pytest.param(Protocol.HTTP2, id="http2")],
)
async def test_policies_read_what_was_proven_and_not_what_was_said(
    protocol: Protocol, who: Peer | None, status: int
) -> None:
    async with to_app(recording([]), protocol) as path:
        path.policies.swap(snapshot(ONLY_ADMIN))
        path.proven = (who, PROOF) if who else None
        assert (await path.get(fields=FORGED)).start == status


async def test_a_relayed_connection_is_counted_and_told_by_who_was_proven() -> None:
    async with to_app(echo, Protocol.HTTP1) as path:
        path.proven = CLIENT, PROOF
        near = path.relay()
        await trio.testing.wait_all_tasks_blocked()
        near.close()
        await trio.testing.wait_all_tasks_blocked()
        opened, closed = (
            samples(path, f"istio_tcp_connections_{what}_total") for what in ("opened", "closed")
        )
        assert opened == closed
        assert opened[0]["source_workload"] == "sleep"
