"""Names lead to endpoints, and what they led to last holds until they lead elsewhere."""

from itertools import pairwise
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from fakes.name_server import NameServer, name_server
from fakes.sockets import open_descriptors
from tproxy.discovery.dns import JITTER, LONGEST_BACK_OFF, MOST_ENDPOINTS, MOST_SECONDS, DnsSource
from tproxy.discovery.resolver import MOST_QUESTIONS, Answer, Service, Services
from tproxy.discovery.source import NotFound, Result
from tproxy.model.cluster import Dns, DnsName, Endpoint

SHOP = "shop.example"


def source(server: NameServer, directory: Path, *names: str, first_only: bool = False) -> DnsSource:
    """Follow names at port 80."""
    origin = Dns(tuple(DnsName(each, 80) for each in names or (f"{SHOP}.",)), first_only)
    return DnsSource(origin, server.resolver(directory), lambda: 0.0)


def shown(endpoints: tuple[Endpoint, ...]) -> list[str]:
    """Write them, in their order."""
    return [str(each.address) for each in endpoints]


async def failure(following: DnsSource) -> Result:
    """Look in vain, and tell why."""
    with pytest.raises(NotFound) as caught:
        await following.endpoints()
    return caught.value.result


async def test_both_families_are_asked_and_used(tmp_path: Path) -> None:
    async with name_server() as server:
        server.knows(SHOP, "A", "192.0.2.1", "192.0.2.2")
        server.knows(SHOP, "AAAA", "2001:db8::1")
        found = await source(server, tmp_path).endpoints()
        assert sorted(shown(found)) == ["192.0.2.1:80", "192.0.2.2:80", "[2001:db8::1]:80"]


@pytest.mark.parametrize("kind", ["A", "AAAA"])
async def test_a_family_that_has_no_address_is_passed_over(tmp_path: Path, kind: str) -> None:
    value = "192.0.2.1" if kind == "A" else "2001:db8::1"
    async with name_server() as server:
        server.knows(SHOP, kind, value)
        (found,) = await source(server, tmp_path).endpoints()
        assert found.address.host == value


async def test_names_that_stand_for_others_are_followed(tmp_path: Path) -> None:
    async with name_server() as server:
        server.aliases = {SHOP: "a.example", "a.example": "b.example"}
        server.knows("b.example", "A", "192.0.2.1")
        assert shown(await source(server, tmp_path).endpoints()) == ["192.0.2.1:80"]


async def test_an_answer_too_large_for_a_datagram_comes_over_tcp(tmp_path: Path) -> None:
    async with name_server() as server:
        server.truncates = True
        server.knows(SHOP, "A", *(f"192.0.2.{each}" for each in range(1, 100)))
        assert len(await source(server, tmp_path).endpoints()) == 99
        assert server.over_tcp == 2


async def test_whoever_rotates_addresses_has_its_first_one_used(tmp_path: Path) -> None:
    async with name_server() as server:
        server.knows(SHOP, "A", "192.0.2.2", "192.0.2.1")
        found = await source(server, tmp_path, first_only=True).endpoints()
        assert len(found) == 1


async def test_services_say_port_and_weight_and_only_the_first_are_used(tmp_path: Path) -> None:
    async with name_server() as server:
        server.knows(
            "_http._tcp.shop.example",
            "SRV",
            "1 5 8080 a.example.",
            "1 0 8081 b.example.",
            "2 9 8082 c.example.",
            "1 5 8083 gone.example.",
        )
        for number, host in enumerate(("a.example", "b.example", "c.example"), 1):
            server.knows(host, "A", f"192.0.2.{number}")
        found = await source(server, tmp_path, "_http._tcp.shop.example.").endpoints()
        assert {(str(each.address), each.weight) for each in found} == {
            ("192.0.2.1:8080", 5),
            ("192.0.2.2:8081", 1),
        }
        assert server.asked["c.example A"] == 0


class Crowd:
    """Knows more hosts than anybody needs, and more addresses of each."""

    async def services(self, name: str) -> Services:
        """Name the hosts."""
        del name
        return Services(tuple(Service(1, 1, 8000 + each, f"{each}") for each in range(200)), 30)

    async def addresses(self, name: str, kind: str) -> Answer:
        """Give those of one."""
        where = "192.0.2.{}" if kind == "A" else f"2001:db8:{len(name)}::{{:x}}"
        return Answer(tuple(where.format(each % 256) for each in range(2000)), 30)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("_http._tcp.shop.example",), id="of one answer"),
        pytest.param(("shop.example",), id="of one host"),
        pytest.param(("a.example", "b.example"), id="of several names"),
    ],
)
async def test_no_more_endpoints_are_used_than_the_bound(names: tuple[str, ...]) -> None:
    origin = Dns(tuple(DnsName(each, 80) for each in names))
    assert len(await DnsSource(origin, Crowd(), lambda: 0.0).endpoints()) == MOST_ENDPOINTS


