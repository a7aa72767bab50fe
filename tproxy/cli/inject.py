"""`tproxy inject`: manifests in, the same with a sidecar out."""

from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from tproxy.cli.manifests import convert
from tproxy.inject.inject import inject as injected
from tproxy.inject.sidecar import BadSettings, Platform, Sidecar, read_settings
from tproxy.inject.values import CAPTURE


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "-f",
    "--filename",
    "named",
    multiple=True,
    type=click.Path(path_type=Path, allow_dash=True),
    help="The same as FILES.",
)
@click.option("--config", type=click.Path(path_type=Path, exists=True), help="File of settings.")
@click.option(
    "--for",
    "platform",
    type=click.Choice([each.value for each in Platform]),
    help="Who runs the pods.",
)
@click.option(
    "--native/--classic",
    default=None,
    help="As an init container that goes on running (Kubernetes 1.29, the default), or as the first container.",
)
@click.option("--policies", metavar="CONFIGMAP", help="With the sidecar's policy files.")
@click.option(
    "--certificates",
    metavar="KIND:NAME",
    help="secret:NAME, csi:DRIVER, hostPath:DIRECTORY or none; {service_account} in it is the pod's.",
)
@click.option("--init-image", help="Image of the init step.")
@click.option("--proxy-image", help="Image of the sidecar.")
@click.option(
    "--image-pull-policy", type=click.Choice(["Always", "IfNotPresent", "Never"]), help="For both."
)
@click.option("--rewrite-probes/--no-rewrite-probes", default=None, help="Have the sidecar ask.")
@click.option("--scrape/--no-scrape", default=None, help="Annotations for Prometheus.")
@click.option("--verify/--no-verify", default=None, help="Have the init step try its rules.")
@click.option("--workers", type=click.IntRange(1), help="Processes of a sidecar.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Of sidecars."
)
def inject(
    *,
    files: tuple[Path, ...],
    named: tuple[Path, ...],
    config: Path | None,
    **options: Any,  # noqa: ANN401 - click has checked them
) -> None:
    """Add the init step and the sidecar to all that runs pods in FILES, or in what comes in.

    The manifests come out on standard output, what is to be said about them on standard error. What was injected before
    is injected anew; what a label or annotation says wins over the options.
    """
    convert((*files, *named), partial(injected, sidecar=_sidecar(config, options)))


for _option in CAPTURE:
    inject.params.append(
        click.Option([f"--{_option}"], help="As tproxy-init's option of this name.")
    )


def _sidecar(config: Path | None, options: dict[str, Any]) -> Sidecar:
    try:
        sidecar = read_settings(config.read_bytes()) if config else Sidecar()
        captured = {
            option: text
            for option in CAPTURE
            if (text := options.pop(option.replace("-", "_"))) is not None
        }
        given = {name: value for name, value in options.items() if value is not None}
        if "platform" in given:
            given["platform"] = Platform(given["platform"])
            if given["platform"] is Platform.PODMAN and given.get("native"):
                raise click.UsageError("--native: podman knows no native sidecars")
        return msgspec.structs.replace(sidecar, **given, capture={**sidecar.capture, **captured})
    except BadSettings as error:
        raise click.UsageError(f"{config}: {error}") from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error
