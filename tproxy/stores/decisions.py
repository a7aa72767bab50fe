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
from tproxy.model.flow import Flow
from tproxy.model.http import Field, Headers, HttpVersion, RequestHead
from tproxy.policy.account import account
from tproxy.policy.explain import Examiner
from tproxy.policy.facts import FORWARDED_FOR, HOST, METHOD, PATH, REMOTE, Facts, header_fact
from tproxy.policy.secrecy import secret
from tproxy.policy.snapshot import Snapshot
from tproxy.stores.policy_store import PolicyStore

KEPT = 512
"""Decisions to allow, and as many to deny: a flood of one kind does not wash the other away. Ordinary
ones take less than a kilobyte each; with the bounds below, all of them at their worst some fifteen megabytes."""
MAX_PATH = 4096
"""Bytes, as in the access log."""
MAX_VALUE = 1024
"""Bytes of a host or a header."""
MAX_FIELDS = 8
"""Headers of one request; of one that repeats them more often, none is kept."""

REQUEST_ID = "x-request-id"
"""A header that the proxy may have added after the decision."""


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
    line: tuple[bytes, bytes, bytes] | None = None
    """Method, authority, path, a byte longer than their bounds where they are too long; None without a request."""
    fields: tuple[Field, ...] = ()
    looked_for: tuple[bytes, ...] = ()
    """The headers, in lower case, of which `fields` are all."""

    def facts(self) -> Facts:
        """Say what is known of the request."""
        if self.line is None:
            return Facts(self.flow)
        method, authority, path = self.line
        sizes = ((METHOD, method, MAX_VALUE), (HOST, authority, MAX_VALUE), (PATH, path, MAX_PATH))
        hidden = frozenset(fact for fact, value, most in sizes if len(value) > most)
        known = {header_fact(name.decode()) for name in self._whole()}
        if FORWARDED_FOR in known:
            known.add(REMOTE)
        head = RequestHead(
            method, b"http", authority, path, Headers(self.fields), HttpVersion.HTTP11
        )
        return Facts(self.flow, head, hidden, frozenset(known))

    def _whole(self) -> Iterator[bytes]:
        """Give the headers that were not cut short."""
        for name in self.looked_for:
            if all(len(value) <= MAX_VALUE for each, value in self.fields if each == name):
                yield name


class Decisions:
    """Bounded memory of what was decided. What changes: the oldest ones go."""

    def __init__(self, policies: PolicyStore) -> None:
        self._policies = policies
        self._allowed: deque[Kept] = deque(maxlen=KEPT)
        self._denied: deque[Kept] = deque(maxlen=KEPT)
        self._asked = _asked(policies.current)

    def keep(self, exchange: Exchange, head: RequestHead, request_id: str, now: float) -> None:
        """Remember what was decided on a request; where no policy applied, nothing was."""
        decision = exchange.decision
        if decision is ALLOWED:
            return
        names = self._current()[1]
        fields = _picked(head.headers, names) if names else ()
        if len(fields) > MAX_FIELDS:
            names, fields = (), ()
        kept = Kept(
            now,
            exchange.flow,
            decision,
            exchange.generation,
            request_id,
            (
                head.method[: MAX_VALUE + 1],
                head.authority[: MAX_VALUE + 1],
                head.path.partition(b"?")[0][: MAX_PATH + 1],
            ),
            fields,
            names,
        )
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
            both = chain(reversed(self._denied), reversed(self._allowed))
            return self._explained(each for each in both if each.request_id == wanted)
        if query.get("last") == ["denied"]:
            return self._explained(reversed(self._denied))
        return None

    def _explained(self, found: Iterator[Kept]) -> list[dict[str, Any]]:
        kept = next(found, None)
        return [] if kept is None else [self._described(kept)]

    def _described(self, kept: Kept) -> dict[str, Any]:
        """Explain a decision by the policies in force, which need not be those that made it."""
        examiner, _ = self._current()
        return {
            "at": kept.at,
            "request_id": kept.request_id,
            "generation": kept.generation,
            "explained_by": examiner.snapshot.generation,
            "verdict": verdict(kept.decision.allowed),
            "reason": kept.decision.reason,
            "rule": None if kept.decision.rule is None else str(kept.decision.rule),
            "explanation": msgspec.to_builtins(account(examiner.explain(kept.facts()))),
        }

    def _current(self) -> tuple[Examiner, tuple[bytes, ...]]:
        if self._asked[0].snapshot is not self._policies.current:
            self._asked = _asked(self._policies.current)
        return self._asked


def _asked(snapshot: Snapshot) -> tuple[Examiner, tuple[bytes, ...]]:
    """Make ready to explain by a snapshot, and find the headers that it reads and that may be kept."""
    examiner = Examiner(snapshot)
    names = (name for name in sorted(examiner.headers) if name != REQUEST_ID and not secret(name))
    return examiner, tuple(name.encode() for name in names)


def _picked(headers: Headers, names: tuple[bytes, ...]) -> tuple[Field, ...]:
    return tuple(
        (name.lower(), value[: MAX_VALUE + 1]) for name, value in headers if name.lower() in names
    )
