"""Which faults a request is to suffer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from msgspec import structs

from tproxy.model.flow import Direction, Flow
from tproxy.model.http import RequestHead
from tproxy.model.route import Plan, Route
from tproxy.policy.authorize import AllOf
from tproxy.policy.paths import Ambiguous, normalised
from tproxy.policy.schema import PathNormalization
from tproxy.resilience.fault import FaultSpec
from tproxy.resilience.retry import NO_RETRY


@dataclass(frozen=True, slots=True)
class CompiledFault:
    """One rule."""

    wanted: AllOf
    spec: FaultSpec
    owner: str
    """`foo/slow`."""
    place: str
    """`file:line`."""


MOST_REMEMBERED = 1024
"""Routes with faults that are kept: fewer than policies name."""


def _remembered() -> Callable[[Route, FaultSpec], Route]:
    return lru_cache(MOST_REMEMBERED)(_with_fault)


@dataclass(frozen=True, slots=True)
class FaultBook:
    """All rules about the workload. What changes: which routes with faults are remembered."""

    rules: Mapping[Direction, Sequence[CompiledFault]]
    normalization: PathNormalization = PathNormalization.MERGE_SLASHES
    _suffering: Callable[[Route, FaultSpec], Route] = field(
        default_factory=_remembered, init=False, repr=False, compare=False
    )

    def way(self, route: Route, flow: Flow, head: RequestHead) -> Route:
        """Return the route with the faults of the first rule about a request, unless it has faults of its own."""
        rules = self.rules[flow.direction]
        if not rules or (route.plan is not None and route.plan.fault is not None):
            return route
        head = self.normal(head)
        for each in rules:
            if each.wanted.holds(flow, head):
                return self._suffering(route, each.spec)
        return route

    def normal(self, head: RequestHead) -> RequestHead:
        """Bring the path into the form that policies read; what has no safe reading stays as it is."""
        try:
            path = normalised(head.path, self.normalization)
        except Ambiguous:
            return head
        return head if path == head.path else structs.replace(head, path=path)


def _with_fault(route: Route, spec: FaultSpec) -> Route:
    plan = route.plan or Plan(retry=NO_RETRY)
    return structs.replace(route, plan=structs.replace(plan, fault=spec))
