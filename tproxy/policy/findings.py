"""What is wrong with policy files, said so that the author finds the place and knows what to do."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

import msgspec

MAX_LENGTH = 600
"""Characters of a finding: a message and a long path."""

Path = tuple[str | int, ...]
"""Keys and indices from a document's root to a value."""


class Code(StrEnum):
    """The kinds of mistakes, under names that stay the same for scripts and searches."""

    UNREADABLE = "TPX0101"
    """Not a file of at most 1 MiB of UTF-8 text."""
    SYNTAX = "TPX0102"
    """Not YAML."""
    UNKNOWN_FIELD = "TPX0103"
    DUPLICATE_KEY = "TPX0104"
    YAML_FEATURE = "TPX0105"
    """YAML that readers understand differently: anchors, tags, tabs, non-text keys."""
    WRONG_TYPE = "TPX0106"
    """A value of another type or outside the allowed ones, or a missing one."""
    UNSUPPORTED_KIND = "TPX0107"
    BAD_VALUE = "TPX0108"
    """Of the right type, but without a meaning: `timeout: soon`."""
    CONFLICT = "TPX0109"
    """Two statements that cannot both hold."""
    FOREIGN_NAMESPACE = "TPX0110"
    """A policy about other workloads."""
    OR_INSTEAD_OF_AND = "TPX0201"
    """A rule with only `from` beside one with only `to`: two alternatives where one rule was meant."""
    WILDCARD = "TPX0202"
    """A `*` where it would be taken literally."""
    HTTP_FIELD_WITHOUT_PORT = "TPX0203"
    """A DENY by HTTP fields on every port, which denies all that is not HTTP."""
    HTTP_FIELD_ON_TCP_PORT = "TPX0204"
    BY_EXCEPTION = "TPX0205"
    """An ALLOW of all but some, or a DENY of just some: what is spelled another way goes through."""
    IDENTITY_WITHOUT_STRICT = "TPX0206"
    """Principals where plaintext is taken too, on which there are none."""
    HOST_WITH_PORT = "TPX0207"
    LOOSE_WILDCARD = "TPX0208"
    """`/foo*`, which is about `/foobar` too."""
    PATH_NEVER_MATCHES = "TPX0209"
    """A path that is not in the form that paths are brought into."""
    ESCAPE_IN_PATH = "TPX0210"
    """An escape that paths are rid of, or that can be spelled in two ways."""
    UNREACHABLE = "TPX0211"
    """An entry of a VirtualService that an earlier one takes everything from."""
    DUPLICATE_HOST = "TPX0212"
    """Two VirtualServices about one host."""
    UNKNOWN_SUBSET = "TPX0213"
    """A part of a service that no DestinationRule defines."""
    UNPROVEN_UPSTREAM = "TPX0214"
    """An upstream for which the system's roots vouch, or nobody does."""
    SELECTS_NOTHING = "TPX0215"
    UNSAFE_RETRIES = "TPX0216"
    """Retries after which something may have been done twice."""
    USELESS_TRY_TIMEOUT = "TPX0217"
    """A timeout of one try that is not below that of the whole."""
    ONLY_DENY = "TPX0219"
    """Nothing but DENY: everything else is open."""
    PRINCIPAL_WITH_SCHEME = "TPX0220"
    REPEATED = "TPX0221"
    """A value, an alternative or a rule that another one includes."""
    NO_EFFECT = "TPX0222"
    """What is written and changes nothing."""
    UNNAMED_HOST = "TPX0223"
    """A rule about a destination that no ServiceEntry names."""
    EVERY_DESTINATION = "TPX0224"
    """A rule about all that leaves, which adds TLS to what nobody has thought of."""
    TLS_TWICE = "TPX0225"
    """A rule that puts TLS around what is TLS already."""
    EMPTY_SUBSET = "TPX0226"
    """A subset to which no endpoint belongs."""
    NOBODY_EJECTED = "TPX0227"
    """An outlier detection that can eject nobody, for there are too few endpoints."""
    UNKNOWN_PORT = "TPX0228"
    """A destination's port that its service does not have."""


class Severity(StrEnum):
    """What a finding does."""

    ERROR = "error"
    """The files are not used."""
    WARNING = "warning"
    """They are, and hardly mean what their author thinks."""
    INFO = "info"


class Mark(msgspec.Struct, frozen=True, order=True, gc=False):
    """A place in a file; both count from 1, as editors do."""

    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake, or what looks like one."""

    file: str
    mark: Mark
    code: Code
    path: Path
    message: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        """`file:line:col TPX0103 error $.spec.port: …`, which editors and CI can follow."""
        place = f"{self.file}:{self.mark.line}:{self.mark.column}"
        return _bounded(f"{place} {self.code} {self.severity} {written(self.path)}: {self.message}")


def written(path: Path) -> str:
    """Write a path as `$.spec.ports[0].port`."""
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def _bounded(line: str) -> str:
    """Keep a finding on one line of bearable length, whatever the file quotes."""
    shown = line if len(line) <= MAX_LENGTH else line[:MAX_LENGTH] + "…"
    return shown if shown.isprintable() else "".join(map(_printable, shown))


def _printable(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


MAX_WORD = 64
"""Characters that are compared with what is known: comparing takes quadratic time."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the nearest of `known`, or nothing when none is near."""
    folded = {each.lower(): each for each in known}
    near = get_close_matches(word[:MAX_WORD].lower(), folded, n=1, cutoff=0.7)
    return f", did you mean {folded[near[0]]!r}?" if near else ""
