"""`tproxy wait`: hold an application back until its sidecar carries, as a postStart hook or before a command."""

import os
import sys

import click
import trio

from tproxy.doctor.readiness import readiness
from tproxy.model.ports import Ports

POLL_SECONDS = 0.1


@click.command(context_settings={"auto_envvar_prefix": "TPROXY_WAIT", "show_default": True})
@click.option(
    "--health-port", type=click.IntRange(1, 65535), default=Ports().health, help="Where to ask."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    help="Seconds to wait at most.",
)
@click.option(
    "--pid",
    type=click.IntRange(1),
    help="The sidecar's process: no use in waiting once it is gone.",
)
def wait(health_port: int, timeout: float, pid: int | None) -> None:
    """Wait until the sidecar of this pod is ready; exit 1 if it is not in time, or has ended."""
    sys.exit(trio.run(_wait, health_port, timeout, pid))


async def _wait(port: int, timeout: float, pid: int | None) -> int:  # noqa: ASYNC109 - the command's own deadline
    gave_up = f"127.0.0.1:{port} was not ready within {timeout:g} s"
    with trio.move_on_after(timeout):
        while await trio.to_thread.run_sync(readiness, port) != 200:
            if pid is not None and not _runs(pid):
                gave_up = f"the sidecar, process {pid}, has ended: its log says why"
                break
            await trio.sleep(POLL_SECONDS)
        else:
            return 0
    click.echo(f"tproxy wait: {gave_up}", err=True)
    return 1


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's
    return True
