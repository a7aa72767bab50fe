"""What VirtualService says, from a file to what each side hears."""

from collections import Counter
from dataclasses import replace

import pytest

from fakes.clusters import instances
from fakes.destinations import document
from fakes.path import Path, ask, to_app
from fakes.planned import Turns, both, status
from fakes.policies import snapshot
from tproxy.model.address import Address
from tproxy.model.flow import Direction, Protocol

HERE = "shop.example"


def service(host: str, *endpoints: Address) -> str:
    """A ServiceEntry of these endpoints, each a version of its own."""
    listed = ", ".join(
        f'{{address: "{each.host}", ports: {{http: {each.port}}}, labels: {{version: v{at}}}}}'
        for at, each in enumerate(endpoints)
    )
    ports = "ports: [{number: 80, name: http}]"
    spec = f"{{hosts: [{host}], {ports}, resolution: STATIC, endpoints: [{listed}]}}"
    return document("ServiceEntry", spec, f"name: {host}, namespace: web")


def subsets(host: str, count: int) -> str:
    """A DestinationRule that names the versions."""
    listed = ", ".join(f"{{name: v{at}, labels: {{version: v{at}}}}}" for at in range(count))
    spec = f"{{host: {host}, subsets: [{listed}]}}"
    return document("DestinationRule", spec, "name: r, namespace: web")


def routes(*entries: str) -> str:
    """A VirtualService about whom requests in these tests ask for."""
    spec = f"{{hosts: [{HERE}], http: [{', '.join(entries)}]}}"
    return document("VirtualService", spec, "name: v, namespace: web")


def decree(path: Path, *documents: str) -> None:
    """Put policies in force, for what the application asks."""
    path.direction = Direction.OUTBOUND
    path.policies.swap(replace(snapshot(*documents), access_log=path.policies.current.access_log))


def version(number: int, host: str = "store.example") -> str:
    """A destination."""
    return f"route: [{{destination: {{host: {host}, subset: v{number}, port: {{number: 80}}}}}}]"


@both
async def test_requests_are_led_by_what_they_say(protocol: Protocol) -> None:
    app = Turns([status(200, b"where it was going")])
    async with to_app(app, protocol) as path, instances(2, protocol) as found:
        first, second = (each.address for each in found)
        decree(
            path,
            service("store.example", first, second),
            subsets("store.example", 2),
            routes(
                f"{{name: canary, match: [{{headers: {{x-canary: {{exact: '1'}}}}}}], {version(1)}}}",
                f"{{name: old, match: [{{uri: {{prefix: /old/}}}}], {version(0)}}}",
                "{name: back, match: [{uri: {exact: /back}}], redirect: {uri: /}}",
                f"{{name: here, match: [{{uri: {{exact: /here}}}}], route: [{{destination: {{host: {HERE}}}}}]}}",
            ),
        )
        heard = [
            (await path.get(b"/old/x", ((b"X-Canary", b"1"),))).body,
            (await path.get(b"/old/x")).body,
            (await path.get(b"/back")).start,
            (await path.get(b"/here")).body,
            (await path.get(b"/elsewhere")).body,
        ]
        there = [str(each).encode() for each in (second, first)]
        assert heard == [*there, 301, b"where it was going", b"where it was going"]
        lines = await path.logged(5)
        assert [each["route_name"] for each in lines] == [
            "canary",
            "old",
            "back",
            "here",
            "allow_any",
        ]
        assert [each["upstream_cluster"] for each in lines][:2] == [
            "outbound|80|v1|store.example",
            "outbound|80|v0|store.example",
        ]


@both
async def test_a_request_goes_the_way_of_its_id_whoever_asks_and_when(protocol: Protocol) -> None:
    async with to_app(Turns([status(500)]), protocol) as path, instances(2, protocol) as found:
        shares = ", ".join(
            f"{{destination: {{host: store.example, subset: v{at}, port: {{number: 80}}}}, weight: {weight}}}"
            for at, weight in enumerate((3, 1))
        )
        policies = (
            service("store.example", *(each.address for each in found)),
            subsets("store.example", 2),
            routes(f"{{name: canary, route: [{shares}]}}"),
        )
        decree(path, *policies)
        talk = path.talk()
        ids = [b"id-%d" % number for number in range(24)]
        before = [(await ask(talk, fields=((b"x-request-id", each),))).body for each in ids]
        decree(path, "# another file\n" + policies[0], *policies[1:])
        after = [(await path.get(fields=((b"x-request-id", each),))).body for each in ids]
        assert before == after
        counts = Counter(before)
        assert len(counts) == 2
        assert counts[str(found[0].address).encode()] > counts[str(found[1].address).encode()]


@both
@pytest.mark.parametrize(
    ("match", "path_asked", "path_heard"),
    [
        pytest.param("uri: {prefix: /old}", b"/old/x?y=z", b"/new/x?y=z", id="a prefix"),
        pytest.param("uri: {prefix: /OLD}, ignoreUriCase: true", b"/Old/x", b"/new/x", id="a prefix in any case"),
        pytest.param("uri: {exact: /old}", b"/old?y=z", b"/new?y=z", id="a whole path"),
        pytest.param('uri: {regex: "/o.*"}', b"/old/x", b"/new", id="an expression"),
        pytest.param("method: {exact: GET}", b"/x", b"/new/x", id="nothing of paths"),
    ],
)  # fmt: skip
async def test_what_a_request_was_matched_by_is_rewritten(
    protocol: Protocol, match: str, path_asked: bytes, path_heard: bytes
) -> None:
    app = Turns([status(200)])
    async with to_app(app, protocol) as path:
        stays = f"route: [{{destination: {{host: {HERE}}}}}]"
        decree(path, routes(f"{{match: [{{{match}}}], {stays}, rewrite: {{uri: /new}}}}"))
        await path.get(path_asked)
        assert [each.start for each in app.heads] == [(b"GET", path_heard)]
