"""From `FaultPolicy` documents to compiled rules, or to everything in them that has no meaning."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tproxy.model.flow import Direction
from tproxy.policy.authorize import AllOf, Field
from tproxy.policy.faults import CompiledFault, FaultBook
from tproxy.policy.findings import Code, Finding, Path, did_you_mean
from tproxy.policy.load import Document
from tproxy.policy.rules import (
    OPERATIONS,
    BadValue,
    Kind,
    compiled_field,
    header_kind,
    never_there,
)
from tproxy.policy.schema import (
    AbortFault,
    DelayFault,
    FaultMatch,
    FaultPolicy,
    FaultRule,
    GrpcStatus,
    PathNormalization,
    ThrottleFault,
)
from tproxy.policy.scope import Scope
from tproxy.policy.units import duration, size
from tproxy.resilience.fault import Abort, Delay, FaultSpec, Throttle

T = TypeVar("T")

LONGEST_DELAY = 3600.0
"""Seconds: a longer one is a mistake, and would hold connections for nothing."""


def fault_book(
    documents: Sequence[Document],
    scope: Scope,
    normalization: PathNormalization,
    findings: list[Finding],
) -> FaultBook | None:
    """Compile the rules about the workload; None when there are none."""
    rules: dict[Direction, list[CompiledFault]] = {each: [] for each in Direction}
    found = [
        (scope.namespace_of(each.config), each.config.metadata.name, each, each.config)
        for each in documents
        if isinstance(each.config, FaultPolicy)
    ]
    for namespace, name, document, config in sorted(found, key=lambda each: each[:2]):
        compiler = FaultCompiler(document, config, f"{namespace}/{name}")
        compiled = compiler.rules()
        findings.extend(compiler.findings)
        if scope.selects(config):
            rules[config.spec.direction.direction].extend(compiled)
    return FaultBook(rules, normalization) if any(rules.values()) else None


class FaultCompiler:
    """Compiles the rules of one document. What changes: the mistakes that were found in it."""

    def __init__(self, document: Document, policy: FaultPolicy, owner: str) -> None:
        self._document = document
        self._spec = policy.spec
        self._owner = owner
        self.findings: list[Finding] = []

    def rules(self) -> list[CompiledFault]:
        """Compile every rule; with findings, they are not to be used."""
        return [self._rule(index, rule) for index, rule in enumerate(self._spec.rules)]

    def _rule(self, index: int, rule: FaultRule) -> CompiledFault:
        path: Path = ("spec", "rules", index)
        if (rule.delay, rule.abort, rule.reset, rule.throttle) == (None,) * 4:
            self._find(path, "does nothing: write delay, abort, reset or throttle")
        spec = FaultSpec(
            f"{self._owner}/{index}",
            self._delay((*path, "delay"), rule.delay) if rule.delay else None,
            self._abort((*path, "abort"), rule.abort) if rule.abort else None,
            self._spec.max_active,
            rule.reset.percentage if rule.reset else 0.0,
            self._throttle((*path, "throttle"), rule.throttle) if rule.throttle else None,
        )
        fields = self._fields((*path, "match"), rule.match) if rule.match else ()
        place = f"{self._document.file}:{self._document.node.nearest(path).line}"
        return CompiledFault(AllOf(tuple(fields)), spec, self._owner, place)

    def _delay(self, path: Path, fault: DelayFault) -> Delay:
        seconds = self._read((*path, "fixedDelay"), _delay_seconds, fault.fixed_delay)
        return Delay(seconds, fault.percentage)

    def _throttle(self, path: Path, fault: ThrottleFault) -> Throttle:
        rate = self._read((*path, "bytesPerSecond"), _rate, fault.bytes_per_second)
        return Throttle(int(rate) or 1, fault.percentage)

    def _abort(self, path: Path, fault: AbortFault) -> Abort:
        if (fault.http_status is None) == (fault.grpc_status is None):
            self._find(path, "needs one of httpStatus and grpcStatus", Code.CONFLICT)
        grpc_status = None
        if fault.grpc_status is not None:
            grpc_status = GrpcStatus.__members__.get(fault.grpc_status)
            if grpc_status is None:
                hint = did_you_mean(fault.grpc_status, GrpcStatus.__members__)
                message = f"{fault.grpc_status!r} is no status of gRPC that is an error{hint}"
                self._find((*path, "grpcStatus"), message)
        return Abort(fault.http_status or 0, grpc_status, fault.percentage)

    def _read(self, path: Path, read: Callable[[T], float], value: T) -> float:
        try:
            return read(value)
        except ValueError as error:
            self._find(path, str(error))
            return 0.0

    def _fields(self, path: Path, match: FaultMatch) -> Iterator[Field]:
        if match == FaultMatch():
            message = "is empty, which would mean everything: leave it out, or say what is meant"
            self._find(path, message)
        for where, kind, values in _matched(path, match):
            if kind is None:
                self._find(where, f"{where[-1]!r} is no name of a header")
            elif (why := never_there(kind.name)) is not None:
                self._find(where, why, Code.CONFLICT)
            elif self._sound(where, kind, values):
                yield compiled_field(kind, values, line=self._document.node.nearest(where).line)

    def _sound(self, path: Path, kind: Kind, values: tuple[str, ...]) -> bool:
        found = len(self.findings)
        for index, value in enumerate(values):
            try:
                compiled_field(kind, (value,))
            except BadValue as bad:
                self._find((*path, index), str(bad), bad.code)
        return len(self.findings) == found

    def _find(self, path: Path, message: str, code: Code = Code.BAD_VALUE) -> None:
        self.findings.append(self._document.finding(code, path, message))


def _matched(path: Path, match: FaultMatch) -> Iterator[tuple[Path, Kind | None, tuple[str, ...]]]:
    """Give each field that says something, where it stands and how it is read."""
    for name in ("methods", "paths", "hosts"):
        values = getattr(match, name)
        if values is not None:
            yield (*path, name), OPERATIONS[name], values
    for name, wanted in match.headers.items():
        yield (*path, "headers", name), header_kind(f"request.headers[{name}]"), wanted


def _delay_seconds(text: str) -> float:
    seconds = duration(text)
    if not 0 < seconds <= LONGEST_DELAY:
        raise ValueError(f"{text!r} must be above 0 and at most {LONGEST_DELAY / 60:g}m")
    return seconds


def _rate(value: int | str) -> float:
    rate = size(value)
    if rate < 1:
        raise ValueError(f"{value!r} lets nothing through: write abort or reset")
    return rate
