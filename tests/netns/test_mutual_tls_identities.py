"""Who has proven to be whom: what policies make of it, and what applications, logs and metrics are told."""

import json
import sys

import pytest
import trio

from fakes.footprint import dialled
from fakes.mesh import APPS, Mesh
from fakes.mutual import MARKER, SERVICE, SLEEP, WEB, Mutual, authorization, mode, tapped
from tproxy.lab import Pod

pytestmark = pytest.mark.netns

URL = "http://server:8080/echo"
TOLD = "%{http_code} %header{grpc-status}\\n"
CALLS = {
    "HTTP/1.1": ["--http1.1"],
    "HTTP/2": ["--http2-prior-knowledge"],
    "gRPC": ["--http2-prior-knowledge", "-X", "POST", "-H", "content-type: application/grpc"],
}
ALLOWED = {"HTTP/1.1": "200", "HTTP/2": "200", "gRPC": "200", "bytes": "echoed"}
DENIED = {"HTTP/1.1": "403", "HTTP/2": "403", "gRPC": "200 7", "bytes": "reset"}
RESET = {"HTTP/1.1": "000", "HTTP/2": "000", "gRPC": "000", "bytes": "reset"}
FORGED = ("-H", "X-Forwarded-Client-Cert: By=spiffe://a/b;URI=spiffe://cluster.local/ns/a/sa/admin")


def allow(source: str, *, action: str = "ALLOW", namespace: str = "default") -> str:
    """Write a rule about where requests come from."""
    rules = f"[{{from: [{{source: {{{source}}}}}]}}]"
    return authorization(
        f"{{action: {action}, rules: {rules}}}",
        name=f"{action.lower()}-{namespace}",
        namespace=namespace,
    )


def deny(source: str, *, namespace: str = "default") -> str:
    """Write one that refuses."""
    return allow(source, action="DENY", namespace=namespace)


def when(condition: str) -> str:
    """Write a rule under a condition."""
    return authorization(f"{{rules: [{{when: [{{{condition}}}]}}]}}")


ANYTHING = authorization("{rules: [{}]}", name="anything")


async def serve_all(mesh: Mesh) -> None:
    """Serve HTTP in both versions on port 8080, and an echo on port 7000."""
    hypercorn = [sys.executable, "-m", "hypercorn", "-w0", "-k", "trio", "-b", "[::]:8080"]
    await mesh.serve([*hypercorn, f"{APPS}/asgi_origin.py:app"], 8080)
    await mesh.serve(["socat", "TCP6-LISTEN:7000,fork,reuseaddr,ipv6only=0", "PIPE"], 7000)


async def fares(mutual: Mutual, pod: Pod) -> dict[str, str]:
    """Ask in every protocol, and say what comes of each."""
    words = []
    # Each asks by another name, since curl mixes up the versions of connections that it keeps.
    for host, options in zip(("server", "server.default", SERVICE), CALLS.values(), strict=True):
        url = f"http://{host}:8080/echo"
        words += ["--next", "-sS", "-o", "/dev/null", "-w", TOLD, *options, url]
    run = mutual.mesh.run if pod is mutual.client else mutual.outside
    answers = (await run("curl", *words[1:])).stdout.splitlines()
    fared = dict(zip(CALLS, map(str.strip, answers), strict=True))
    async with await dialled(pod, (mutual.server.addresses.v4, 7000)) as stream:
        await stream.send_all(b"\0hello")
        try:
            with trio.fail_after(5):
                fared["bytes"] = "echoed" if await stream.receive_some() else "ended"
        except trio.BrokenResourceError:
            fared["bytes"] = "reset"
    return fared


ROWS = (
    ("its principal", [allow(f"principals: [{SLEEP}]")], ALLOWED, DENIED),
    ("another's", [allow(f"principals: [{WEB}]")], DENIED, DENIED),
    ("any principal is none on plaintext", [allow("principals: ['*']")], ALLOWED, DENIED),
    ("a principal's beginning", [allow("principals: ['cluster.local/ns/default/*']")], ALLOWED, DENIED),
    ("a principal's end", [allow("principals: ['*/sa/sleep']")], ALLOWED, DENIED),
    ("its namespace", [allow("namespaces: [default]")], ALLOWED, DENIED),
    ("any namespace", [allow("namespaces: ['*']")], ALLOWED, DENIED),
    ("another namespace", [allow("namespaces: [foo]")], DENIED, DENIED),
    ("its account", [allow("serviceAccounts: [sleep]")], ALLOWED, DENIED),
    ("its account, and where", [allow("serviceAccounts: [default/sleep]")], ALLOWED, DENIED),
    ("an account of the same name elsewhere", [allow("serviceAccounts: [foo/sleep]")], DENIED, DENIED),
    ("when it is its principal", [when(f"key: source.principal, values: [{SLEEP}]")], ALLOWED, DENIED),
    ("when it is another's", [when(f"key: source.principal, values: [{WEB}]")], DENIED, DENIED),
    ("when it is its namespace", [when("key: source.namespace, values: [default]")], ALLOWED, DENIED),
    ("when it is its account", [when("key: source.serviceAccount, values: [default/sleep]")], ALLOWED, DENIED),
    ("deny whoever proves nothing", [deny("notPrincipals: ['*']")], ALLOWED, DENIED),
    ("deny all others", [deny(f"notPrincipals: [{SLEEP}]")], ALLOWED, DENIED),
    ("deny its principal", [deny(f"principals: [{SLEEP}]")], DENIED, ALLOWED),
    ("deny all other namespaces", [deny("notNamespaces: [foo]")], DENIED, DENIED),
    ("no namespace is another one", [deny("notNamespaces: [default]")], ALLOWED, DENIED),
    ("deny all other accounts", [deny("notServiceAccounts: [sleep]")], ALLOWED, DENIED),
    ("all but another's, under STRICT", [mode("STRICT"), allow(f"notPrincipals: [{WEB}]")], ALLOWED, RESET),
    ("all but its, under STRICT", [mode("STRICT"), allow(f"notPrincipals: [{SLEEP}]")], DENIED, RESET),
    ("the mesh denies what the namespace allows", [deny(f"principals: [{SLEEP}]", namespace="istio-system"), ANYTHING], DENIED, ALLOWED),
)  # fmt: skip


