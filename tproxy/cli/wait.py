"""`tproxy wait`: hold an application back until its sidecar carries, as a postStart hook or before a command."""

import sys
import urllib.error
import urllib.request

import click
import trio

from tproxy.model.ports import Ports

POLL_SECONDS = 0.1
ANSWER_SECONDS = 1.0
"""How long one question may take: the sidecar is on this very machine."""


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
def wait(health_port: int, timeout: float) -> None:
    """Wait until the sidecar of this pod is ready; exit 1 if it is not in time."""
    url = f"http://127.0.0.1:{health_port}/healthz/ready"
    sys.exit(trio.run(_wait, url, timeout))


async def _wait(url: str, timeout: float) -> int:  # noqa: ASYNC109 - the command's own deadline
    with trio.move_on_after(timeout):
        while not await trio.to_thread.run_sync(_ready, url):  # noqa: ASYNC110 - it has no event
            await trio.sleep(POLL_SECONDS)
        return 0
    click.echo(f"tproxy wait: {url} was not ready within {timeout:g} s", err=True)
    return 1


def _ready(url: str) -> bool:
    try:
        # Straight there, whatever http_proxy says.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=ANSWER_SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
