"""The command line and the environment, as one set of named texts."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tproxy_init.capture import OPTIONS, Capture, Option, parse
from tproxy_init.detect import Backend
from tproxy_init.errors import BadInput
from tproxy_init.values import choice, flag


class Verb(StrEnum):
    """What to do."""

    PLAN = "plan"
    APPLY = "apply"
    VERIFY = "verify"
    STATUS = "status"
    CLEANUP = "cleanup"


class Format(StrEnum):
    """How `plan` prints."""

    TABLE = "table"
    RESTORE = "restore"
    NFT = "nft"
    JSON = "json"


VERBS: Mapping[Verb, str] = {
    Verb.PLAN: "print the rules with their reasons; needs no privilege and changes nothing",
    Verb.APPLY: "load the rules, or fail and leave nothing; may be repeated",
    Verb.VERIFY: "read the rules back and dial through them, before the proxy starts",
    Verb.STATUS: "say which engines would serve, which holds our rules, and whether they are the plan; changes nothing",
    Verb.CLEANUP: "remove everything apply has made",
}

FORMAT = Option("format", "table", choice(Format), "table, restore, nft or json")
BACKEND = Option(
    "backend",
    "auto",
    choice(Backend),
    "auto, iptables (python-iptables), nft, or restore (iptables-restore)",
)
FORCE = Option("force", "false", flag, "go on in what looks like a host's own network namespace")
DRY_RUN = Option("dry-run", "false", flag, "print what would be loaded, and stop", ("-n",))
VERIFY = Option("verify", "false", flag, "verify afterwards", ("--run-validation",))

CONTROLS: Mapping[Verb, tuple[Option, ...]] = {
    Verb.PLAN: (FORMAT,),
    Verb.APPLY: (BACKEND, FORCE, DRY_RUN, VERIFY),
    Verb.VERIFY: (),
    Verb.STATUS: (BACKEND,),
    Verb.CLEANUP: (),
}


@dataclass(frozen=True, slots=True)
class Request:
    """Everything one run was asked."""

    verb: Verb
    capture: Capture
    format: Format = Format.TABLE
    backend: Backend = Backend.AUTO
    force: bool = False
    dry_run: bool = False
    verify: bool = False


def read(argv: Sequence[str], environment: Mapping[str, str]) -> Request:
    """The request in `argv`, the environment filling in for flags that are absent."""
    given = vars(parser().parse_args(_with_verb(argv)))
    verb = Verb(given["verb"])
    try:
        return _request(verb, given, environment)
    except BadInput as error:
        raise _traced(error, (*CONTROLS[verb], *OPTIONS), given) from None


def _request(
    verb: Verb, given: Mapping[str, str | None], environment: Mapping[str, str]
) -> Request:
    asked = {option.name: _text(option, given, environment) for option in OPTIONS}
    texts = {name: text for name, text in asked.items() if text is not None}
    controls: dict[str, Any] = {
        option.field: _control(option, given, environment) for option in CONTROLS[verb]
    }
    return Request(verb, parse(texts), **controls)


def _traced(
    error: BadInput, options: Sequence[Option], given: Mapping[str, str | None]
) -> BadInput:
    """The same refusal, naming the variable where no flag brought the value."""
    for option in options:
        if str(error).startswith(f"--{option.name}: ") and given.get(option.field) is None:
            return BadInput(f"{error} (from {option.environment})")
    return error


def parser() -> argparse.ArgumentParser:
    """Every verb takes every option of the capture, so that one line serves all four."""
    made = argparse.ArgumentParser(
        prog="tproxy-init",
        description="Program the kernel so that a pod's traffic passes its sidecar.",
        epilog="Each --option has an environment variable TPROXY_OPTION; the flag wins. "
        "Without a verb, flags mean apply.",
    )
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, what in VERBS.items():
        sub = verbs.add_parser(verb, help=what, description=what, allow_abbrev=False)
        for option in (*CONTROLS[verb], *OPTIONS):
            _add(sub, option)
        sub.add_argument(
            "--capture-all-dns",
            dest="dns_servers",
            action="store_const",
            const="*",
            help="same as --dns-servers '*'",
        )
    return made


def _with_verb(argv: Sequence[str]) -> list[str]:
    """Flags alone mean apply, as they do for the program whose flags these also are."""
    flags_alone = bool(argv) and argv[0].startswith("-") and argv[0] not in ("-h", "--help")
    return [Verb.APPLY, *argv] if flags_alone else list(argv)


def _add(sub: argparse.ArgumentParser, option: Option) -> None:
    names = (f"--{option.name}", *option.aliases)
    default = option.default or "none"
    text = f"{option.help} [{default}; {option.environment}]".replace("%", "%%")
    if option.read is flag:
        sub.add_argument(
            *names, dest=option.field, nargs="?", const="true", help=text, metavar="BOOL"
        )
    else:
        sub.add_argument(*names, dest=option.field, help=text, metavar="VALUE")


def _text(
    option: Option, given: Mapping[str, str | None], environment: Mapping[str, str]
) -> str | None:
    """The flag's text, else the variable's; a variable that is set to nothing is not set."""
    text = given.get(option.field)
    return text if text is not None else environment.get(option.environment) or None


def _control(
    option: Option, given: Mapping[str, str | None], environment: Mapping[str, str]
) -> object:
    text = _text(option, given, environment)
    try:
        return option.read(option.default if text is None else text)
    except ValueError as error:
        raise BadInput(f"--{option.name}: {error}") from None