async def test_what_is_proven_decides(mutual: Mutual) -> None:
    await serve_all(mutual.mesh)
    fared = {}
    for what, said, _, _ in ROWS:
        await mutual.decree(mutual.server, *said)
        fared[what] = await fares(mutual, mutual.client), await fares(mutual, mutual.outsider)
    assert fared == {what: (meshed, plaintext) for what, _, meshed, plaintext in ROWS}


async def test_of_two_rules_one_is_enough(mutual: Mutual) -> None:
    rules = "[{to: [{operation: {paths: [/foo]}}]}, {from: [{source: {namespaces: [default]}}]}]"
    await mutual.decree(mutual.server, authorization(f"{{rules: {rules}}}"))
    await serve_all(mutual.mesh)
    assert await fares(mutual, mutual.client) == ALLOWED
    assert await fares(mutual, mutual.outsider) == DENIED


async def test_a_connection_ends_when_its_principal_is_allowed_no_more(mutual: Mutual) -> None:
    await mutual.decree(mutual.server, allow(f"principals: [{SLEEP}]"))
    await serve_all(mutual.mesh)
    async with await dialled(mutual.client, (mutual.server.addresses.v4, 7000)) as stream:
        await stream.send_all(b"\0hello")
        assert await stream.receive_some()
        await mutual.decree(mutual.server, allow(f"principals: [{WEB}]"))
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
    (line,) = await mutual.mesh.lines(mutual.server)
    assert line["response_code_details"] == "rbac_access_denied_matched_policy[none]"


# What others are told


@pytest.mark.parametrize("version", [*CALLS.values()][:2], ids=[*CALLS][:2])
async def test_applications_are_told_who_calls_and_nothing_that_is_forged(
    mutual: Mutual, version: list[str]
) -> None:
    await serve_all(mutual.mesh)
    words = ["curl", "-sS", *version, *FORGED, *FORGED, f"{URL}?whole"]
    meshed = json.loads((await mutual.mesh.run(*words)).stdout)
    (told,) = [value for name, value in meshed["headers"] if name == "x-forwarded-client-cert"]
    by, digest, rest = told.split(";", 2)
    assert (by, rest) == (f"By=spiffe://{WEB}", f'Subject="";URI=spiffe://{SLEEP}')
    assert len(bytes.fromhex(digest.removeprefix("Hash="))) == 32
    plain = json.loads((await mutual.outside(*words)).stdout)
    assert "x-forwarded-client-cert" not in dict(plain["headers"])


async def test_both_logs_and_metrics_say_who_was_whom(mutual: Mutual) -> None:
    await serve_all(mutual.mesh)
    who = {"source_principal": f"spiffe://{SLEEP}", "destination_principal": f"spiffe://{WEB}"}
    told = {
        "client": {**who, "reporter": "source", "connection_security_policy": "unknown"},
        "server": {**who, "reporter": "destination", "connection_security_policy": "mutual_tls"},
    }
    series = ("istio_requests_total", "istio_tcp_connections_opened_total")
    before = {
        (pod.name, name): await mutual.metric(pod, name, **told[pod.name])
        for pod in (mutual.client, mutual.server)
        for name in series
    }
    assert await fares(mutual, mutual.client) == ALLOWED
    await mutual.proven(4)
    for pod in (mutual.client, mutual.server):
        counted = [
            await mutual.metric(pod, name, **told[pod.name]) - before[pod.name, name]
            for name in series
        ]
        assert counted == [3, 1]


async def test_the_client_refuses_whoever_has_taken_anothers_address(mutual: Mutual) -> None:
    await serve_all(mutual.mesh)
    known = mutual.lab.endpoints("client") / "pods.yaml"
    told = known.read_text()
    assert told.count(f'"spiffe://{WEB}"') == 1
    marked = ["-H", f"x-mark: {MARKER.decode()}", "--data-binary", MARKER.decode() * 10]
    try:
        known.write_text(told.replace(f'"spiffe://{WEB}"', f'"spiffe://{WEB}-2"'))
        await mutual.decree(mutual.client)
        with tapped(mutual.server) as tap:
            for version in ("--http1.1", "--http2-prior-knowledge"):
                words = ["curl", "-sS", version, *marked, "-w", " %{http_code}", URL]
                done = await mutual.mesh.run(*words)
                assert done.stdout.endswith("reset reason: connection failure 503"), done
            async with await dialled(mutual.client, (mutual.server.addresses.v4, 7000)) as stream:
                await stream.send_all(b"\0" + MARKER)
                with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
            assert MARKER not in tap.heard()
    finally:
        known.write_text(told)
        await mutual.decree(mutual.client)
    for line in await mutual.mesh.lines(mutual.client, 3):
        assert line["response_flags"] == "UF"
        assert line["upstream_transport_failure_reason"] == (
            f"TLS: wrong_identity: it is spiffe://{WEB}"
        )
        assert line["tproxy"]["destination_principal"] is None
    for line in await mutual.mesh.lines(mutual.server, 3):
        assert line["response_code_details"] == "tls_handshake_failed"
        assert line["connection_termination_details"].startswith("rejected")
