"""The last decisions of this worker, kept so that somebody can ask why.

What is kept is what the policies read, and nothing that lets anybody in: a path without its query, and of headers only
those that some rule reads and whose names do not sound secret.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import msgspec

from tproxy.model.decision import ALLOWED, Decision, verdict
from tproxy.model.exchange import Exchange
from tproxy.model.flow import Direction, Flow
from tproxy.model.http import Field, Headers, HttpVersion, RequestHead
from tproxy.model.outcome import ResponseFlag, codes
from tproxy.policy.facts import FORWARDED_FOR, HOST, METHOD, PATH, REMOTE, Facts, header_fact
from tproxy.policy.headers_read import headers_read
from tproxy.policy.route_match import QUERY, SCHEME
from tproxy.policy.secrecy import secret
from tproxy.policy.snapshot import Snapshot
from tproxy.stores.policy_store import PolicyStore

KEPT = 512
"""Decisions to allow, as many to deny, and as many ways of what nobody judged: a flood of one kind does not wash
the others away. Ordinary ones take less than a kilobyte each; with the bounds below, all of them at their worst some
twenty-five megabytes."""
MAX_PATH = 4096
"""Bytes, as in the access log."""
MAX_VALUE = 1024
"""Bytes of a host or a header."""
MAX_FIELDS = 8
"""Headers of one request; of one that repeats them more often, none is kept."""

REQUEST_ID = "x-request-id"
"""A header that is kept of every request, since draws are made from it."""


class Went(msgspec.Struct, frozen=True):
    """Which way a request went as traffic policies say, and what came of it."""

    route: str
    cluster: str
    """Empty where the answer was ours."""
    attempts: int
    flags: tuple[ResponseFlag, ...]
    status: int
    """0 when nothing was answered."""

    def shown(self) -> dict[str, Any]:
        """Say it, flags as the access log writes them."""
        return {
            "route": self.route,
            "cluster": self.cluster,
            "attempts": self.attempts,
            "flags": codes(self.flags),
            "status": self.status,
        }


class Kept(msgspec.Struct, frozen=True):
    """One decision, and what it was about; facts are made of it only for whoever asks.

    A msgspec struct, since one is made for every request that is decided on.
    """

    at: float
    """Seconds since the epoch."""
    flow: Flow
    decision: Decision
    generation: int
    request_id: str | None = None
    line: tuple[bytes, bytes, bytes, bytes] | None = None
    """Method, scheme, authority, path, a byte longer than their bounds where they are too long; None without a
    request."""
    queried: bool = False
    """Whether the path had a query, which is not kept."""
    fields: tuple[Field, ...] = ()
    looked_for: frozenset[bytes] = frozenset()
    """The headers, in lower case, of which `fields` are all."""
    went: Went | None = None
    """None where no traffic policy had a part in it."""

    def facts(self) -> Facts:
        """Say what is known of the request."""
        if self.line is None:
            return Facts(self.flow)
        method, scheme, authority, path = self.line
        fields = (*self.fields, (REQUEST_ID.encode(), (self.request_id or "").encode()))
        head = RequestHead(method, scheme, authority, path, Headers(fields), HttpVersion.HTTP11)
        known = {header_fact(name.decode()) for name in self._whole()}
        if FORWARDED_FOR in known:
            known.add(REMOTE)
        return Facts(self.flow, head, frozenset(self._hidden(self.line)), frozenset(known))

    def _hidden(self, line: tuple[bytes, bytes, bytes, bytes]) -> Iterator[str]:
        """Name what was not kept, or not whole."""
        bounds = ((METHOD, MAX_VALUE), (SCHEME, MAX_VALUE), (HOST, MAX_VALUE), (PATH, MAX_PATH))
        for (fact, most), value in zip(bounds, line, strict=True):
            if len(value) > most:
                yield fact
        if self.queried:
            yield QUERY

    def _whole(self) -> Iterator[bytes]:
        """Give the headers that were not cut short."""
        for name in self.looked_for:
            if all(len(value) <= MAX_VALUE for each, value in self.fields if each == name):
                yield name
        yield REQUEST_ID.encode()


class Decisions:
    """Bounded memory of what was decided. What changes: the oldest ones go."""

    def __init__(self, policies: PolicyStore) -> None:
        self._policies = policies
        self._allowed: deque[Kept] = deque(maxlen=KEPT)
        self._denied: deque[Kept] = deque(maxlen=KEPT)
        self._led: deque[Kept] = deque(maxlen=KEPT)
        self._read = _read(policies.current)

    def keep(
        self,
        exchange: Exchange,
        head: RequestHead,
        request_id: str,
        now: float,
        went: Went | None = None,
    ) -> None:
        """Remember what was decided on a request, or which way it went; where no policy applied, nothing is."""
        decision = exchange.decision
        if decision is ALLOWED and went is None:
            return
        names = self._headers()[exchange.flow.direction]
        fields: tuple[Field, ...] = ()
        if names and not names.isdisjoint(head.headers.by_name()):
            fields = _picked(head.headers, names)
        if len(fields) > MAX_FIELDS:
            names, fields = frozenset(), ()
        path, query, _ = head.path.partition(b"?")
        kept = Kept(
            now,
            exchange.flow,
            decision,
            exchange.generation,
            request_id,
            (
                head.method[: MAX_VALUE + 1],
                head.scheme[: MAX_VALUE + 1],
                head.authority[: MAX_VALUE + 1],
                path[: MAX_PATH + 1],
            ),
            query != b"",
            fields,
            names,
            went,
        )
        if decision is ALLOWED:
            self._led.append(kept)
        else:
            (self._allowed if decision.allowed else self._denied).append(kept)

    def keep_connection(self, flow: Flow, decision: Decision, generation: int) -> None:
        """Remember what was decided on a connection that is no HTTP."""
        if decision is not ALLOWED:
            kept = Kept(time.time(), flow, decision, generation)
            (self._allowed if decision.allowed else self._denied).append(kept)

    def asked(self, query: Mapping[str, list[str]]) -> list[dict[str, Any]] | None:
        """Explain the latest decision that is asked for (`id=…`, `last=denied`); None when nothing is."""
        if "id" in query:
            wanted = query["id"][0]
            every = chain(reversed(self._denied), reversed(self._allowed), reversed(self._led))
            return self._explained(each for each in every if each.request_id == wanted)
        if query.get("last") == ["denied"]:
            return self._explained(reversed(self._denied))
        return None

    def _explained(self, found: Iterator[Kept]) -> list[dict[str, Any]]:
        kept = next(found, None)
        return [] if kept is None else [self._described(kept)]

    def _described(self, kept: Kept) -> dict[str, Any]:
        """Explain a decision by the policies in force, which need not be those that made it."""
        # What explains takes a megabyte, and few ask.
        from tproxy.policy.account import account  # noqa: PLC0415
        from tproxy.policy.explain import OUTBOUND, Examiner  # noqa: PLC0415

        snapshot = self._policies.current
        generation, outbound = snapshot.generation, _is_outbound(kept)
        # Nothing was decided on it but its way, of which other policies say nothing.
        told = not outbound or kept.generation == generation
        return {
            "at": kept.at,
            "request_id": kept.request_id,
            "generation": kept.generation,
            "explained_by": generation,
            "verdict": verdict(kept.decision.allowed),
            "reason": OUTBOUND if outbound else kept.decision.reason,
            "rule": None if kept.decision.rule is None else str(kept.decision.rule),
            "went": kept.went.shown() if kept.went else None,
            "explanation": msgspec.to_builtins(account(Examiner(snapshot).explain(kept.facts())))
            if told
            else None,
        }

    def _headers(self) -> Mapping[Direction, frozenset[bytes]]:
        """Name the headers that the policies in force read and that may be kept."""
        if self._read[0] is not self._policies.current:
            self._read = _read(self._policies.current)
        return self._read[1]


def _is_outbound(kept: Kept) -> bool:
    return kept.flow.direction is Direction.OUTBOUND


def _read(snapshot: Snapshot) -> tuple[Snapshot, Mapping[Direction, frozenset[bytes]]]:
    return snapshot, {each: _kept(read) for each, read in headers_read(snapshot).items()}


def _kept(read: frozenset[str]) -> frozenset[bytes]:
    return frozenset(name.encode() for name in read if name != REQUEST_ID and not secret(name))


def _picked(headers: Headers, names: frozenset[bytes]) -> tuple[Field, ...]:
    return tuple(
        (name.lower(), value[: MAX_VALUE + 1]) for name, value in headers if name.lower() in names
    )
