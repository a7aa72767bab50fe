"""What is wrong with policy files, said so that the author finds the place and knows what to do."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

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


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file; both count from 1, as editors do."""

    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake; any of them keeps the files from being used."""

    file: str
    mark: Mark
    code: Code
    path: Path
    message: str

    def __str__(self) -> str:
        """`file:line:col TPX0103 error $.spec.port: …`, which editors and CI can follow."""
        place = f"{self.file}:{self.mark.line}:{self.mark.column}"
        return f"{place} {self.code} error {written(self.path)}: {self.message}"


def written(path: Path) -> str:
    """Write a path as `$.spec.ports[0].port`."""
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the nearest of `known`, or nothing when none is near."""
    folded = {each.lower(): each for each in known}
    near = get_close_matches(word.lower(), folded, n=1)
    return f", did you mean {folded[near[0]]!r}?" if near else ""
