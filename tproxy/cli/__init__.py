"""The command line: one file per verb, imported only when it is called."""

import importlib
from types import ModuleType

import click

from tproxy.cli.stand_ins import uncalled

COMMANDS = {
    "run": "carry this machine's or this pod's captured connections",
    "wait": "hold an application back until its sidecar is ready",
    "init": "program the kernel: plan, apply, verify, cleanup (the same as tproxy-init)",
    "doctor": "look at this machine or pod: what is wrong, and how to mend it",
    "inject": "add the init step and the sidecar to Kubernetes manifests",
    "uninject": "take them out of manifests again",
    "injector": "give pods their sidecars as an admission webhook",
    "policy": "check, test and explain policies, and see what others would change",
    "pod": "run a process in a captured pod of its own on this machine",
    "ca": "found a certificate authority, issue identities, replace its root",
    "demo": "three captured pods, real clients, and an account of what passed",
}


EXTRAS = {"inject": "inject", "uninject": "inject"}
"""What a verb needs besides: an extra of the distribution's, which images leave out."""


class _Verbs(click.Group):
    """Finds verbs by name, so that `tproxy run` does not load what `tproxy demo` needs."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(_module(cmd_name), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _module(verb: str) -> ModuleType:
    _import_trio()
    try:
        return importlib.import_module(f"tproxy.cli.{verb}")
    except ModuleNotFoundError as error:
        if verb not in EXTRAS:
            raise
        raise click.ClickException(
            f"{verb} needs {error.name}, which is not installed: pip install 'tproxy[{EXTRAS[verb]}]'"
        ) from error


def _import_trio() -> None:
    """Import it without Python's own OpenSSL, the tables of names beyond ASCII, and archivers: six megabytes."""
    with uncalled("ssl", "hmac", "idna", "bz2", "lzma"):
        import trio  # noqa: F401, PLC0415  (it is there already when a verb imports it)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tproxy")
def main() -> None:
    """A service-mesh sidecar without eBPF, steered by policy files alone."""
