"""What other policies would have made of the traffic that a log tells of.

The rule that must not be broken: what the log does not hold, or holds cut short or in a form that can be read in two
ways, is not known, and an outcome that depends on it is left open.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from tproxy.model.address import Address
from tproxy.model.flow import Detection, Direction, Flow, Protocol, Sniffed
from tproxy.model.http import HttpVersion, RequestHead
from tproxy.policy.explain import PLAINTEXT, Examiner, Outcome
from tproxy.policy.facts import (
    FORWARDED_FOR,
    HOST,
    METHOD,
    NOWHERE,
    PATH,
    PRINCIPAL,
    REMOTE,
    SERVER_NAME,
    BadRequest,
    Facts,
    header_fact,
    headers_of,
    principal,
)

MAX_GROUPS = 1000
"""Kinds of changes that are told apart by their paths: nobody reads more, and a log of scanned paths would fill the
memory. Beyond them as many are told apart by verdict and rule alone."""
OTHERS = "other requests"
EXAMPLES = 3
"""Request ids of each."""

_CUT = "…"
_ESCAPED = re.compile(r"\\x[0-9a-f]{2}")
_VARIABLE = re.compile(r"[0-9]+|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|(?=.*[0-9])[0-9a-fA-F]{12,}")
_SEGMENTS = 6
"""How much of a path tells requests apart."""
_HTTP = (Protocol.HTTP1, Protocol.HTTP2)
_REFUSED_AS_PLAINTEXT = "filter_chain_not_found"
USER_AGENT = header_fact("user-agent")


class NotReplayable(ValueError):
    """A line that says too little to ask anybody about it, and why."""


class _Decided(msgspec.Struct, frozen=True):
    verdict: str
    reason: str
    policy: str | None = None
    rule: int | None = None


class _Own(msgspec.Struct, frozen=True):
    direction: Direction
    detected_protocol: Protocol
    original_dst: str
    source_principal: str | msgspec.UnsetType | None = msgspec.UNSET
    authz: _Decided | None = None


class _Line(msgspec.Struct, frozen=True):
    """The keys of the access log that matter here."""

    downstream_remote_address: str
    tproxy: _Own
    method: str | None = None
    path: str | None = None
    authority: str | None = None
    protocol: HttpVersion | None = None
    request_id: str | None = None
    x_forwarded_for: str | None = None
    user_agent: str | None = None
    requested_server_name: str | None = None
    response_code_details: str | None = None


_DECODER = msgspec.json.Decoder(_Line)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a request, and by which rule."""

    verdict: str
    reason: str
    rule: str | None = None
    """`foo/readers[0]`."""
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Logged:
    """One line of the log."""

    facts: Facts
    decided: Verdict
    """What became of it."""
    request_id: str | None


def logged(line: bytes, *, plaintext: bool = False) -> Logged:
    """Read a line; NotReplayable says why it cannot be asked about.

    `plaintext` is somebody's word that no connection proved who it was, for logs that do not say.
    """
    try:
        said = _DECODER.decode(line)
    except msgspec.DecodeError as error:
        raise NotReplayable("is no line of the JSON access log") from error
    own = said.tproxy
    refused = said.response_code_details == _REFUSED_AS_PLAINTEXT
    if said.method is None and own.detected_protocol in _HTTP and not refused:
        raise NotReplayable("tells of no request that could be read")
    flow, hidden = _flow(said, plaintext=plaintext or refused)
    head = None if said.method is None else _head(said, hidden)
    facts = Facts(flow, head, frozenset(hidden), _headers(said))
    return Logged(facts, _decided(own, refused=refused), said.request_id)


def _flow(said: _Line, *, plaintext: bool) -> tuple[Flow, set[str]]:
    own, hidden = said.tproxy, set()
    who: str | msgspec.UnsetType | None = own.source_principal
    if who is msgspec.UNSET:
        who = None
        if not plaintext:
            hidden.add(PRINCIPAL)
    if _doubtful(said.requested_server_name):
        hidden.add(SERVER_NAME)
    try:
        identity = principal(who)
    except BadRequest as bad:
        raise NotReplayable(str(bad)) from bad
    sniffed = Sniffed(own.detected_protocol, Detection.DECLARED, said.requested_server_name or "")
    peer, to = _address(said.downstream_remote_address), _address(own.original_dst)
    return Flow(own.direction, peer, Address(NOWHERE, 0), to, sniffed, identity=identity), hidden


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not port.isdecimal():
        raise NotReplayable(f"{text!r} is no address")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def _head(said: _Line, hidden: set[str]) -> RequestHead:
    path = (said.path or "").partition("?")[0]  # what became of a query does not matter
    for fact, value in ((METHOD, said.method), (PATH, path), (HOST, said.authority)):
        if _doubtful(value):
            hidden.add(fact)
    known = (("x-forwarded-for", said.x_forwarded_for), ("user-agent", said.user_agent))
    return RequestHead(
        (said.method or "").encode(),
        b"http",
        (said.authority or "").encode(),
        (said.path or "").encode(),
        headers_of((name, value) for name, value in known if value is not None),
        said.protocol or HttpVersion.HTTP11,
    )


