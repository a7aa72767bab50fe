"""Find values of rules that are about more than they seem to be, or about nothing."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from tproxy.policy.findings import Code
from tproxy.policy.match import is_template
from tproxy.policy.paths import Ambiguous, decoded_unreserved, normalised
from tproxy.policy.reading import Said
from tproxy.policy.rules import is_ported
from tproxy.policy.schema import PathNormalization

Found = tuple[Code, int, str]
"""What it is, at which of the values, and what is to be said of it."""

_TWO_SPELLINGS = re.compile(r"%(?:[0-9][A-Fa-f]|[A-Fa-f][0-9A-Fa-f])")
_CLEAR = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+(?:/\*?)?")
"""Most paths: nothing in them has a second form."""
_NOT_IN_PATHS = re.compile(r"[^!-~]|[?#\\]")


def value_findings(said: Said, mode: PathNormalization) -> Iterator[Found]:
    """Look at the values of one field."""
    yield from _repeated(said.values)
    for index, value in enumerate(said.values):
        match said.name:
            case "paths":
                found = _path(value, mode)
            case "hosts":
                found = _host(value, said.values)
            case "principals":
                found = _principal(value)
            case _:
                found = None
        if found is not None:
            yield found[0], index, found[1]


def _repeated(values: Sequence[str]) -> Iterator[Found]:
    """Find values that stand twice, or that a wildcard beside them includes."""
    if len(values) == 1:
        return
    wildcards = _Wildcards(values)
    first: dict[str, int] = {}
    for index, value in enumerate(values):
        if first.setdefault(value, index) != index:
            yield Code.REPEATED, index, f"{value!r} stands twice in this list"
        elif (other := wildcards.including(value)) is not None:
            yield Code.REPEATED, index, f"{value!r} is included in {other!r}"


class _Wildcards:
    """The wildcards of a list, found by how long their text is."""

    def __init__(self, values: Sequence[str]) -> None:
        self._starts: dict[int, set[str]] = defaultdict(set)
        self._ends: dict[int, set[str]] = defaultdict(set)
        self._anything = "*" in values
        for value in values:
            if value != "*" and value.endswith("*"):
                self._starts[len(value) - 1].add(value[:-1])
            elif value != "*" and value.startswith("*"):
                self._ends[len(value) - 1].add(value[1:])

    def including(self, value: str) -> str | None:
        """Return another one that is about all that `value` is about."""
        if self._anything and value != "*":
            return "*"
        text = value.strip("*")
        if not value.startswith("*"):
            for length, starts in self._starts.items():
                if text[:length] in starts and f"{text[:length]}*" != value:
                    return f"{text[:length]}*"
        if not value.endswith("*"):
            for length, ends in self._ends.items():
                if text[-length:] in ends and f"*{text[-length:]}" != value:
                    return f"*{text[-length:]}"
        return None


def _principal(value: str) -> tuple[Code, str] | None:
    if value != "*" and value.endswith("*") and not value.endswith("/*"):
        return _loose(value, f"{value[:-1]}x", f"{value[:-1]}/*")
    if value != "*" and value.startswith("*") and not value.startswith("*/"):
        return _loose(value, f"x{value[1:]}", f"*/{value[1:]}")
    return None


def _host(value: str, values: Sequence[str]) -> tuple[Code, str] | None:
    if is_ported(value):
        bare = value.rpartition(":")[0]
        if bare in values:
            return None
        message = (
            f"{value!r} is only about requests that write this port: write {bare!r} for all of them"
        )
        return Code.HOST_WITH_PORT, message
    if value.startswith("*") and value[1:2] not in ("", "."):
        return _loose(value, f"x{value[1:]}", f"*.{value[1:]}")
    return None


def _loose(value: str, other: str, instead: str) -> tuple[Code, str]:
    message = f"{value!r} is about {other!r} too: write {instead!r} if that is not meant"
    return Code.LOOSE_WILDCARD, message


def _path(value: str, mode: PathNormalization) -> tuple[Code, str] | None:
    if _CLEAR.fullmatch(value):
        return None
    return _impossible(value) or _other_form(value, mode) or _ambiguous(value)


def unaskable(path: str, mode: PathNormalization) -> str | None:
    """Say why no request is for exactly this path, if so."""
    if "*" in path:
        return f"{path!r}: write one whole path, there are no wildcards here"
    found = _impossible(path) or _other_form(path, mode)
    return found[1] if found else None


def _impossible(value: str) -> tuple[Code, str] | None:
    """Find what no path holds."""
    if found := _NOT_IN_PATHS.search(value):
        return Code.PATH_NEVER_MATCHES, f"{value!r} never matches: no path holds {found[0]!r}"
    if not value.startswith(("/", "*")):
        return Code.PATH_NEVER_MATCHES, f"{value!r} never matches: a path begins with `/`"
    return None


def _other_form(value: str, mode: PathNormalization) -> tuple[Code, str] | None:
    """Find what is not in the form that paths are brought into before they are matched."""
    before = "/x" if value.startswith("*") else ""
    after = "x" if value.endswith("*") else ""
    text = (
        value.replace("{**}", "x").replace("{*}", "x") if is_template(value) else value.strip("*")
    )
    whole = f"{before}{text}{after}".encode()
    try:
        normal = normalised(whole, mode)
    except Ambiguous:
        return Code.PATH_NEVER_MATCHES, f"{value!r} never matches: such paths are refused"
    if normal == whole:
        return None
    escaped = mode is not PathNormalization.NONE and decoded_unreserved(whole) != whole
    code = Code.ESCAPE_IN_PATH if escaped else Code.PATH_NEVER_MATCHES
    instead = "" if is_template(value) or after or before else f": write {normal.decode()!r}"
    return code, f"{value!r} never matches, for paths are normalised ({mode}){instead}"


def _ambiguous(value: str) -> tuple[Code, str] | None:
    """Find what can be written in another way, or is about more than it seems."""
    if found := _TWO_SPELLINGS.search(value):
        message = f"{value!r} is not about {found[0].swapcase()!r}, which most servers take for the same: list both"
        return Code.ESCAPE_IN_PATH, message
    if "{" in value and not is_template(value):
        return Code.WILDCARD, f"{value!r}: a name in braces stands for itself, one segment is {{*}}"
    if value.endswith("*") and not value.endswith("/*") and value != "*":
        text = value[:-1]
        message = f"{value!r} is about {text + 'x'!r} too: write {text!r} and {text + '/*'!r} if that is not meant"
        return Code.LOOSE_WILDCARD, message
    return None
