"""Names of services: sound ones, short ones, and patterns."""

import pytest

from tproxy.policy.hosts import (
    asked_for,
    by_pattern,
    covers,
    is_host,
    is_identity,
    namespace_of,
    qualified,
)


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        pytest.param("a", True, id="one label"),
        pytest.param("A-b_c.example", True, id="several"),
        pytest.param("*", True, id="everything"),
        pytest.param("*.example", True, id="a pattern"),
        pytest.param("*a.example", False, id="a part of a label"),
        pytest.param("a.*.example", False, id="a star within"),
        pytest.param("a..b", False, id="an empty label"),
        pytest.param("a.", False, id="the root's dot"),
        pytest.param("a:80", False, id="a port"),
        pytest.param("-a", False, id="a dash first"),
        pytest.param(".".join(["a" * 60] * 5), False, id="too long"),
        pytest.param("", False, id="nothing"),
    ],
)
def test_a_host_is_a_name_or_a_pattern(text: str, sound: bool) -> None:
    assert is_host(text) is sound


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        pytest.param("spiffe://td/ns/a/sa/b", True, id="a service account"),
        pytest.param("spiffe://td/web", True, id="another workload"),
        pytest.param("spiffe://td", False, id="a trust domain"),
        pytest.param("a.example", False, id="a DNS name"),
    ],
)
def test_an_identity_is_a_workloads_spiffe_id(text: str, sound: bool) -> None:
    assert is_identity(text) is sound


def test_a_short_name_is_of_a_namespace() -> None:
    assert qualified("Store", "db") == "store.db.svc.cluster.local"
    assert qualified("*", "db") == "*"
    assert asked_for(b"store:80", "db") == "store.db.svc.cluster.local"
    assert asked_for(b"store", "unknown") == "store"
    assert asked_for(b"\xff", "db") == "\ufffd"


@pytest.mark.parametrize(
    ("host", "namespace"),
    [
        pytest.param("store.db.svc.cluster.local", "db", id="a service"),
        pytest.param("a.store.db.svc.cluster.local", "", id="an instance of one"),
        pytest.param("store.db", "", id="anything else"),
    ],
)
def test_a_services_name_says_its_namespace(host: str, namespace: str) -> None:
    assert namespace_of(host) == namespace


@pytest.mark.parametrize(
    ("pattern", "host", "about"),
    [
        pytest.param("a.b", "a.b", True, id="itself"),
        pytest.param("*", "a.b", True, id="everything"),
        pytest.param("*.b", "a.b", True, id="what is below"),
        pytest.param("*.b", "*.a.b", True, id="a narrower pattern"),
        pytest.param("*.a.b", "*.b", False, id="a wider one"),
        pytest.param("*.b", "b", False, id="what it is below"),
        pytest.param("b", "a.b", False, id="a name is no pattern"),
    ],
)
def test_a_pattern_is_about_all_below_it(pattern: str, host: str, about: bool) -> None:
    assert covers(pattern, host) is about


def test_things_are_found_under_all_that_is_about_one_of_their_names() -> None:
    hosts = ("a.b", "*.a.b", "*.b", "b", "*", "c.a.b", "x")
    found = by_pattern(([host, f"{host}.z"], host) for host in hosts)
    for pattern in (*hosts, "*.c.a.b", "*.x", "*.z", "*.b.z", "q"):
        about = [each for each in hosts if covers(pattern, each) or covers(pattern, f"{each}.z")]
        assert list(found.get(pattern, ())) == about
