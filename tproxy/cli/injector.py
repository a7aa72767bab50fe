"""`tproxy injector`: the webhook that gives pods their sidecars as they are made."""

import logging
import signal
import sys
from pathlib import Path

import click
import trio

from tproxy.inject.admission import OnRefusal
from tproxy.injector import BadFiles, Files, Injector

LOG = logging.getLogger("tproxy")
BAD_FILES = 2
CANNOT_START = 3
PORT = click.IntRange(1, 65535)


@click.command(context_settings={"auto_envvar_prefix": "TPROXY_INJECTOR", "show_default": True})
@click.option(
    "--tls-certificate",
    type=click.Path(path_type=Path),
    default=Path("/etc/tproxy/webhook/tls.crt"),
    help="The certificate that the API server trusts, with its chain; watched.",
)
@click.option(
    "--tls-key",
    type=click.Path(path_type=Path),
    default=Path("/etc/tproxy/webhook/tls.key"),
    help="Its key; watched.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="File of settings, as `tproxy inject --config` takes it; watched.",
)
@click.option("--port", type=PORT, default=8443, help="Reviews, over HTTPS, at /inject.")
@click.option("--health-port", type=PORT, default=8080, help="/healthz/ready and /metrics.")
@click.option(
    "--on-refusal",
    type=click.Choice([each.value for each in OnRefusal]),
    default=OnRefusal.DENY.value,
    help="What becomes of a pod that cannot have a sidecar.",
)
@click.option(
    "--log-level", type=click.Choice(("debug", "info", "warning", "error")), default="info"
)
def injector(  # noqa: PLR0913 - one argument for each option
    *,
    tls_certificate: Path,
    tls_key: Path,
    config: Path | None,
    port: int,
    health_port: int,
    on_refusal: str,
    log_level: str,
) -> None:
    """Answer an API server's AdmissionReviews until SIGTERM."""
    logging.basicConfig(
        level=log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    try:
        made = Injector(Files(tls_certificate, tls_key, config), OnRefusal(on_refusal))
    except BadFiles as error:
        LOG.critical("cannot start: %s", error)
        sys.exit(BAD_FILES)
    try:
        trio.run(_until_told, made, port, health_port)
    except OSError as error:
        LOG.critical("cannot start: %s", error)
        sys.exit(CANNOT_START)


async def _until_told(made: Injector, port: int, health_port: int) -> None:
    listeners = made.listeners(port=port, health_port=health_port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_obey, made)
        await made.run(*listeners)
        nursery.cancel_scope.cancel()


async def _obey(made: Injector) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            if number == signal.SIGHUP:
                await made.reload()
            else:
                made.stop()
