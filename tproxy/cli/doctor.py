"""`tproxy doctor`: what is wrong with this machine or pod, and how to mend it."""

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from tproxy.cli.label_options import pairs
from tproxy.doctor.checks import Check, Verdict, examine
from tproxy.doctor.gather import OF_A_SERVICE, Asked, gather
from tproxy.model.identity import UNKNOWN, Workload
from tproxy.model.limits import Limits
from tproxy.model.ports import Ports

F = TypeVar("F", bound=Callable[..., Any])

SICK = 1
UNITS_SETTINGS = (Path("/etc/tproxy/tproxy.env"), Path("/etc/tproxy/init.env"))
"""What systemd's units of ours take their options from, where there are any."""


def _port(ctx: click.Context, param: click.Parameter, given: str) -> int:
    """Read a port; what Kubernetes has put in its place is among what is judged, and no reason not to look."""
    read: Any = param.get_default(ctx) if given.startswith(OF_A_SERVICE) else given
    return click.INT.convert(read, param, ctx)


def _take_settings(_ctx: click.Context, _param: click.Parameter, given: tuple[Path, ...]) -> None:
    """Have files of settings say what the environment does not, to us and to the init step."""
    for path in given or [each for each in UNITS_SETTINGS if each.exists()]:
        try:
            for name, value in _settings(path.read_text()):
                os.environ.setdefault(name, value)
        except (OSError, ValueError) as error:
            raise click.BadParameter(f"{path} cannot be read: {error}") from error


def _settings(text: str) -> Iterator[tuple[str, str]]:
    """Read lines of NAME=VALUE, as systemd's EnvironmentFile= has them when none goes on in the next."""
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        value = value.strip()
        if equals and not name.startswith(("#", ";")):
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
            yield name.strip(), value[1:-1] if quoted else value


def _run_options(command: F) -> F:
    """Add those options of `tproxy run` that are about what can be wrong."""
    usual = Ports()
    as_run = "As of `tproxy run`."
    for name in ("policies", "certificates", "endpoints", "labels-file"):
        command = click.option(f"--{name}", type=click.Path(path_type=Path), help=as_run)(command)
    for name in ("workload", "namespace", "service-account"):
        command = click.option(f"--{name}", default=UNKNOWN, help=as_run)(command)
    for name in ("outbound", "inbound", "admin", "metrics", "health"):
        port = getattr(usual, name)
        option = click.option(
            f"--{name}-port", default=str(port), callback=_port, metavar="INTEGER", help=as_run
        )
        command = option(command)
    for option in (
        click.option(
            "--label", "labels", multiple=True, callback=pairs, metavar="KEY=VALUE", help=as_run
        ),
        click.option("--max-connections", type=int, default=Limits().connections, help=as_run),
        click.option("--inbound-mode", default="redirect", help=as_run),
    ):
        command = option(command)
    return command


@click.command(context_settings={"auto_envvar_prefix": "TPROXY", "show_default": True})
@click.option(
    "--settings",
    type=click.Path(path_type=Path),
    multiple=True,
    is_eager=True,
    expose_value=False,
    callback=_take_settings,
    metavar="FILE",
    help="Options as NAME=VALUE lines, where the environment has none; /etc/tproxy/*.env of the systemd units unless given.",
)
@_run_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(*, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - click has checked them
    """Look at kernel, capture, sidecar, policies, identity and machine; change nothing.

    Run it where the sidecar runs, with its options or its environment. Exit 1 when something does not work.
    """
    logging.disable()  # what would be logged is among the checks
    checks = examine(gather(_asked(options), os.environ))
    if as_json:
        click.echo(json.dumps([asdict(each) for each in checks], indent=2))
    else:
        click.echo("".join(map(_line, checks)), nl=False)
        click.echo(_summary(checks))
    sys.exit(SICK if any(each.verdict is Verdict.FAIL for each in checks) else 0)


def _asked(options: dict[str, Any]) -> Asked:
    ports = ("outbound", "inbound", "admin", "metrics", "health")
    return Asked(
        Workload(
            name=options["workload"],
            namespace=options["namespace"],
            service_account=options["service_account"],
            labels=options["labels"],
        ),
        policies=options["policies"],
        certificates=options["certificates"],
        endpoints=options["endpoints"],
        labels_file=options["labels_file"],
        ports=Ports(**{name: options[f"{name}_port"] for name in ports}),
        connections=options["max_connections"],
        tproxy_inbound=options["inbound_mode"] == "tproxy",
        init_step=_init_step(),
    )


def _init_step() -> str:
    """Find the init step beside this program, or on the path."""
    beside = Path(sys.executable).parent / "tproxy-init"
    return str(beside) if beside.exists() else shutil.which("tproxy-init") or "tproxy-init"


def _line(check: Check) -> str:
    mend = f"\n{'':20}{check.mend}" if check.mend else ""
    return f"{check.verdict:4}  {check.what:12}  {check.found}{mend}\n"


def _summary(checks: list[Check]) -> str:
    counted = {verdict: sum(each.verdict is verdict for each in checks) for verdict in Verdict}
    bad = ", ".join(
        f"{count} {name}"
        for verdict, name in (
            (Verdict.FAIL, "failed"),
            (Verdict.WARN, "to look at"),
            (Verdict.UNKNOWN, "not checked"),
        )
        if (count := counted[verdict])
    )
    return f"{len(checks)} checks: {bad or 'all is well'}"
