"""What the verbs share that say which labels a workload has."""

from pathlib import Path

import click

from tproxy.model.identity import read_labels


def pairs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Read an option that is given as KEY=VALUE, several times."""
    found = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"{value!r} is not KEY=VALUE")
        found[key] = text
    return found


def readable_labels(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a file of labels that cannot be read, before anything is begun with it."""
    try:
        if path is not None:
            read_labels(path.read_text())
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise click.BadParameter(f"{path}: {error}") from error
    return path
