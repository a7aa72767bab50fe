"""The standard library's own network tests pass behind a sidecar as they do without one, save what is listed here.

These tests dial localhost, which capture leaves alone. So they run three times: in a pod without capture, in a
captured pod as it is, and in a captured pod where localhost is captured as well. There each of their connections goes
through both halves of a sidecar: from the test's client by 15001 and 15006 to the test's server.
"""

import importlib.util
import os
import sys
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio

from fakes.mesh import ROOT
from tproxy.lab import Pod, PodSpec, User, open_pod

pytestmark = pytest.mark.netns

PYTHON = Path(sys.executable).resolve()
"""The distribution's: the tests' user may not be where the virtual environment is."""
NOBODY = User.parse("nobody")
PATIENCE = 300

POLICIES = """
apiVersion: tproxy.io/v1alpha1
kind: ProxyConfig
spec:
  detection: {timeout: 20ms}
"""

CAPTURE_LOOPBACK = """
table inet loopback {
    chain output {
        type nat hook output priority -110;
        ip daddr 127.0.0.0/8 meta skuid nobody meta l4proto tcp redirect to :15001
        ip6 daddr ::1 meta skuid nobody meta l4proto tcp redirect to :15001
        ip daddr 127.0.0.0/8 ip saddr != 127.0.0.6 meta skuid 1337 meta l4proto tcp redirect to :15006
        ip6 daddr ::1 ip6 saddr != ::6 meta skuid 1337 meta l4proto tcp redirect to :15006
    }
}
"""

LEFT_ALONE = ("test_httplib", "test_smtplib", "test_asyncio.test_streams")
MODULES = (
    *LEFT_ALONE,
    "test_socket",
    "test_ssl",
    "test_httpservers",
    "test_urllib2_localnet",
    "test_ftplib",
    "test_poplib",
    "test_nntplib",
    "test_telnetlib",
    "test_asyncio.test_events",
    "test_asyncio.test_sslproto",
    "test_asyncio.test_sock_lowlevel",
    "test_asyncio.test_server",
)

NOT_RUN = {
    "*.RequestHandlerLoggingTestCase.test_get": "waits for the end of a connection which, with the sidecar's framing,"
    " the client keeps",
}

DIFFERENT: Mapping[str, tuple[str, ...]] = {
    "the sidecar accepts first, and resets when it finds nobody there: no connection is refused": (
        "test.test_socket.NetworkConnectionNoServer.*",
        "test.test_ssl.BasicSocketTests.test_connect_ex_error",
        "test.test_asyncio.test_events.*.test_create_connection_local_addr_nomatch_family",
        "test.test_asyncio.test_events.*.test_create_connection_local_addr_skip_different_family",
        "test.test_asyncio.test_events.*.test_server_close",
        "test.test_asyncio.test_sock_lowlevel.*.test_cancel_sock_accept",
        "test.test_asyncio.test_sock_lowlevel.*.test_sock_client_fail",
    ),
    "the server's peer is the sidecar": (
        "test.test_ssl.ThreadedTests.test_server_accept",
        "test.test_asyncio.test_events.*.test_create_server",
        "test.test_asyncio.test_sock_lowlevel.*.test_sock_accept",
    ),
    "what is sent waits in the sidecars' buffers too, so a sender blocks later": (
        "test.test_socket.SendfileUsingSend*Test.testWithTimeoutTriggeredSend",
    ),
    "a reset travels as long as data does, and does not overtake it": (
        "test.test_ssl.TestPreHandshakeClose.test_preauth_data_to_tls_client",
    ),
    "a sidecar answers in HTTP/1.1 for an HTTP/1.0 server": (
        "test.test_asyncio.test_streams.StreamTests.test_*async_writer_api*",
        "test.test_asyncio.test_streams.StreamTests.test_open_connection",
        "test.test_asyncio.test_streams.StreamTests.test_wait_closed_on_close*",
        "test.test_asyncio.test_sock_lowlevel.*.test_huge_content*",
        "test.test_asyncio.test_sock_lowlevel.*.test_sock_client_ops",
        "test.test_asyncio.test_sock_lowlevel.*.test_sock_client_racing",
        "test.test_httpservers.SimpleHTTPServerTestCase.*",
    ),
    "Connection is each hop's own": (
        "test.test_httpservers.BaseHTTPServerTestCase.test_return_header_keep_alive",
    ),
    "a response cut short ends in a reset": (
        "test.test_httplib.BasicTest.test_large_content_length_truncated",
    ),
    "a request to a TLS port is carried as the HTTP it is": (
        "test.test_ssl.TestPreHandshakeClose.test_preauth_data_to_tls_server",
    ),
    "an absolute target without a path gets one": (
        "test.test_urllib2_localnet.ProxyAuthTests.test_proxy_qop_auth_works",
    ),
    "HTTP that two readers could take for different messages is refused": (
        "test.test_urllib2_localnet.TestUrlopen.test_chunked",
        "test.test_httpservers.BaseHTTPServerTestCase.test_head_via_send_error",
        "test.test_httpservers.BaseHTTPServerTestCase.test_request_line_trimming",
        "test.test_httpservers.BaseHTTPServerTestCase.test_send_error",
        "test.test_httpservers.CGIHTTPServerTestCase.*",
    ),
}
"""What an application can notice, and the tests that do; docs/transparency.md says more of each."""

