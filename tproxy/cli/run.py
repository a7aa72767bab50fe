"""`tproxy run`: the sidecar itself."""

import logging
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tproxy.app import Sources
from tproxy.cli.label_options import pairs, readable_labels
from tproxy.cli.limit_option import BadLimit, limits_of
from tproxy.cli.stand_ins import uncalled
from tproxy.codec.h1_choice import CHOICES, head_parser
from tproxy.codec.h1_parser import HeadParser
from tproxy.codec.h2_engine import Engine
from tproxy.codec.h2_own import OwnEngine
from tproxy.launch import launch
from tproxy.model.app_probe import AppProbe, read_probes
from tproxy.model.identity import UNKNOWN, Workload
from tproxy.model.limits import MOST_WORKERS, Limits
from tproxy.model.ports import Ports
from tproxy.settings import Settings, User
from tproxy.stores.identity_store import BadIdentity
from tproxy.stores.policy_loader import BadPolicies, PolicyLoader
from tproxy.tls.library import settle_openssl

if TYPE_CHECKING:
    from tproxy.stores.identity_loader import IdentityLoader

LOG = logging.getLogger("tproxy")

BAD_POLICIES = 2
CANNOT_START = 3
BAD_IDENTITY = 4

ENGINES = ("own", "h2")

PORT = click.IntRange(1, 65535)
PORTS = Ports()
LIMITS = Limits()


