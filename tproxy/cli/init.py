"""`tproxy init`: the init container's own command, reachable where only `tproxy` is on the path."""

import sys

import click

from tproxy_init.__main__ import main as init_main


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def init(arguments: tuple[str, ...]) -> None:
    """Hand everything to tproxy-init."""
    sys.exit(init_main(list(arguments)))