async def test_services_of_which_no_host_is_there_are_not_found(tmp_path: Path) -> None:
    async with name_server() as server:
        server.knows("_http._tcp.shop.example", "SRV", "1 5 8080 gone.example.")
        assert await failure(source(server, tmp_path, "_http._tcp.shop.example.")) == "nxdomain"


async def test_a_host_of_a_service_that_nobody_knows_of_just_now_stays(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with name_server() as server:
        service = "_http._tcp.shop.example"
        server.knows(service, "SRV", "1 5 8080 a.example.")
        server.knows("a.example", "A", "192.0.2.1")
        following = source(server, tmp_path, f"{service}.")
        first = await following.endpoints()
        server.refuses = {"A", "AAAA"}
        assert await following.endpoints() == first
        assert autojump_clock is not None


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        pytest.param(30, 30, id="as it says"),
        pytest.param(0, 1, id="and not at once"),
        pytest.param(86400, MOST_SECONDS, id="and not never"),
    ],
)
async def test_names_are_looked_up_again_after_their_time(
    tmp_path: Path, autojump_clock: MockClock, ttl: int, seconds: float
) -> None:
    async with name_server() as server:
        server.knows(SHOP, "A", "192.0.2.1", ttl=ttl)
        origin = Dns((DnsName(f"{SHOP}.", 80),))
        following = DnsSource(origin, server.resolver(tmp_path), lambda: 0.5)
        await following.endpoints()
        server.knows(SHOP, "A", "192.0.2.2", ttl=ttl)
        began = autojump_clock.current_time()
        assert shown(await following.endpoints()) == ["192.0.2.2:80"]
        passed = autojump_clock.current_time() - began
        assert passed == pytest.approx(seconds * (1 + JITTER / 2), rel=0.01)


@pytest.mark.parametrize(
    ("trouble", "result"),
    [
        pytest.param("vanished", Result.ABSENT, id="the name vanished"),
        pytest.param("emptied", Result.EMPTY, id="it has no address"),
        pytest.param("silent", Result.TIMEOUT, id="nobody answers"),
        pytest.param("refused", Result.FAILED, id="whoever is asked cannot say"),
    ],
)
async def test_looks_that_fail_are_repeated_less_and_less_often(
    tmp_path: Path, autojump_clock: MockClock, trouble: str, result: Result
) -> None:
    async with name_server() as server:
        server.knows(SHOP, "A", "192.0.2.1", ttl=5)
        following = source(server, tmp_path)
        first = await following.endpoints()
        server.records = {(SHOP, "TXT"): (5, ["x"])} if trouble == "emptied" else {}
        server.silent = trouble == "silent"
        server.refuses = {"A", "AAAA"} if trouble == "refused" else set()
        begun = []
        for _ in range(9):
            assert await failure(following) is result
            begun.append(autojump_clock.current_time())
        gaps = [later - sooner for sooner, later in pairwise(begun)]
        assert gaps == sorted(gaps)
        assert gaps[-1] == pytest.approx(LONGEST_BACK_OFF, abs=6)
        server.silent, server.refuses = False, set()
        server.knows(SHOP, "A", "192.0.2.1", ttl=5)
        assert await following.endpoints() == first