def _limits(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> dict[str, int | float]:
    try:
        return limits_of(values)
    except BadLimit as error:
        raise click.BadParameter(str(error)) from error


def _finite(_ctx: click.Context, _param: click.Parameter, value: float) -> float:
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is no number of seconds")
    return value


def _parser(_ctx: click.Context, _param: click.Parameter, value: str) -> HeadParser:
    try:
        return head_parser(value)
    except ModuleNotFoundError as error:
        raise click.BadParameter(
            "httptools is not installed: pip install 'tproxy[fast]'"
        ) from error


def _engine(_ctx: click.Context, _param: click.Parameter, value: str) -> type[Engine]:
    if value == OwnEngine.name:
        return OwnEngine
    from tproxy.codec.h2_library import LibraryEngine  # noqa: PLC0415  (the reference, seldom chosen)

    return LibraryEngine


def _user(_ctx: click.Context, _param: click.Parameter, value: str | None) -> User | None:
    if value is None:
        return None
    uid, colon, gid = value.partition(":")
    if not (uid.isdecimal() and (gid.isdecimal() if colon else True)):
        raise click.BadParameter(f"{value!r} is not UID or UID:GID in numbers")
    return User(int(uid), int(gid or uid))


def _probes(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> Mapping[str, AppProbe]:
    try:
        return read_probes(value) if value else {}
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(context_settings={"auto_envvar_prefix": "TPROXY", "show_default": True})
@click.option("--policies", type=click.Path(path_type=Path), help="Directory of policy files.")
@click.option(
    "--certificates",
    type=click.Path(path_type=Path),
    help="Directory with this workload's certificate, key and trust bundle; watched.",
)
@click.option(
    "--endpoints",
    type=click.Path(path_type=Path),
    help="Directory of ServiceEntry files that something else writes; what changes there is taken.",
)
@click.option(
    "--outbound-port",
    type=PORT,
    default=PORTS.outbound,
    help="Listener for the application's connections, on loopback.",
)
@click.option(
    "--inbound-port",
    type=PORT,
    default=PORTS.inbound,
    help="Listener for connections to the application.",
)
@click.option("--admin-port", type=PORT, default=PORTS.admin, help="Administration, on loopback.")
@click.option("--metrics-port", type=PORT, default=PORTS.metrics, help="Prometheus metrics.")
@click.option("--health-port", type=PORT, default=PORTS.health, help="Readiness, /healthz/ready.")
@click.option(
    "--inbound-mode",
    type=click.Choice(["redirect", "tproxy"]),
    default="redirect",
    help="How the capture sends inbound connections; tproxy needs CAP_NET_ADMIN or CAP_NET_RAW.",
)
@click.option(
    "--http",
    "parser",
    type=click.Choice(CHOICES),
    default="auto",
    envvar="TPROXY_HTTP",
    callback=_parser,
    help="What reads HTTP/1: h11, or httptools (faster), which auto takes where it is installed.",
)
@click.option(
    "--http2",
    "engine",
    type=click.Choice(ENGINES),
    default="own",
    envvar="TPROXY_HTTP2",
    callback=_engine,
    help="What keeps HTTP/2's account of streams and windows: our own, or h2 (the reference).",
)
@click.option(
    "--user",
    callback=_user,
    metavar="UID[:GID]",
    help="Started as root, become this user once the listeners are open.",
)
@click.option("--workload", default=UNKNOWN, help="This workload's name, for metrics.")
@click.option("--namespace", default=UNKNOWN, help="This workload's namespace.")
@click.option("--service-account", default=UNKNOWN, help="This workload's service account.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    callback=pairs,
    metavar="KEY=VALUE",
    help="A label of this workload; may be given several times.",
)
@click.option(
    "--labels-file",
    type=click.Path(path_type=Path),
    callback=readable_labels,
    help="This workload's labels as Kubernetes' downward API writes them, watched; --label wins.",
)
@click.option(
    "--app-probes",
    callback=_probes,
    metavar="JSON",
    help="What to ask the application when a kubelet asks here, by path; `tproxy inject` writes it.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, MOST_WORKERS),
    default=1,
    help="Processes that share the listeners; each has the limits for itself.",
)
@click.option(
    "--max-connections",
    type=click.IntRange(1),
    default=LIMITS.connections,
    help="Captured connections carried at once.",
)
@click.option(
    "--drain-seconds",
    type=click.FloatRange(0),
    callback=_finite,
    default=LIMITS.drain_seconds,
    help="How long exchanges in flight may take to end after SIGTERM.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    callback=_limits,
    envvar="TPROXY_LIMITS",
    metavar="NAME=VALUE",
    help="Any bound of docs/limits.md, as head-seconds=5; may be given several times.",
)
@click.option(
    "--log-level",
    type=click.Choice(("debug", "info", "warning", "error")),
    default="info",
    help="The proxy's own log, on standard error; the access log is on standard output.",
)
def run(**options: Any) -> None:  # noqa: ANN401 - click has checked them
    """Carry captured connections until SIGTERM."""
    logging.basicConfig(
        level=options["log_level"].upper(),
        stream=sys.stderr,
        format=_log_format(options["workers"]),
    )
    _refuse_equal_ports(options)
    sys.exit(_run(_settings(options)))


def _log_format(workers: int) -> str:
    who = "%(process)d " if workers > 1 else ""
    return f"%(asctime)s %(levelname)s {who}%(name)s %(message)s"


def _refuse_equal_ports(options: dict[str, Any]) -> None:
    taken: dict[int, str] = {}
    for name in ("outbound", "inbound", "admin", "metrics", "health"):
        option, port = f"--{name}-port", options[f"{name}_port"]
        if port in taken:
            raise click.UsageError(
                f"{taken[port]} and {option} are both {port}; each needs its own"
            )
        taken[port] = option


def _all_limits(options: dict[str, Any]) -> Limits:
    """Let the options of their own win over their limits' general form, where they are given."""
    given = dict(options["limits"])
    source = click.get_current_context().get_parameter_source
    for option, name in (("max_connections", "connections"), ("drain_seconds", "drain_seconds")):
        if source(option) is not ParameterSource.DEFAULT:
            given[name] = options[option]
    return replace(LIMITS, **given)


def _run(settings: Settings) -> int:
    """Say in one line what keeps the sidecar from starting."""
    try:
        policies = PolicyLoader(
            settings.policies,
            settings.workload,
            endpoints=settings.endpoints,
            labels_file=settings.labels_file,
        )
    except BadPolicies as error:
        LOG.critical("refusing to start, these policies can not be kept:\n%s", error)
        return BAD_POLICIES
    try:
        identities = _identities(settings.certificates)
    except BadIdentity as error:
        LOG.critical("refusing to start without the identity that is asked for: %s", error)
        return BAD_IDENTITY
    try:
        return launch(settings, Sources(policies, identities))
    except OSError as error:
        LOG.critical("cannot start: %s", error)
        return CANNOT_START


def _identities(certificates: Path | None) -> "IdentityLoader | None":
    if certificates is None:
        LOG.info("no --certificates: nobody is proven to be anybody, connections go as they are")
        return None
    settle_openssl()
    # cryptography's OpenSSL takes 11 MiB; Python's would take 3 more, for key identifiers that an authority makes.
    with uncalled("hashlib", "hmac"):
        from tproxy.stores.identity_files import IdentityFiles  # noqa: PLC0415
        from tproxy.stores.identity_loader import IdentityLoader  # noqa: PLC0415

    return IdentityLoader(IdentityFiles(certificates))


def _settings(options: dict[str, Any]) -> Settings:
    return Settings(
        ports=Ports(
            outbound=options["outbound_port"],
            inbound=options["inbound_port"],
            admin=options["admin_port"],
            metrics=options["metrics_port"],
            health=options["health_port"],
        ),
        policies=options["policies"],
        certificates=options["certificates"],
        endpoints=options["endpoints"],
        workload=Workload(
            name=options["workload"],
            namespace=options["namespace"],
            service_account=options["service_account"],
            labels=options["labels"],
        ),
        labels_file=options["labels_file"],
        app_probes=options["app_probes"],
        user=options["user"],
        workers=options["workers"],
        tproxy_inbound=options["inbound_mode"] == "tproxy",
        parser=options["parser"],
        engine=options["engine"],
        limits=_all_limits(options),
    )
