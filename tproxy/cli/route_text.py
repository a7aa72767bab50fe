"""Which way a request goes, for people: the entry that decides, why not those before it, and what becomes of it."""

from collections.abc import Iterator

from tproxy.cli.cluster_text import cluster_text
from tproxy.policy.account_route import PassedEntry, PlanAccount, RouteAccount, UnmetCondition
from tproxy.policy.traffic import PASSTHROUGH


def route_text(route: RouteAccount) -> Iterator[str]:
    """Write it, line by line."""
    if route.policy is not None:
        yield f"  route: {_chosen(route)}"
    for passed in route.passed:
        yield from _passed(passed)
    yield from _shares(route)
    if route.missing:
        what = "destination" if route.entry else "route"
        yield f"  {what}: it depends on what is not known: {', '.join(route.missing)}"
    elif route.cluster and (route.policy or route.cluster != PASSTHROUGH):
        way = ", where it was going" if route.cluster == PASSTHROUGH else ""
        yield f"  cluster: {route.cluster}{way}"
    yield from _plan(route.plan)
    if route.to is not None:
        yield from cluster_text(route.to)


def _chosen(route: RouteAccount) -> str:
    about = f"{route.policy} ({route.place})"
    if route.entry is not None:
        return f"entry {route.entry} of {about} decides ({route.entry_place})"
    if route.missing:
        return f"{about} is about it"
    return f"no entry of {about} matches, so it goes as if there were none"


def _passed(passed: PassedEntry) -> Iterator[str]:
    word = "may match" if passed.matches is None else "does not match"
    yield f"    entry {passed.entry} {word} ({passed.place})"
    for unmet in passed.unmet:
        yield f"      {_unmet(unmet)}"


def _unmet(unmet: UnmetCondition) -> str:
    where = f"({unmet.place})"
    if unmet.missing:
        return f"{unmet.field} depends on {unmet.missing}, which is not known {where}"
    if unmet.field == "sourceLabels":
        return f"{unmet.wanted} {where}"
    seen = "there is none" if unmet.seen is None else f"it is {unmet.seen}"
    wanted = f"not {unmet.wanted}" if unmet.negative else unmet.wanted
    return f"{unmet.field} fails: {wanted} is wanted, {seen} {where}"


def _shares(route: RouteAccount) -> Iterator[str]:
    if len(route.shares) < 2:
        return
    whole = sum(each.weight for each in route.shares)
    for each in route.shares:
        subset = f", subset {each.subset}" if each.subset else ""
        port = "" if each.port is None else f", port {each.port}"
        here = ": drawn for this one" if each.chosen else ""
        yield f"    {100 * each.weight / whole:.4g} % to {each.host}{subset}{port}{here}"


def _plan(plan: PlanAccount) -> Iterator[str]:
    timeout = f"{plan.timeout:g} s" if plan.timeout else ""
    fault = f"{plan.fault}; this one: {plan.injected}" if plan.injected else plan.fault
    for word, said in (
        ("answer of ours", plan.answer),
        ("timeout", timeout),
        ("retries", plan.retries),
        ("faults", fault),
        ("rewrite", plan.rewrite),
        *(("headers", each) for each in plan.headers),
        *(("mirrored", each) for each in plan.mirrors),
    ):
        if said:
            yield f"    {word}: {said}"