async def test_a_family_that_nobody_knows_of_just_now_stays(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with name_server() as server:
        server.knows(SHOP, "A", "192.0.2.1")
        server.knows(SHOP, "AAAA", "2001:db8::1")
        following = source(server, tmp_path)
        first = await following.endpoints()
        server.refuses = {"AAAA"}
        assert await following.endpoints() == first
        server.refuses = set()
        del server.records[SHOP, "AAAA"]
        assert shown(await following.endpoints()) == ["192.0.2.1:80"]
        assert autojump_clock is not None


async def test_no_more_questions_are_asked_at_once_than_the_bound(tmp_path: Path) -> None:
    async with name_server() as server, trio.open_nursery() as nursery:
        server.silent = True
        resolver = server.resolver(tmp_path)
        before = len(open_descriptors())
        for number in range(2 * MOST_QUESTIONS):
            nursery.start_soon(resolver.addresses, f"{number}.example.", "A")
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(open_descriptors()) - before <= MOST_QUESTIONS
        nursery.cancel_scope.cancel()


async def test_one_name_that_fails_leaves_the_others(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with name_server() as server:
        server.knows(SHOP, "A", "192.0.2.1")
        server.knows("more.example", "A", "192.0.2.2")
        following = source(server, tmp_path, f"{SHOP}.", "more.example.")
        first = await following.endpoints()
        del server.records["more.example", "A"]
        server.knows(SHOP, "A", "192.0.2.3")
        assert shown(first) == ["192.0.2.1:80", "192.0.2.2:80"]
        assert shown(await following.endpoints()) == ["192.0.2.3:80", "192.0.2.2:80"]
        assert autojump_clock is not None


async def test_search_domains_are_tried_as_the_pod_says(tmp_path: Path) -> None:
    said = "search default.svc.cluster.local svc.cluster.local\noptions ndots:5"
    async with name_server() as server:
        server.knows("reviews.default.svc.cluster.local", "A", "192.0.2.1")
        server.knows(SHOP, "A", "192.0.2.2")
        resolver = server.resolver(tmp_path, said)
        for name, address in (
            ("reviews", "192.0.2.1"),
            ("reviews.default", "192.0.2.1"),
            (SHOP, "192.0.2.2"),
        ):
            assert (await resolver.addresses(name, "A")).addresses == (address,)
        assert server.asked[f"{SHOP}.default.svc.cluster.local A"] == 1
        server.asked.clear()
        await resolver.addresses(f"{SHOP}.", "A")
        assert server.asked == {f"{SHOP} A": 1}


@pytest.mark.parametrize(
    ("name", "kind", "addresses"),
    [
        pytest.param("shop", "A", ("192.0.2.7", "192.0.2.8"), id="IPv4"),
        pytest.param("Shop.", "AAAA", ("2001:db8::7",), id="IPv6, absolute, in another case"),
        pytest.param("192.0.2.9", "A", ("192.0.2.9",), id="an address is its own"),
        pytest.param("2001:db8::9", "AAAA", ("2001:db8::9",), id="an IPv6 address, too"),
    ],
)
async def test_hosts_are_asked_of_no_server(
    tmp_path: Path, name: str, kind: str, addresses: tuple[str, ...]
) -> None:
    hosts = (
        "# those of the pod\n192.0.2.7 shop store # one\n192.0.2.8 SHOP\n192.0.2.8 shop\n"
        "2001:db8::7 shop\nnonsense shop\n\n"
    )
    async with name_server() as server:
        resolver = server.resolver(tmp_path, hosts=hosts)
        assert (await resolver.addresses(name, kind)).addresses == addresses
        with pytest.raises(NotFound, match="no AAAA"):
            await resolver.addresses("store", "AAAA")
        assert not server.asked


@pytest.mark.parametrize("said", [None, "options timeout:1\n"], ids=["absent", "nobody named"])
async def test_without_a_server_named_the_machines_own_is_asked(
    tmp_path: Path, said: str | None
) -> None:
    async with name_server() as server:
        server.knows(SHOP, "A", "192.0.2.1")
        resolver = server.resolver(tmp_path)
        (tmp_path / "resolv.conf").unlink()
        (tmp_path / "hosts").unlink()
        if said is not None:
            (tmp_path / "resolv.conf").write_text(said)
        assert (await resolver.addresses(SHOP, "A")).addresses == ("192.0.2.1",)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a" * 64, id="a label too long"),
        pytest.param("a.." + "b", id="an empty label"),
        pytest.param("xn--\xff", id="no international name"),
        pytest.param("a\\", id="an escape of nothing"),
    ],
)
async def test_a_name_that_is_none_is_no_mistake_of_ours(tmp_path: Path, name: str) -> None:
    async with name_server() as server:
        with pytest.raises(NotFound) as caught:
            await server.resolver(tmp_path).addresses(name, "A")
        assert caught.value.result is Result.FAILED
        assert not server.asked


async def test_a_resolv_conf_that_is_no_text_is_no_mistake_of_ours(tmp_path: Path) -> None:
    async with name_server() as server:
        resolver = server.resolver(tmp_path)
        (tmp_path / "resolv.conf").write_bytes(b"search \xff\n")
        with pytest.raises(NotFound) as caught:
            await resolver.addresses(SHOP, "A")
        assert caught.value.result is Result.FAILED
