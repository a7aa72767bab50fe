"""From policy files to the snapshot that the data path asks; nothing of them is taken unless all of it holds."""

import re
from collections.abc import Iterator, Sequence

from tproxy.model.flow import Direction, Protocol
from tproxy.model.identity import UNKNOWN, Workload
from tproxy.policy.findings import Code, Finding
from tproxy.policy.load import Document, load
from tproxy.policy.nodes import SourceFile
from tproxy.policy.schema import PortSpec, WorkloadSpec
from tproxy.policy.snapshot import AccessLogSettings, DetectionSettings, Snapshot

LONGEST_DETECTION = 60.0
"""Seconds that a connection may stay undecided: clients give up earlier."""
MOST_DETECTION = 65536
"""Bytes of an opening that are looked at: a TLS record or a request head is not longer."""
LEAST_DETECTION = 24
"""Bytes: HTTP/2's preface, the longest opening that must be seen whole (RFC 9113, 3.4)."""

HTTP = (Protocol.HTTP1, Protocol.HTTP2)

_DURATION = re.compile(r"(?P<number>[0-9]{1,9}(\.[0-9]{1,9})?)(?P<unit>ms|s|m)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_SIZE = re.compile(r"(?P<number>[0-9]{1,9})(?P<unit>B|KiB|MiB|)")
_BYTES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20}


def compiled(files: Sequence[SourceFile], generation: int) -> Snapshot | tuple[Finding, ...]:
    """Make the snapshot that `files` ask for, or return every mistake that is found in them."""
    documents, findings = load(files)
    findings.extend(_surplus(documents))
    for document in documents:
        findings.extend(_mistakes(document))
    if findings:
        order = {source.name: place for place, source in enumerate(files)}
        return tuple(sorted(findings, key=lambda each: (order[each.file], each.mark)))
    return _snapshot(documents[0], generation) if documents else Snapshot(generation)


def duration(text: str) -> float:
    """Read `500ms`, `3s` or `1m` as seconds; ValueError says what it should be."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no duration, write `500ms`, `3s` or `1m`")
    return float(found["number"]) * _SECONDS[found["unit"]]


def size(value: int | str) -> int:
    """Read `8192`, `8KiB` or `1MiB` as bytes; ValueError says what it should be."""
    found = _SIZE.fullmatch(str(value))
    if found is None:
        raise ValueError(f"{value!r} is no size, write `8192`, `8KiB` or `1MiB`")
    return int(found["number"]) * _BYTES[found["unit"]]


def _surplus(documents: Sequence[Document]) -> Iterator[Finding]:
    for document in documents[1:]:
        first = documents[0]
        place = f"{first.file}:{first.node.mark.line}"
        message = f"a second ProxyConfig, the first is {place}: a sidecar has one, merge them"
        yield document.finding(Code.CONFLICT, ("kind",), message)


def _mistakes(document: Document) -> Iterator[Finding]:
    yield from _detection_mistakes(document)
    yield from _port_mistakes(document)
    yield from _translation_mistakes(document)


def _detection_mistakes(document: Document) -> Iterator[Finding]:
    spec = document.config.spec.detection
    try:
        _timeout(spec.timeout)
    except ValueError as error:
        yield document.finding(Code.BAD_VALUE, ("spec", "detection", "timeout"), str(error))
    try:
        _max_bytes(spec.max_bytes)
    except ValueError as error:
        yield document.finding(Code.BAD_VALUE, ("spec", "detection", "maxBytes"), str(error))


def _timeout(text: str | None) -> float:
    seconds = DetectionSettings().seconds if text is None else duration(text)
    if not 0 < seconds <= LONGEST_DETECTION:
        raise ValueError(f"{text!r} must be above 0 and at most {LONGEST_DETECTION:g}s")
    return seconds


def _max_bytes(value: int | str | None) -> int:
    octets = DetectionSettings().bytes if value is None else size(value)
    if not LEAST_DETECTION <= octets <= MOST_DETECTION:
        raise ValueError(f"{value!r} must be {LEAST_DETECTION} to {MOST_DETECTION} bytes")
    return octets


def _port_mistakes(document: Document) -> Iterator[Finding]:
    taken: dict[tuple[Direction, int], int] = {}
    for index, spec in enumerate(document.config.spec.ports):
        for direction in _directions(spec):
            first = taken.setdefault((direction, spec.port), index)
            if first != index:
                message = (
                    f"port {spec.port} is declared {direction} already in $.spec.ports[{first}]"
                )
                yield document.finding(Code.CONFLICT, ("spec", "ports", index, "port"), message)
                break


def _translation_mistakes(document: Document) -> Iterator[Finding]:
    for index, spec in enumerate(document.config.spec.ports):
        if spec.upstream_protocol and spec.protocol.carried_as not in HTTP:
            message = f"{spec.protocol} cannot be translated, only HTTP, HTTP2 and GRPC can"
            yield document.finding(
                Code.CONFLICT, ("spec", "ports", index, "upstreamProtocol"), message
            )


def _directions(spec: PortSpec) -> Sequence[Direction]:
    return tuple(Direction) if spec.direction is None else (spec.direction.direction,)


def _snapshot(document: Document, generation: int) -> Snapshot:
    spec = document.config.spec
    access_log = spec.telemetry.access_log
    return Snapshot(
        generation,
        workload=_workload(spec.workload),
        ports=_ports(spec.ports),
        translated=_translated(spec.ports),
        detection=DetectionSettings(
            seconds=_timeout(spec.detection.timeout), bytes=_max_bytes(spec.detection.max_bytes)
        ),
        access_log=AccessLogSettings(enabled=access_log.enabled, format=access_log.format),
    )


def _workload(spec: WorkloadSpec) -> Workload:
    return Workload(
        name=spec.name or UNKNOWN,
        namespace=spec.namespace or UNKNOWN,
        service_account=spec.service_account or UNKNOWN,
        labels=spec.labels,
    )


def _ports(specs: Sequence[PortSpec]) -> dict[tuple[Direction, int], Protocol]:
    return {
        (direction, spec.port): spec.protocol.carried_as
        for spec in specs
        for direction in _directions(spec)
    }


def _translated(specs: Sequence[PortSpec]) -> dict[tuple[Direction, int], Protocol]:
    return {
        (direction, spec.port): spec.upstream_protocol.asked_in
        for spec in specs
        for direction in _directions(spec)
        if spec.upstream_protocol is not None
    }
