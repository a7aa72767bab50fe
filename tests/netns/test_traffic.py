"""What real applications do, through two sidecars: every byte arrives, and the logs say what it was."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from fakes.mesh import APPS, Mesh, two_pods
from tproxy.lab import Lab

pytestmark = pytest.mark.netns

GIBIBYTE = 1 << 30
families = pytest.mark.parametrize("family", ["-4", "-6"])


POLICIES = """
apiVersion: tproxy.io/v1alpha1
kind: ProxyConfig
spec:
  detection: {timeout: 500ms}
  ports:
  - {port: 7100, protocol: TCP}
"""
"""A short detection, and a port of which it is declared that it carries bytes."""


@pytest.fixture(scope="module")
def pods() -> Iterator[Lab]:
    """Two pods that live as long as the tests of this file."""
    with two_pods(POLICIES) as lab:
        yield lab


def detected(lines: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Direction and detection of each line."""
    return {(line["tproxy"]["direction"], line["tproxy"]["detection"]) for line in lines}


def through_tls(detection: str) -> set[tuple[str, str]]:
    """What `detected` gives when the server's sidecar was told by the client's, as it is in mutual TLS."""
    return {("outbound", detection), ("inbound", "alpn")}


def on_both_sides(detection: str) -> set[tuple[str, str]]:
    """What `detected` gives when both sidecars saw the same."""
    return {("outbound", detection), ("inbound", detection)}


@families
@pytest.mark.parametrize(
    ("version", "protocol", "detection"),
    [
        pytest.param("--http1.0", "HTTP/1.0", "http10", id="HTTP/1.0"),
        pytest.param("--http1.1", "HTTP/1.1", "http11", id="HTTP/1.1"),
    ],
)
async def test_curl_over_http1(
    mesh: Mesh, family: str, version: str, protocol: str, detection: str
) -> None:
    await mesh.serve([sys.executable, str(APPS / "http_sink.py"), "8080"], 8080)
    done = await mesh.run(
        "curl",
        "-sS",
        family,
        version,
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{size_download}",
        "http://server:8080/1000",
    )
    assert (done.stdout, done.stderr) == ("200 1000", "")
    lines = await mesh.both()
    assert detected(lines) == through_tls(detection)
    outbound = lines[0]
    assert outbound["protocol"] == protocol
    assert (outbound["response_code"], outbound["bytes_sent"], outbound["authority"]) == (
        200,
        1000,
        "server:8080",
    )
    assert ("[" in outbound["upstream_host"]) is (family == "-6")
    assert lines[0]["request_id"] == lines[1]["request_id"]
    assert lines[0]["tproxy"]["trace_id"] == lines[1]["tproxy"]["trace_id"]


@families
async def test_curl_and_nghttp_over_http2(mesh: Mesh, family: str) -> None:
    await mesh.serve(["nghttpd", "--no-tls", "-d", str(APPS), "8081"], 8081)
    url = "http://server:8081/grpc_echo.py"
    done = await mesh.run("curl", "-sS", family, "--http2-prior-knowledge", url)
    assert (done.stdout, done.stderr) == ((APPS / "grpc_echo.py").read_text(), "")
    host = f"[{mesh.host(family)}]" if family == "-6" else mesh.host(family)
    many = await mesh.run("nghttp", "-ns", "-m20", f"http://{host}:8081/grpc_echo.py")
    assert many.returncode == 0
    lines = await mesh.both(21)
    assert detected(lines) == through_tls("h2")
    assert {line["response_code"] for line in lines} == {200}


@families
async def test_h2load_many_streams_on_several_connections(mesh: Mesh, family: str) -> None:
    await mesh.serve(["nghttpd", "--no-tls", "-d", str(APPS), "8081"], 8081)
    # h2load names the address that it has of the URL without its brackets.
    address = mesh.host(family)
    url = f"http://{f'[{address}]' if family == '-6' else address}:8081/grpc_echo.py"
    done = await mesh.run("h2load", "-n1000", "-c4", "-m16", url)
    assert "1000 succeeded, 0 failed, 0 errored" in done.stdout, done.stdout
    lines = await mesh.both(1000)
    assert len(lines) == 2000
    assert {line["authority"] for line in lines} == {f"{address}:8081"}


