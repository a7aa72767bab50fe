"""`tproxy uninject`: manifests with a sidecar in, the same as they were before out."""

from pathlib import Path

import click

from tproxy.cli.manifests import convert
from tproxy.inject.inject import uninject as uninjected


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, allow_dash=True))
def uninject(files: tuple[Path, ...]) -> None:
    """Take init step and sidecar out of FILES, or of what comes in: they are as they were before."""
    convert(files, uninjected)
