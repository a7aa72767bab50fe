"""The proxies under test, and how each is started."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from string import Template

from bench.many import many_policies, many_routes
from tproxy.lab import User

HERE = Path(__file__).parent
ROOT = User.parse("0")
PROXY = User.parse("1337:1337")
MITMDUMP = Path(sys.prefix, ".mitmproxy", "bin", "mitmdump")
IDENTITY = "identity"
"""Of one before whom there is mutual TLS: a directory with `tls.crt`, `tls.key` and `ca.crt`, in the one it may write to."""
Argv = Callable[[Path], Sequence[str]]
"""A command line, for a directory that the process may write to."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """One way to carry a pod's inbound connections, and with `at_client` the client's outbound ones too."""

    name: str
    argv: Argv | None
    """None is no proxy and no capture of the server's pod."""
    user: User = PROXY
    at_client: Argv | None = None
    """One that the client's pod has: between two there is mutual TLS."""
    counters: tuple[str, str] = ("", "")
    """Port and path in its pod where it says what it has counted."""


def filled(template: Path, into: Path, **values: object) -> Path:
    """Write a configuration from its template; where it came to lie."""
    written = into / template.name
    written.write_text(Template(template.read_text()).substitute(directory=into, **values))
    return written


def _tproxy(policies: Callable[[Path], Path]) -> Argv:
    whose = ["--workload", "server", "--namespace", "default", "--service-account", "default"]
    run = [sys.executable, "-m", "tproxy", "run", "--user", "1337:1337", "--workers", "1", *whose]
    return lambda directory: [*run, "--policies", str(policies(directory))]


def _tproxy_mutual(side: str) -> Argv:
    """One of the two, whose policies are in `mesh/`."""
    plain = _tproxy(lambda _: HERE / "mesh" / side)
    return lambda directory: [*plain(directory), "--certificates", str(directory / IDENTITY)]


def _generated(documents: Sequence[str]) -> Callable[[Path], Path]:
    def written(directory: Path) -> Path:
        into = directory / "policies"
        into.mkdir(exist_ok=True)
        (into / "generated.yaml").write_text("---\n".join(documents))
        return into

    return written


def _envoy(configuration: str) -> Argv:
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]

    def argv(directory: Path) -> Sequence[str]:
        log = _in_one_line(filled(HERE / "peers" / "access_log.json", directory))
        written = filled(HERE / "peers" / configuration, directory, access_log=log)
        return [_envoy_binary(), "-c", str(written), *options]

    return argv


def _in_one_line(written: Path) -> str:
    """JSON as it can stand anywhere in YAML."""
    return json.dumps(json.loads(written.read_text()))


def _envoy_binary() -> str:
    found = find_spec("envoy")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("Envoy is not installed: `make bench` does it")
    return str(Path(found.submodule_search_locations[0]) / "_bin" / "envoy")


def _haproxy(directory: Path) -> Sequence[str]:
    return ["haproxy", "-db", "-f", str(filled(HERE / "peers" / "haproxy.cfg", directory))]


def _mitmproxy(directory: Path) -> Sequence[str]:
    settings = ["connect_addr=127.0.0.6", f"confdir={directory}"]
    return [
        *(str(MITMDUMP), "--quiet", "--mode", "transparent", "--listen-port", "15006"),
        *(word for each in settings for word in ("--set", each)),
    ]


OURS = Proxy("tproxy", _tproxy(lambda _: HERE / "policies"), ROOT)
OURS_1 = Proxy("tproxy_1", _tproxy(_generated(many_policies(1))), ROOT)
OURS_1000 = Proxy("tproxy_1000", _tproxy(_generated(many_policies(1000))), ROOT)
OURS_ROUTED = {
    count: Proxy(
        f"tproxy_routes_{count}", None, ROOT, at_client=_tproxy(_generated(many_routes(count)))
    )
    for count in (1000, 100, 1)
}
"""The client's alone, since routes are what it chooses by."""
ENVOY_EQUAL = Proxy("envoy_equal", _envoy("envoy_equal.yaml"))
OURS_MUTUAL = Proxy(
    name="tproxy_mutual",
    argv=_tproxy_mutual("server"),
    user=ROOT,
    at_client=_tproxy_mutual("client"),
    counters=("15020", "/metrics"),
)
ENVOY_MUTUAL = Proxy(
    name="envoy_mutual",
    argv=_envoy("envoy_server.yaml"),
    at_client=_envoy("envoy_client.yaml"),
    counters=("15000", "/stats?filter=ssl"),
)
ENVOY_BARE = Proxy("envoy_bare", _envoy("envoy_bare.yaml"))
HAPROXY = Proxy("haproxy", _haproxy)
MITMPROXY = Proxy("mitmproxy", _mitmproxy)
NO_PROXY = Proxy("none", None)
