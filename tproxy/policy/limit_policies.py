"""From `RateLimitPolicy` documents to compiled limits, or to everything in them that has no meaning."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tproxy.model.flow import Direction, Flow
from tproxy.model.http import RequestHead
from tproxy.model.rate_limit import Bandwidth, Counting, LimitSpec
from tproxy.model.rate_limit import RateLimit as CountedLimit
from tproxy.policy.authorize import AllOf, Field
from tproxy.policy.findings import Code, Finding, Path, did_you_mean
from tproxy.policy.limits import (
    Compiled,
    CompiledBandwidth,
    CompiledLimit,
    KeyPart,
    LimitBook,
    Scoped,
)
from tproxy.policy.load import Document
from tproxy.policy.match import check_template, is_template
from tproxy.policy.rules import (
    OPERATIONS,
    SOURCES,
    BadValue,
    Kind,
    compiled_field,
    header_kind,
    never_there,
)
from tproxy.policy.schema import (
    Algorithm,
    LimitMatch,
    LimitMode,
    LimitPer,
    ProxyConfigSpec,
    RateLimit,
    RateLimitPolicy,
)
from tproxy.policy.scope import Scope
from tproxy.policy.units import duration, size
from tproxy.resilience.bandwidth import BandwidthSpec
from tproxy.resilience.bucket import LeakyBucketSpec, TokenBucketSpec
from tproxy.resilience.concurrency import ConcurrencySpec
from tproxy.resilience.keyed import KEYS, Overflow
from tproxy.resilience.windows import FixedWindowSpec, SlidingWindowSpec

MOST_KEYS = 16384
"""Of one limit: what several workers share has room for so many."""
MOST_LIMITS = 64
"""About one workload: each is asked for every request that it matches, and has its room in what workers share."""
MOST = 1_000_000_000
"""Of anything that is counted."""
MOST_SECONDS = 86400.0
"""Of a window or an interval: a proxy's counts do not outlive it, and days are a quota's matter."""
MOST_WAITING = 16384
"""In one queue: as many as there are exchanges at once."""

ALL = "all"
KEYS_KNOWN = ("all", "source.principal", "source.ip", "request.method", "request.path")
_PATH_KEY = re.compile(r"request\.path\[(.*)\]")
_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
_GROUPS = {"{*}": "([^/]+)", "{**}": "(.*)"}


def _count(value: Any) -> int:  # noqa: ANN401 - the schema knows its type
    return _between(value, 1, MOST)


def _waiting(value: Any) -> int:  # noqa: ANN401
    return _between(value, 0, MOST_WAITING)


def _remembered(value: Any) -> int:  # noqa: ANN401
    return _between(value, 1, MOST_KEYS)


def _between(value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise ValueError(f"{value} is not from {least} to {most}")
    return value


def _seconds(value: Any) -> float:  # noqa: ANN401
    seconds = duration(value)
    if not 0 < seconds <= MOST_SECONDS:
        raise ValueError(f"{value!r} must be above 0 and at most {MOST_SECONDS / 60:g}m")
    return seconds


def _rate(value: Any) -> float:  # noqa: ANN401
    if not 1 / MOST_SECONDS <= value <= MOST:
        raise ValueError(f"{value} must be above 0, at least one in a day, and at most {MOST}")
    return float(value)


def _octets(value: Any) -> int:  # noqa: ANN401
    return _between(size(value), 1, MOST)


@dataclass(frozen=True, slots=True)
class _Form:
    """What an algorithm takes, by the attributes of the schema."""

    needs: tuple[str, ...]
    takes: tuple[str, ...] = ()


_KEYED = ("keys", "overflow")
_FORMS = {
    Algorithm.TOKEN_BUCKET: _Form(("tokens_per_fill", "fill_interval", "max_tokens"), _KEYED),
    Algorithm.LEAKY_BUCKET: _Form(("rate_per_second", "queue"), ("max_delay", *_KEYED)),
    Algorithm.FIXED_WINDOW: _Form(("requests", "window"), _KEYED),
    Algorithm.SLIDING_WINDOW: _Form(("requests", "window"), _KEYED),
    Algorithm.CONCURRENCY: _Form(("requests",)),
    Algorithm.BANDWIDTH: _Form(("bytes_per_second",), ("burst",)),
}
_READ: Mapping[str, Callable[[Any], Any]] = {
    "tokens_per_fill": _count,
    "fill_interval": _seconds,
    "max_tokens": _count,
    "rate_per_second": _rate,
    "queue": _waiting,
    "max_delay": _seconds,
    "requests": _count,
    "window": _seconds,
    "bytes_per_second": _octets,
    "burst": _octets,
    "keys": _remembered,
    "overflow": Overflow,
}
_WRITTEN = {each.name: each.encode_name for each in msgspec.structs.fields(RateLimit)}

Numbers = Mapping[str, Any]
"""What a limit says, by attribute, read."""

_SPECS: Mapping[Algorithm, Callable[[Numbers], LimitSpec]] = {
    Algorithm.TOKEN_BUCKET: lambda said: TokenBucketSpec(
        said["tokens_per_fill"], said["fill_interval"], said["max_tokens"]
    ),
    Algorithm.LEAKY_BUCKET: lambda said: LeakyBucketSpec(said["rate_per_second"], said["queue"]),
    Algorithm.FIXED_WINDOW: lambda said: FixedWindowSpec(said["requests"], said["window"]),
    Algorithm.SLIDING_WINDOW: lambda said: SlidingWindowSpec(said["requests"], said["window"]),
    Algorithm.CONCURRENCY: lambda said: ConcurrencySpec(said["requests"]),
}


def limit_book(
    documents: Sequence[Document],
    scope: Scope,
    config: ProxyConfigSpec,
    findings: list[Finding],
) -> LimitBook | None:
    """Compile the limits about the workload; None when there are none."""
    gathered: list[tuple[Direction, LimitPer, Compiled]] = []
    for document in documents:
        if not isinstance(document.config, RateLimitPolicy):
            continue
        compiler = LimitCompiler(document, scope.namespace_of(document.config))
        compiled = compiler.limits()
        findings.extend(compiler.findings)
        if scope.selects(document.config):
            gathered.extend(compiled)
        if len(gathered) > MOST_LIMITS:
            message = f"more than {MOST_LIMITS} limits are about this workload: leave some out"
            findings.append(document.finding(Code.CONFLICT, ("spec", "limits"), message))
    return _book(gathered, config) if gathered else None


def _book(
    gathered: Sequence[tuple[Direction, LimitPer, Compiled]], config: ProxyConfigSpec
) -> LimitBook:
    requests: dict[Direction, list[CompiledLimit]] = {each: [] for each in Direction}
    connections: dict[Direction, list[CompiledLimit]] = {each: [] for each in Direction}
    bandwidths: dict[Direction, list[CompiledBandwidth]] = {each: [] for each in Direction}
    for direction, per, each in gathered:
        if isinstance(each, CompiledBandwidth):
            bandwidths[direction].append(each)
        else:
            (requests if per is LimitPer.REQUEST else connections)[direction].append(each)
    reads_paths = frozenset(
        direction
        for direction, of_one in requests.items()
        if any(each.reads_paths for each in of_one)
    )
    probes = frozenset((probe.port, probe.path.encode()) for probe in config.probes)
    return LimitBook(
        requests, connections, bandwidths, config.path_normalization, reads_paths, probes
    )


class LimitCompiler:
    """Compiles the limits of one document. What changes: the mistakes that were found in it."""

    def __init__(self, document: Document, namespace: str) -> None:
        assert isinstance(document.config, RateLimitPolicy), "the caller told kinds apart"
        self._document = document
        self._spec = document.config.spec
        self._owner = f"{namespace}/{document.config.metadata.name}"
        self.findings: list[Finding] = []

    def limits(self) -> list[tuple[Direction, LimitPer, Compiled]]:
        """Compile every limit that has a meaning; with findings, they are not to be used."""
        direction = self._spec.direction.direction
        first: dict[str, int] = {}
        compiled = []
        for index, each in enumerate(self._spec.limits):
            path: Path = ("spec", "limits", index)
            if (other := first.setdefault(each.name, index)) != index:
                message = f"{each.name!r} is the name of $.spec.limits[{other}] already"
                self._find((*path, "name"), message, Code.CONFLICT)
            if not _NAME.fullmatch(each.name):
                self._find((*path, "name"), f"{each.name!r} is no name: use a-z, 0-9, `-` and `.`")
            if (limit := self._limit(path, each)) is not None:
                compiled.append((direction, each.per, limit))
        return compiled

    def _limit(self, path: Path, limit: RateLimit) -> Compiled | None:
        before = len(self.findings)
        self._kinds(path, limit)
        numbers = self._numbers(path, limit)
        scoped = self._scoped(path, limit)
        key = self._key(path, limit)
        if len(self.findings) > before:
            return None
        name = f"{self._owner}/{limit.name}"
        if limit.algorithm is Algorithm.BANDWIDTH:
            rate = numbers["bytes_per_second"]
            spec = BandwidthSpec(rate, numbers.get("burst", rate))
            return CompiledBandwidth(Bandwidth(name=name, spec=spec), scoped)
        counting = Counting(
            name=name,
            spec=_SPECS[limit.algorithm](numbers),
            key=tuple(each.name for each in key),
            keys=numbers.get("keys", KEYS),
            overflow=numbers.get("overflow", Overflow.SHARE),
        )
        counted = CountedLimit(
            counting=counting,
            shadow=self._spec.mode is LimitMode.SHADOW,
            max_delay=numbers.get("max_delay", math.inf),
            advertise=self._spec.advertise,
        )
        return CompiledLimit(counted, scoped, key)

    def _kinds(self, path: Path, limit: RateLimit) -> None:
        """Hold what is counted against how it is."""
        if limit.algorithm is not Algorithm.BANDWIDTH:
            return
        if limit.per is LimitPer.REQUEST:
            message = (
                "BANDWIDTH is about connections that are carried as bytes: write per: CONNECTION"
            )
            self._find((*path, "per"), message, Code.CONFLICT)
        if limit.key != ALL:
            message = "BANDWIDTH is each connection's own: leave it out"
            self._find((*path, "key"), message, Code.CONFLICT)
        if self._spec.mode is LimitMode.SHADOW:
            message = "BANDWIDTH refuses nothing, so there is nothing to try: put it into a policy with mode ENFORCE"
            self._find((*path, "algorithm"), message, Code.CONFLICT)

    def _numbers(self, path: Path, limit: RateLimit) -> Numbers:
        form = _FORMS[limit.algorithm]
        numbers = {}
        for name, read in _READ.items():
            value, where = getattr(limit, name), (*path, _WRITTEN[name])
            if value is None:
                if name in form.needs:
                    message = f"{limit.algorithm} needs {_WRITTEN[name]!r}"
                    self._find(path, message, Code.WRONG_TYPE)
            elif name not in (*form.needs, *form.takes):
                message = f"means nothing with {limit.algorithm}, which takes {_listed(form)}"
                self._find(where, message, Code.CONFLICT)
            else:
                try:
                    numbers[name] = read(value)
                except ValueError as error:
                    self._find(where, str(error))
        return numbers

    def _scoped(self, path: Path, limit: RateLimit) -> Scoped:
        line = self._document.node.nearest(path).line
        place = f"{self._document.file}:{line}"
        return Scoped(AllOf(tuple(self._fields((*path, "match"), limit))), place)

    def _fields(self, path: Path, limit: RateLimit) -> Iterator[Field]:
        if limit.match is None:
            return
        if limit.match == LimitMatch():
            message = "is empty, which would mean everything: leave it out, or say what is meant"
            self._find(path, message)
        for where, kind, values in _matched(path, limit.match):
            if kind is None:
                self._find(where, f"{where[-1]!r} is no name of a header")
            elif (why := _unfit(kind, limit.per)) is not None:
                self._find(where, why, Code.CONFLICT)
            elif (field := self._field(where, kind, values)) is not None:
                yield field

    def _field(self, path: Path, kind: Kind, values: tuple[str, ...]) -> Field | None:
        line = self._document.node.nearest(path).line
        found = len(self.findings)
        for index, value in enumerate(values):
            try:
                compiled_field(kind, (value,))
            except BadValue as bad:
                self._find((*path, index), str(bad), bad.code)
        return None if len(self.findings) > found else compiled_field(kind, values, line=line)

    def _key(self, path: Path, limit: RateLimit) -> tuple[KeyPart, ...]:
        path = (*path, "key")
        if isinstance(limit.key, str):
            return () if limit.key == ALL else tuple(self._part(path, limit.key, limit.per))
        parts = [
            part
            for index, each in enumerate(limit.key)
            for part in self._part((*path, index), each, limit.per)
        ]
        return tuple(parts)

    def _part(self, path: Path, key: str, per: LimitPer) -> Iterator[KeyPart]:
        if key == ALL:
            self._find(path, "'all' tells nobody apart from others: leave it out of the list")
            return
        if (why := never_there(key)) is not None:
            self._find(path, why)
        try:
            part, http = key_part(key)
        except ValueError as error:
            self._find(path, str(error))
            return
        if http and per is LimitPer.CONNECTION:
            message = f"{key!r} is about requests, and this limit is about connections"
            self._find(path, message, Code.CONFLICT)
        yield part

    def _find(self, path: Path, message: str, code: Code = Code.BAD_VALUE) -> None:
        self.findings.append(self._document.finding(code, path, message))


def _listed(form: _Form) -> str:
    return ", ".join(_WRITTEN[each] for each in (*form.needs, *form.takes))


def _unfit(kind: Kind, per: LimitPer) -> str | None:
    """Say why a field cannot be asked for, if so."""
    if per is LimitPer.CONNECTION and kind.http:
        return (
            "is about requests, and this limit is about connections: write ports, or per: REQUEST"
        )
    return never_there(kind.name)


def _matched(path: Path, match: LimitMatch) -> Iterator[tuple[Path, Kind | None, tuple[str, ...]]]:
    """Give each field that says something, where it stands and how it is read."""
    for name in ("methods", "paths", "hosts", "ports"):
        values = getattr(match, name)
        if values is not None:
            yield (*path, name), OPERATIONS[name], tuple(map(str, values))
    for name, wanted in match.headers.items():
        yield (*path, "headers", name), header_kind(f"request.headers[{name}]"), wanted


def key_part(key: str) -> tuple[KeyPart, bool]:
    """Read one part of a key, and whether only requests have it; ValueError when it is none."""
    if found := _PATH_KEY.fullmatch(key):
        return KeyPart(key, _template_reader(found[1])), True
    kind = _KEY_KINDS.get(key) or header_kind(key)
    if kind is None:
        known = f"{', '.join(KEYS_KNOWN)}, request.path[TEMPLATE], request.headers[NAME]"
        raise ValueError(
            f"unknown key {key!r}{did_you_mean(key, KEYS_KNOWN) or f', known are {known}'}"
        )
    return KeyPart(key, _text_reader(kind)), kind.http


_KEY_KINDS = {
    "source.principal": SOURCES["principals"],
    "source.ip": SOURCES["ip_blocks"],
    "request.method": OPERATIONS["methods"],
    "request.path": OPERATIONS["paths"],
}

Reader = Callable[[Flow, RequestHead | None], str | None]


def _text_reader(kind: Kind) -> Reader:
    def read(flow: Flow, head: RequestHead | None) -> str | None:
        value = kind.read(flow, head)
        return value.decode("latin-1") if isinstance(value, bytes) else value

    return read


def _template_reader(template: str) -> Reader:
    if not is_template(template):
        raise ValueError(
            f"{template!r} has neither {{*}} nor {{**}}, so all have one key: write `all`"
        )
    try:
        check_template(template)
    except ValueError as error:
        raise ValueError(f"{template!r}: {error}") from error
    parts = re.split(r"(\{\*\*?\})", template)
    pattern = re.compile(
        "".join(_GROUPS.get(each, re.escape(each)) for each in parts).encode(), re.DOTALL
    )

    def read(_: Flow, head: RequestHead | None) -> str | None:
        assert head is not None, "only requests are told apart by paths"
        found = pattern.fullmatch(head.path.partition(b"?")[0])
        return b"/".join(found.groups()).decode("latin-1") if found else None

    return read
