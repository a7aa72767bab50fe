"""The way of a request in a form that travels."""

import msgspec

from tproxy.model.route import DirectResponse, HeaderEdits, Mirror, Plan, Redirect, Rewrite
from tproxy.policy.account_fault import fault_text, injected_text
from tproxy.policy.explain_cluster import ClusterAccount, cluster_account
from tproxy.policy.explain_route import Directing, Tried, Unmet
from tproxy.policy.routes import Share
from tproxy.resilience.fault import UNHARMED
from tproxy.resilience.retry import RetryPolicy


class UnmetCondition(msgspec.Struct, frozen=True):
    """The first condition of a match that does not hold."""

    place: str
    field: str
    wanted: str
    seen: str | None
    negative: bool = False
    missing: str | None = None


class PassedEntry(msgspec.Struct, frozen=True):
    """An entry that was asked and did not decide."""

    entry: str
    place: str
    matches: bool | None
    unmet: tuple[UnmetCondition, ...]


class ShareAccount(msgspec.Struct, frozen=True):
    """One of an entry's destinations."""

    host: str
    subset: str
    port: int | None
    """None where the entry does not say."""
    weight: int
    chosen: bool
    """Whether this request goes there; no for all where that is not known."""


class PlanAccount(msgspec.Struct, frozen=True):
    """What becomes of it on the way; what is empty is not done."""

    timeout: float = 0.0
    retries: str = ""
    fault: str = ""
    injected: str = ""
    """Into this very request."""
    rewrite: str = ""
    answer: str = ""
    headers: tuple[str, ...] = ()
    """Names, without values."""
    mirrors: tuple[str, ...] = ()


class RouteAccount(msgspec.Struct, frozen=True):
    """All of it."""

    policy: str | None
    """The VirtualService that is about it; None when none is."""
    place: str | None
    entry: str | None
    """Its entry that decides; None when none does."""
    entry_place: str | None
    cluster: str | None
    """None when it is not known; empty where the answer is ours."""
    passed: tuple[PassedEntry, ...] = ()
    shares: tuple[ShareAccount, ...] = ()
    plan: PlanAccount = PlanAccount()
    missing: tuple[str, ...] = ()
    to: ClusterAccount | None = None
    """What is known of the cluster; None where that is not known, or where it was going."""


def route_account(way: Directing, *, http: bool) -> RouteAccount:
    """Write a way in words and numbers; `http` says whether it is that of a request."""
    routes, entry, route = way.routes, way.chosen, way.route
    settled = route is not None and not way.missing
    plan = route.plan if route is not None and settled else None
    cluster = plan.destination if plan and not plan.answer else None
    return RouteAccount(
        routes.owner if routes else None,
        routes.place if routes else None,
        entry.name if entry else None,
        entry.place if entry else None,
        route.cluster if route is not None and settled else None,
        tuple(_passed(each) for each in way.tried if each.entry is not entry),
        tuple(_share(each, way) for each in entry.shares) if entry else (),
        _plan(route.plan, way, http=http)
        if route and route.plan
        else PlanAccount(fault=_unknown_fault(way)),
        way.missing,
        cluster_account(cluster) if cluster else None,
    )


def _passed(tried: Tried) -> PassedEntry:
    entry = tried.entry
    return PassedEntry(entry.name, entry.place, tried.holds, tuple(map(_unmet, tried.unmet)))


def _unmet(unmet: Unmet) -> UnmetCondition:
    return UnmetCondition(
        unmet.place, unmet.field, unmet.wanted, unmet.seen, unmet.negative, unmet.missing
    )


def _share(share: Share, way: Directing) -> ShareAccount:
    target = share.target
    return ShareAccount(target.host, target.subset, target.port, share.weight, share is way.share)


def _plan(plan: Plan, way: Directing, *, http: bool) -> PlanAccount:
    repeated = http and plan.answer is None
    edits = (("request", plan.request_headers), ("response", plan.response_headers))
    return PlanAccount(
        plan.timeout,
        _retries(plan.retry) if repeated else "",
        fault_text(plan.fault) if plan.fault else _unknown_fault(way),
        _injected(way) if plan.fault else "",
        _rewrite(plan.rewrite) if plan.rewrite else "",
        _answer(plan.answer) if plan.answer else "",
        tuple(f"{side}: {_edits(said)}" for side, said in edits if said and not way.missing),
        tuple(map(_mirror, plan.mirrors)),
    )


def _retries(retry: RetryPolicy) -> str:
    if not retry.attempts:
        return "none"
    words = sorted(each.word for each in retry.retry_on)
    statuses = map(str, sorted(retry.status_codes))
    each = f", {retry.per_try_timeout:g} s for each try" if retry.per_try_timeout else ""
    return f"{retry.attempts} on {', '.join((*words, *statuses))}{each}"


def _unknown_fault(way: Directing) -> str:
    return (
        f"depend on what is not known: {', '.join(way.unknown_fault)}" if way.unknown_fault else ""
    )


def _injected(way: Directing) -> str:
    return injected_text(way.fault or UNHARMED if way.identified else None)


def _rewrite(rewrite: Rewrite) -> str:
    said = []
    if rewrite.path is not None:
        of = "the path" if rewrite.prefix is None else f"{rewrite.prefix.decode()!r}"
        said.append(f"{rewrite.path.decode()!r} in place of {of}")
    if rewrite.pattern:
        said.append(f"{rewrite.substitution!r} in place of what matches {rewrite.pattern!r}")
    if rewrite.authority is not None:
        said.append(f"authority {rewrite.authority.decode()}")
    return ", ".join(said)


def _answer(answer: Redirect | DirectResponse) -> str:
    if isinstance(answer, DirectResponse):
        return f"{answer.status}, {len(answer.body)} bytes"
    parts = (answer.scheme, answer.authority, answer.path)
    said = [each.decode() for each in parts if each is not None]
    port = [] if answer.port is None else [f"port {answer.port}"]
    return f"{answer.status} to {', '.join((*said, *port))}"


def _edits(edits: HeaderEdits) -> str:
    said = (
        ("remove", sorted(edits.remove)),
        ("set", [name for name, _ in edits.set]),
        ("add", [name for name, _ in edits.add]),
    )
    return "; ".join(f"{word} {b', '.join(names).decode()}" for word, names in said if names)


def _mirror(mirror: Mirror) -> str:
    return f"{mirror.percent:g} % to {mirror.cluster.name}"