def _headers(said: _Line) -> frozenset[str]:
    """Return the headers that the line holds; one with `, ` in it may have been two, which policies read otherwise."""
    known = set()
    if not _doubtful(said.x_forwarded_for):
        known.add(REMOTE)
    for fact, value in ((FORWARDED_FOR, said.x_forwarded_for), (USER_AGENT, said.user_agent)):
        if not _doubtful(value) and ", " not in (value or ""):
            known.add(fact)
    return frozenset(known)


def _doubtful(value: str | None) -> bool:
    """Whether a value is cut short, or has bytes escaped that may have been sent just so."""
    return value is not None and (value.endswith(_CUT) or _ESCAPED.search(value) is not None)


def _decided(own: _Own, *, refused: bool) -> Verdict:
    if refused:
        return Verdict("DENY", PLAINTEXT)
    said = own.authz
    if said is None:
        return Verdict("ALLOW", "default")
    rule = None if said.policy is None else f"{said.policy}[{said.rule}]"
    return Verdict(said.verdict, said.reason, rule)


def verdict_of(outcome: Outcome) -> Verdict:
    """Write an outcome as logs do."""
    rule = outcome.rule
    name = f"{rule.owner}[{rule.index}]" if rule else None
    return Verdict(outcome.verdict, outcome.reason, name, outcome.missing)


@dataclass(frozen=True, slots=True)
class Change:
    """One kind of request that would fare otherwise."""

    before: Verdict
    after: Verdict
    what: str
    """Method and the pattern of its path, or the port."""


@dataclass(slots=True)
class Tally:
    """How many, and some of them. What changes: it is counted."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, request_id: str | None) -> None:
        """Count one."""
        self.count += 1
        if request_id is not None and len(self.examples) < EXAMPLES:
            self.examples.append(request_id)


class Replay:
    """Holds a log against candidate policies. What changes: what was counted; it stays small, however long the log."""

    def __init__(
        self, candidate: Examiner, current: Examiner | None = None, *, plaintext: bool = False
    ) -> None:
        self._candidate = candidate
        self._current = current
        """Without it, what became of a request is what the log says."""
        self._plaintext = plaintext
        self._changes: dict[Change, Tally] = {}
        self.lines = 0
        self.same = 0
        self.outbound = 0
        """Lines of what left: no policy judges that, and which way it goes is not compared."""
        self.skipped: dict[str, int] = {}
        """Lines that cannot be asked about, by why."""
        self.ungrouped = 0
        """Changes of kinds beyond those that are told apart."""

    def add(self, line: bytes) -> None:
        """Hold one line against the candidate."""
        self.lines += 1
        try:
            request = logged(line, plaintext=self._plaintext)
        except NotReplayable as why:
            self.skip(str(why))
            return
        self.outbound += request.facts.flow.direction is Direction.OUTBOUND
        before, after = self._before(request), verdict_of(self._candidate.decide(request.facts))
        if before.verdict == after.verdict != "UNDETERMINED":
            self.same += 1
        else:
            self._count(Change(before, after, _pattern(request.facts)), request.request_id)

    def skip(self, why: str) -> None:
        """Count a line that cannot be asked about."""
        self.skipped[why] = self.skipped.get(why, 0) + 1

    def _before(self, request: Logged) -> Verdict:
        if self._current is None:
            return request.decided
        return verdict_of(self._current.decide(request.facts))

    def _count(self, change: Change, request_id: str | None) -> None:
        if change not in self._changes and len(self._changes) >= MAX_GROUPS:
            change = replace(change, what=OTHERS)
        if change not in self._changes and len(self._changes) >= 2 * MAX_GROUPS:
            self.ungrouped += 1
        else:
            self._changes.setdefault(change, Tally()).add(request_id)

    def changes(self) -> Mapping[Change, Tally]:
        """Give what would change, the most frequent first."""
        return dict(sorted(self._changes.items(), key=lambda item: -item[1].count))


def _pattern(facts: Facts) -> str:
    """Write what is alike in many requests."""
    head = facts.head
    if head is None:
        return f"connection to port {facts.flow.original_dst.port}"
    path = head.path.partition(b"?")[0].decode("utf-8", "backslashreplace")
    segments = ["{*}" if _VARIABLE.fullmatch(each) else each for each in path.split("/")]
    if len(segments) > _SEGMENTS:
        segments = [*segments[:_SEGMENTS], "{**}"]
    return f"{head.method.decode('utf-8', 'backslashreplace')} {'/'.join(segments)}"


def described(replay: Replay) -> dict[str, Any]:
    """Write what was found as JSON can hold it."""
    return {
        "lines": replay.lines,
        "same": replay.same,
        "outbound": replay.outbound,
        "skipped": replay.skipped,
        "ungrouped": replay.ungrouped,
        "changes": [
            {
                "from": msgspec.to_builtins(change.before),
                "to": msgspec.to_builtins(change.after),
                "request": change.what,
                "count": tally.count,
                "examples": tally.examples,
            }
            for change, tally in replay.changes().items()
        ],
    }
