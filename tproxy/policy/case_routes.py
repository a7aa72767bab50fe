"""Hold the way of a case against what it expects."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tproxy.model.route import DirectResponse, Redirect
from tproxy.policy.egress import BLACK_HOLE
from tproxy.policy.explain_route import Directing
from tproxy.policy.hosts import qualified
from tproxy.policy.routes import Target
from tproxy.policy.schema import Expectation, ExpectedDestination

UNDETERMINED = "undetermined"
NONE = "none"


class Compared(NamedTuple):
    """What was expected of a part of the way, and what came."""

    field: str
    expected: str
    came: str


ROUTE_FIELDS = ("route", "destination", "weights", "cluster", "status")
"""What an expectation says of ways."""


def compared(expect: Expectation, way: Directing, namespace: str) -> Iterator[Compared]:
    """Give all parts of a way of which something is expected."""
    if expect.route is not None:
        yield Compared("route", str(expect.route), _entry(way, expect.route))
    if expect.destination is not None:
        yield from _destination(expect.destination, way, namespace)
    if expect.weights is not None:
        came = _undrawn(way) if _open(way) else _weights(_shares(way))
        yield Compared("weights", _weights(expect.weights), came)
    if expect.cluster is not None:
        yield Compared("cluster", expect.cluster, _cluster(way))
    if expect.status is not None:
        yield Compared("status", str(expect.status), _status(way))


def _open(way: Directing) -> bool:
    """Whether not even the entry is known."""
    return way.route is None


def _undrawn(way: Directing) -> str:
    return undetermined(way.missing)


def undetermined(missing: Sequence[str]) -> str:
    """Say that nobody knows what came, and why."""
    return f"{UNDETERMINED}, it depends on {', '.join(missing)}"


def _entry(way: Directing, expected: str | int) -> str:
    if _open(way):
        return _undrawn(way)
    if way.chosen is None:
        return NONE
    return str(way.chosen.index) if isinstance(expected, int) else way.chosen.name


def _destination(
    expected: ExpectedDestination, way: Directing, namespace: str
) -> Iterator[Compared]:
    came = _came(way)
    for field, wanted in (
        ("host", None if expected.host is None else qualified(expected.host, namespace)),
        ("subset", None if expected.subset is None else expected.subset or NONE),
        ("port", None if expected.port is None else str(expected.port)),
    ):
        if wanted is not None:
            yield Compared(f"destination.{field}", wanted, came[field])


def _came(way: Directing) -> Mapping[str, str]:
    if way.missing:
        return dict.fromkeys(("host", "subset", "port"), _undrawn(way))
    assert way.route is not None, "nothing is missing"
    if way.route.cluster == BLACK_HOLE:
        return dict.fromkeys(("host", "subset", "port"), NONE)
    cluster = way.route.plan.destination if way.route.plan else None
    if cluster is not None:
        return {"host": cluster.host, "subset": cluster.subset or NONE, "port": str(cluster.port)}
    assert way.meant is not None, "nothing is missing"
    if way.chosen is not None and way.share is None:
        return dict.fromkeys(("host", "subset", "port"), NONE)
    return {"host": way.meant.host or NONE, "subset": NONE, "port": str(way.meant.port)}


def _cluster(way: Directing) -> str:
    if way.missing:
        return _undrawn(way)
    assert way.route is not None, "nothing is missing"
    return way.route.cluster or NONE


def _status(way: Directing) -> str:
    if _open(way):
        return _undrawn(way)
    plan = way.route.plan if way.route else None
    answer = plan.answer if plan else None
    return str(answer.status) if isinstance(answer, Redirect | DirectResponse) else NONE


def _shares(way: Directing) -> Mapping[str, int]:
    """Add up what goes to each destination."""
    found: dict[str, int] = {}
    shares = way.chosen.shares if way.chosen else ()
    targets = {each.target for each in shares}
    short = Counter(map(_short, targets))
    for each in shares:
        name = _short(each.target)
        name = name if short[name] == 1 else _whole(each.target)
        found[name] = found.get(name, 0) + each.weight
    return found


def _short(target: Target) -> str:
    """Name a destination among others of its entry."""
    return target.subset or target.host


def _whole(target: Target) -> str:
    """Name one that is not told apart by this: `host:port/subset`."""
    port = "" if target.port is None else f":{target.port}"
    return f"{target.host}{port}" + (f"/{target.subset}" if target.subset else "")


def _weights(weights: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {weights[name]}" for name in sorted(weights)) or NONE