async def test_a_thousand_requests_on_one_connection(mesh: Mesh) -> None:
    await mesh.serve([sys.executable, str(APPS / "http_sink.py"), "8080"], 8080)
    done = await mesh.run(
        "curl",
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{num_connects}\n",
        "http://server:8080/[1-1000]",
    )
    answers = done.stdout.splitlines()
    assert answers[0] == "200 1"
    assert answers[1:] == ["200 0"] * 999
    lines = await mesh.lines(mesh.client, 1000)
    assert {line["downstream_remote_address"] for line in lines} == {
        lines[0]["downstream_remote_address"]
    }
    assert len({line["upstream_local_address"] for line in lines}) == 1


@pytest.mark.slow
async def test_a_gibibyte_down_and_up_arrives_unchanged(mesh: Mesh) -> None:
    await mesh.serve([sys.executable, str(APPS / "http_sink.py"), "8080"], 8080)
    block = hashlib.sha256(b"tproxy").digest() * 2048
    expected = hashlib.sha256()
    for _ in range(GIBIBYTE // len(block)):
        expected.update(block)
    down = await mesh.run("sh", "-c", f"curl -sS http://server:8080/{GIBIBYTE} | sha256sum")
    assert down.stdout.split()[0] == expected.hexdigest()
    up = await mesh.run(
        "sh",
        "-c",
        f"curl -sS http://server:8080/{GIBIBYTE} | curl -sS -T - -H 'Content-Length: {GIBIBYTE}' -H 'Transfer-Encoding:' http://server:8080/",
    )
    assert up.stdout == expected.hexdigest()
    lines = await mesh.both(3)
    assert {line["bytes_sent"] for line in lines if line["method"] == "GET"} == {GIBIBYTE}
    assert {line["bytes_received"] for line in lines if line["method"] == "PUT"} == {GIBIBYTE}


@families
async def test_grpc_in_all_four_kinds(mesh: Mesh, family: str) -> None:
    await mesh.serve([sys.executable, str(APPS / "grpc_echo.py"), "serve", "50051"], 50051)
    target = f"ipv6:[{mesh.host(family)}]:50051" if family == "-6" else "server:50051"
    done = await mesh.run(sys.executable, str(APPS / "grpc_echo.py"), "call", target)
    assert done.stdout.splitlines() == [
        "unary b'HELLO' {'x-seen': 'yes', 'x-raw-bin': b'\\x00\\xff'}",
        "upload b'2000000'",
        "download 500",
        "talk [b'ba', b'dc']",
        "refused FAILED_PRECONDITION as asked",
    ], done.stderr
    lines = await mesh.both(5)
    assert detected(lines) == through_tls("h2")
    assert {line["path"] for line in lines} == {
        f"/echo.Echo/{name}" for name in ("Unary", "Upload", "Download", "Talk")
    }
    metrics = await mesh.run("curl", "-s", "http://127.0.0.1:15020/metrics")
    assert 'request_protocol="grpc",response_code="200",grpc_response_status="9"' in metrics.stdout
    assert grpc_messages(metrics.stdout) == {
        ("istio_request_messages_total", "0"): 1 + 20 + 1 + 2,
        ("istio_response_messages_total", "0"): 1 + 1 + 500 + 2,
        ("istio_request_messages_total", "9"): 1,
    }


def grpc_messages(metrics: str) -> dict[tuple[str, str], int]:
    """How many gRPC messages went each way, by their calls' status."""
    found = re.findall(
        r'^(\w+_messages_total)\{.*grpc_response_status="(\d+)".*\} (\d+)$', metrics, re.MULTILINE
    )
    return {(name, status): int(count) for name, status, count in found}


async def test_grpc_without_a_server_is_unavailable(mesh: Mesh) -> None:
    done = await mesh.run(sys.executable, str(APPS / "grpc_echo.py"), "fail", "server:50059")
    assert done.stdout == "failed UNAVAILABLE\n", done.stderr
    inbound = (await mesh.both())[-1]
    assert (inbound["response_code"], inbound["response_flags"]) == (200, "UF")


@families
async def test_redis(mesh: Mesh, family: str) -> None:
    await mesh.serve(
        [
            "redis-server",
            "--port",
            "6379",
            "--bind",
            "*",
            "-::*",
            "--protected-mode",
            "no",
            "--save",
            "",
        ],
        6379,
    )
    assert (await mesh.run("redis-cli", "-h", mesh.host(family), "SET", "a", "b")).stdout == "OK\n"
    assert (await mesh.run("redis-cli", "-h", mesh.host(family), "GET", "a")).stdout == "b\n"
    assert detected(await mesh.both(2)) == on_both_sides("declared")


@families
@pytest.mark.parametrize(
    ("port", "detection"),
    [
        pytest.param(3306, "declared", id="a port known for it"),
        pytest.param(7100, "declared", id="a declared port"),
        pytest.param(7200, "timeout", id="any other port"),
    ],
)
async def test_a_server_that_speaks_first(
    mesh: Mesh, family: str, port: int, detection: str
) -> None:
    await mesh.serve([sys.executable, str(APPS / "tcp_services.py"), f"greet:{port}"], port)
    script = "sleep 1; echo hello; sleep 0.2"
    done = await mesh.run("sh", "-c", f"({script}) | socat -t3 - TCP{family[1]}:server:{port}")
    assert done.stdout.replace("\r", "") == "220 ready\n250 hello\n"
    declared = detection == "declared"
    expected = on_both_sides(detection) if declared else through_tls(detection)
    assert detected(await mesh.both()) == expected


@families
async def test_a_half_closed_connection_stays_half_open(mesh: Mesh, family: str) -> None:
    await mesh.serve([sys.executable, str(APPS / "tcp_services.py"), "digest:7000"], 7000)
    sent = os.urandom(3_000_000)
    done = await mesh.run("socat", "-t10", "-", f"TCP{family[1]}:server:7000", stdin=sent)
    assert done.stdout == hashlib.sha256(sent).hexdigest()
    lines = await mesh.both()
    assert {(line["bytes_received"], line["bytes_sent"]) for line in lines} == {(3_000_000, 64)}
    assert {line["response_flags"] for line in lines} == {"-"}


async def test_an_end_without_a_byte_reaches_the_server_and_its_greeting_the_client(
    mesh: Mesh,
) -> None:
    await mesh.serve([sys.executable, str(APPS / "tcp_services.py"), "greet:7002"], 7002)
    done = await mesh.run("socat", "-t10", "-", "TCP:server:7002", stdin=b"")
    assert done.stdout == "220 ready\r\n250 "
    lines = await mesh.both()
    assert detected(lines) == through_tls("closed")
    assert {line["bytes_sent"] for line in lines} == {15}


@families
async def test_the_client_sees_whom_it_dialled_and_the_server_the_sidecar(
    mesh: Mesh, family: str
) -> None:
    await mesh.serve([sys.executable, str(APPS / "tcp_services.py"), "tell:7004"], 7004)
    host = mesh.host(family)
    script = (
        f"import socket; s = socket.create_connection(('{host}', 7004)); s.shutdown(socket.SHUT_WR); "
        "print(s.getpeername()[0], s.getsockname()[0], s.recv(100).decode())"
    )
    done = await mesh.run(sys.executable, "-c", script)
    addresses = mesh.client.addresses
    own, caller = (addresses.v4, "127.0.0.6") if family == "-4" else (addresses.v6, "::6")
    mapped = "::ffff:" if family == "-4" else ""  # the server's socket is for both families
    assert done.stdout.split() == [host, own, mapped + caller, mapped + host]


async def test_urgent_data_arrives_in_line(mesh: Mesh) -> None:
    await mesh.serve([sys.executable, str(APPS / "tcp_services.py"), "digest:7003"], 7003)
    script = (
        "import socket; s = socket.create_connection(('server', 7003)); s.sendall(b'\\0abc'); "
        "s.send(b'DE', socket.MSG_OOB); s.sendall(b'fg'); s.shutdown(1); print(s.recv(100).decode())"
    )
    done = await mesh.run(sys.executable, "-c", script)
    assert done.stdout.strip() == hashlib.sha256(b"\0abcDEfg").hexdigest()


async def test_a_reset_arrives_as_a_reset_after_what_came_before_it(mesh: Mesh) -> None:
    await mesh.serve([sys.executable, str(APPS / "tcp_services.py"), "reset:7001"], 7001)
    script = (
        "import socket; s = socket.create_connection(('server', 7001)); s.sendall(b'\\0go'); "
        "print(s.recv(100), flush=True); s.recv(100)"
    )
    done = await mesh.run(sys.executable, "-c", script)
    assert done.stdout == "b'before the end'\n"
    assert "ConnectionResetError" in done.stderr
    assert {line["response_flags"] for line in await mesh.both()} == {"UR"}


@families
async def test_an_applications_own_tls_passes_untouched_and_named(
    mesh: Mesh, family: str, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("own.example").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "key.pem"
    )
    await mesh.serve(
        [
            "openssl",
            "s_server",
            "-accept",
            "8443",
            "-cert",
            str(tmp_path / "key.pem"),
            "-rev",
            "-quiet",
        ],
        8443,
    )
    done = await mesh.run(
        "sh", "-c",
        f"(echo hello; sleep 0.5) | openssl s_client {family} -connect server:8443 -servername own.example"
        f" -CAfile {tmp_path}/ca.pem -verify_return_error -quiet -no_ign_eof",
    )  # fmt: skip
    assert "olleh" in done.stdout
    lines = await mesh.both()
    assert detected(lines) == on_both_sides("tls")
    assert {line["requested_server_name"] for line in lines} == {"own.example"}


@pytest.mark.slow
@families
async def test_iperf3_both_ways(mesh: Mesh, family: str) -> None:
    await mesh.serve(["iperf3", "-s"], 5201)
    for way in ([], ["-R"]):
        done = await mesh.run("iperf3", family, "-c", "server", "-t1", "-P4", "-J", *way)
        assert done.returncode == 0, done.stdout
        sums = json.loads(done.stdout)["end"]
        # What is on its way when the time is up is counted on one side only.
        assert sums["sum_received"]["bytes"] > 0.8 * sums["sum_sent"]["bytes"] > 0


@families
async def test_an_upstream_that_refuses(mesh: Mesh, family: str) -> None:
    done = await mesh.run("curl", "-sS", family, "-w", " %{http_code}", "http://server:81/")
    assert done.stdout.endswith("reset reason: connection failure 503")
    inbound = (await mesh.lines(mesh.server))[0]
    assert (inbound["response_code"], inbound["response_flags"]) == (503, "UF")
    assert (
        inbound["response_code_details"]
        == "upstream_reset_before_response_started{connection_failure}"
    )
    assert inbound["upstream_transport_failure_reason"] == "Connection refused"


async def test_a_tcp_upstream_that_refuses_is_a_reset(mesh: Mesh) -> None:
    script = "import socket; s = socket.create_connection(('server', 7999)); s.sendall(b'\\0go'); s.recv(1)"
    done = await mesh.run(sys.executable, "-c", script)
    assert "ConnectionResetError" in done.stderr
    inbound = (await mesh.lines(mesh.server))[0]
    assert (inbound["response_code"], inbound["response_flags"]) == (0, "UF")


async def test_an_upstream_that_is_not_there(mesh: Mesh) -> None:
    done = await mesh.run("curl", "-sS", "-w", " %{http_code}", "http://192.0.2.250/")
    assert done.stdout.endswith("reset reason: connection failure 503")
    outbound = (await mesh.lines(mesh.client))[0]
    assert (outbound["response_flags"], outbound["upstream_transport_failure_reason"]) == (
        "UF",
        "No route to host",
    )


async def test_an_upstream_that_vanishes_leaves_a_broken_answer_not_a_short_one(mesh: Mesh) -> None:
    server = await mesh.serve([sys.executable, str(APPS / "http_sink.py"), "8080"], 8080)
    async with trio.open_nursery() as nursery:

        async def kill_soon() -> None:
            await trio.sleep(0.5)
            await server.kill()

        nursery.start_soon(kill_soon)
        done = await mesh.run(
            "curl",
            "-sS",
            "--limit-rate",
            "10M",
            "-o",
            "/dev/null",
            f"http://server:8080/{GIBIBYTE}",
        )
    assert done.returncode in (18, 56), done.stderr
    lines = await mesh.both()
    assert {line["response_flags"] for line in lines} == {"UC"}


async def test_what_is_sent_to_the_proxys_own_ports_is_refused(mesh: Mesh) -> None:
    for url in (
        "http://server:15001/",
        "http://server:15006/",
        "http://127.0.0.1:15001/",
        "http://127.0.0.1:15006/",
    ):
        done = await mesh.run(
            "curl", "-sS", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}", url
        )
        assert done.stdout in ("000", "503"), url
