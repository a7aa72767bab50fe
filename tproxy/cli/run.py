"""`tproxy run`: the sidecar itself."""

import logging
import sys
from pathlib import Path

import click
import trio

from tproxy.app import run_app
from tproxy.model.identity import UNKNOWN, Workload
from tproxy.model.limits import Limits
from tproxy.settings import Ports, Settings, User

PORT = click.IntRange(1, 65535)


def _user(_ctx: click.Context, _param: click.Parameter, value: str | None) -> User | None:
    if value is None:
        return None
    uid, _, gid = value.partition(":")
    if not (uid.isdecimal() and (gid or uid).isdecimal()):
        raise click.BadParameter(f"{value!r} is not UID or UID:GID in numbers")
    return User(int(uid), int(gid or uid))


def _labels(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"{value!r} is not KEY=VALUE")
        labels[key] = text
    return labels


@click.command(context_settings={"auto_envvar_prefix": "TPROXY", "show_default": True})
@click.option("--policies", type=click.Path(path_type=Path), help="Directory of policy files.")
@click.option("--outbound-port", type=PORT, default=Ports.outbound, help="Listener for the application's connections.")
@click.option("--inbound-port", type=PORT, default=Ports.inbound, help="Listener for connections to the application.")
@click.option("--admin-port", type=PORT, default=Ports.admin, help="Administration, on loopback.")
@click.option("--metrics-port", type=PORT, default=Ports.metrics, help="Prometheus metrics.")
@click.option("--health-port", type=PORT, default=Ports.health, help="Readiness at /healthz/ready.")
@click.option("--inbound-mode", type=click.Choice(["redirect", "tproxy"]), default="redirect",
              help="How the capture sends inbound connections; tproxy needs CAP_NET_ADMIN.")
@click.option("--user", callback=_user, metavar="UID[:GID]", help="Become this user once the listeners are open.")
@click.option("--workload", default=UNKNOWN, help="This workload's name, for metrics and logs.")
@click.option("--namespace", default=UNKNOWN, help="This workload's namespace.")
@click.option("--service-account", default=UNKNOWN, help="This workload's service account.")
@click.option("--label", "labels", multiple=True, callback=_labels, metavar="KEY=VALUE", help="A label of this workload.")
@click.option("--max-connections", type=click.IntRange(1), default=Limits.connections, help="Captured connections at once.")
@click.option("--drain-seconds", type=click.FloatRange(0), default=Limits.drain_seconds,
              help="How long exchanges in flight may take to end after SIGTERM.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info",
              help="The proxy's own log, on standard error; the access log is on standard output.")
def run(**options: object) -> None:
    """Carry captured connections until SIGTERM."""
