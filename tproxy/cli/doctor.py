"""`tproxy doctor`: what is wrong with this machine or pod, and how to mend it."""

import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import click

from tproxy.doctor.checks import Check, Verdict, examine
from tproxy.doctor.gather import Asked, gather
from tproxy.model.identity import UNKNOWN, Workload
from tproxy.model.ports import Ports

SICK = 1


@click.command(context_settings={"auto_envvar_prefix": "TPROXY", "show_default": True})
@click.option("--policies", type=click.Path(path_type=Path), help="As of `tproxy run`.")
@click.option("--certificates", type=click.Path(path_type=Path), help="As of `tproxy run`.")
@click.option("--namespace", default=UNKNOWN, help="As of `tproxy run`.")
@click.option("--service-account", default=UNKNOWN, help="As of `tproxy run`.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="As of `tproxy run`.")
@click.option("--health-port", type=int, default=Ports().health, help="As of `tproxy run`.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(  # noqa: PLR0913 - one argument for each option
    *,
    policies: Path | None,
    certificates: Path | None,
    namespace: str,
    service_account: str,
    labels: tuple[str, ...],
    health_port: int,
    as_json: bool,
) -> None:
    """Look at kernel, capture, sidecar, policies, identity and machine; change nothing.

    Run it where the sidecar runs, with its options or its environment. Exit 1 when something does not work.
    """
    who = Workload(
        namespace=namespace,
        service_account=service_account,
        labels=dict(label.partition("=")[::2] for label in labels),
    )
    asked = Asked(policies, certificates, who, Ports(health=health_port), _init_step())
    checks = examine(gather(asked, os.environ))
    if as_json:
        click.echo(json.dumps([asdict(each) for each in checks], indent=2))
    else:
        click.echo("".join(map(_line, checks)), nl=False)
        click.echo(_summary(checks))
    sys.exit(SICK if any(each.verdict is Verdict.FAIL for each in checks) else 0)


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
        for verdict, name in ((Verdict.FAIL, "failed"), (Verdict.WARN, "to look at"))
        if (count := counted[verdict])
    )
    return f"{len(checks)} checks: {bad or 'all is well'}"