Outcomes = Mapping[str, str]
"""Each test's name, and `ok`, `skipped`, `failure` or `error`."""


@asynccontextmanager
async def pod(name: str, *, proxy: bool = True) -> AsyncIterator[Pod]:
    """A pod with a directory where the tests may write."""
    with TemporaryDirectory(prefix="tproxy-stdlib-") as home:
        policies = Path(home) / "policies"
        policies.mkdir()
        (policies / "proxy.yaml").write_text(POLICIES)
        os.chown(home, NOBODY.identity.uid, NOBODY.identity.gid)
        Path(home).chmod(0o755)
        env = {"TMPDIR": home, "PYTHONDONTWRITEBYTECODE": "1"}
        spec = PodSpec(
            name, proxy=proxy, policies=policies if proxy else None, user=NOBODY, env=env
        )
        async with open_pod(spec) as opened:
            yield opened


async def run_tests(pod: Pod, modules: Iterable[str], *options: str) -> Outcomes:
    """Run the standard library's tests in a pod."""
    report = Path(pod.record.env["TMPDIR"]) / "report.xml"
    argv = [str(PYTHON), "-m", "test", "-j4", "--timeout", "60", "--junit-xml", str(report)]
    ignored = [word for name in NOT_RUN for word in ("-i", name)]
    done = await pod.run([*argv, *ignored, *options, *modules])
    assert report.exists(), done.stdout + done.stderr
    cases = ET.parse(report).iter("testcase")
    report.unlink()
    return {case.get("name", ""): outcome(case) for case in cases}


def outcome(case: ET.Element) -> str:
    """How a test ended."""
    ends = [child.tag for child in case if child.tag in {"error", "failure", "skipped"}]
    return ends[0] if ends else "ok"


def worse(without: Outcomes, behind: Outcomes) -> set[str]:
    """The tests that pass without a sidecar only."""
    return {name for name, end in without.items() if end == "ok" and behind.get(name) != "ok"}


def documented(name: str) -> bool:
    """Whether a test is expected to end differently."""
    return any(fnmatch(name, pattern) for patterns in DIFFERENT.values() for pattern in patterns)


def modules_of(names: Iterable[str]) -> list[str]:
    """The modules among `names` that this Python still has."""
    return [name for name in names if importlib.util.find_spec(f"test.{name}")]


def within(outcomes: Outcomes, modules: Iterable[str]) -> Outcomes:
    """The part of `outcomes` that belongs to `modules`."""
    begins = tuple(f"test.{module}." for module in modules)
    return {name: end for name, end in outcomes.items() if name.startswith(begins)}


async def capture_loopback(pod: Pod) -> None:
    """Have what the tests dial on localhost captured as if it were far away."""
    loaded = await pod.run(["nft", "-f", "-"], user=ROOT, stdin=CAPTURE_LOOPBACK.encode())
    assert (loaded.returncode, loaded.stderr) == (0, "")


async def repeated(pod: Pod, names: set[str]) -> set[str]:
    """Which of the tests `names` do not pass in a second run either: many race against the clock of a busy machine."""
    if not names:
        return names
    options = [word for name in sorted(names) for word in ("-m", name)]
    modules = [module for module in MODULES if within(dict.fromkeys(names, ""), [module])]
    again = await run_tests(pod, modules, *options)
    return {name for name in names if again.get(name) != "ok"}


@pytest.mark.slow
async def test_the_standard_library_sees_what_it_sees_without_a_sidecar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TPROXY_LAB_DIR", str(tmp_path / "lab"))
    outcomes: dict[str, Outcomes] = {}

    async def tested(pod: Pod, modules: Iterable[str]) -> None:
        outcomes[pod.name] = await run_tests(pod, modules_of(modules))

    async with (
        pod("plain", proxy=False) as plain,
        pod("captured") as captured,
        pod("through") as through,
    ):
        await capture_loopback(through)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tested, plain, MODULES)
                nursery.start_soon(tested, captured, LEFT_ALONE)
                nursery.start_soon(tested, through, MODULES)
            without = within(outcomes["plain"], LEFT_ALONE)
            assert await repeated(captured, worse(without, outcomes["captured"])) == set()
            assert captured.access_log_path.read_bytes() == b""
            noticed = worse(outcomes["plain"], outcomes["through"])
            unexpected = {name for name in noticed if not documented(name)}
            assert await repeated(through, unexpected) == set()
            assert through.access_log_path.read_bytes().count(b'"direction":"inbound"') > 500
            assert "a mistake of the proxy's" not in through.sidecar_log_path.read_text()
