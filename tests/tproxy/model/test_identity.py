"""A workload is named by what is known of it, from wherever that is known."""

import pytest

from tproxy.model.identity import UNKNOWN, Peer, Workload, read_labels


def test_what_nobody_said_is_filled_in_and_labels_are_joined() -> None:
    named = Workload(name="web", labels={"app": "shop"})
    given = Workload(name="other", namespace="prod", labels={"app": "x", "version": "v2"})
    labels = {"app": "shop", "version": "v2"}
    assert named.or_else(given) == Workload(name="web", namespace="prod", labels=labels)


@pytest.mark.parametrize(
    ("labels", "name", "revision"),
    [
        pytest.param({}, "web", "latest", id="no label"),
        pytest.param({"app": "shop", "version": "v2"}, "shop", "v2", id="app and version"),
        pytest.param(
            {
                "app": "shop",
                "version": "v2",
                "service.istio.io/canonical-name": "store",
                "service.istio.io/canonical-revision": "r3",
            },
            "store",
            "r3",
            id="canonical",
        ),
    ],
)
def test_canonical_names_come_from_the_most_telling_label(
    labels: dict[str, str], name: str, revision: str
) -> None:
    workload = Workload(name="web", labels=labels)
    assert (workload.canonical_name, workload.canonical_revision) == (name, revision)
    assert workload.app == labels.get("app", UNKNOWN)
    assert workload.version == labels.get("version", UNKNOWN)


@pytest.mark.parametrize(
    ("principal", "peer"),
    [
        pytest.param(
            "cluster.local/ns/a/sa/b", Peer("cluster.local", "a", "b"), id="Istio's shape"
        ),
        pytest.param("td/web", Peer("td", path="/web"), id="one segment"),
        pytest.param(
            "td/ns/a/dc/b/svc/c", Peer("td", path="/ns/a/dc/b/svc/c"), id="Consul's shape"
        ),
        pytest.param(
            "a_b-c.d/A.b_c-D", Peer("a_b-c.d", path="/A.b_c-D"), id="every kind of character"
        ),
        pytest.param("td/...", Peer("td", path="/..."), id="three dots are a name"),
        pytest.param(f"td/{'x' * 2036}", Peer("td", path=f"/{'x' * 2036}"), id="as long as may be"),
    ],
)
def test_a_principal_is_read_as_it_is_written(principal: str, peer: Peer) -> None:
    assert Peer.parse(principal) == peer
    assert Peer.of_uri(f"spiffe://{principal}") == peer
    assert (peer.principal, peer.spiffe_id) == (principal, f"spiffe://{principal}")


@pytest.mark.parametrize(
    "uri",
    [
        pytest.param("https://td/web", id="another scheme"),
        pytest.param("SPIFFE://td/web", id="scheme in upper case"),
        pytest.param("spiffe://td", id="a trust domain only"),
        pytest.param("spiffe://td/", id="no path"),
        pytest.param("spiffe:///web", id="no trust domain"),
        pytest.param("spiffe://TD/web", id="trust domain in upper case"),
        pytest.param("spiffe://td:443/web", id="port"),
        pytest.param("spiffe://me@td/web", id="user"),
        pytest.param("spiffe://td/a//b", id="empty segment"),
        pytest.param("spiffe://td/a/", id="ends with a slash"),
        pytest.param("spiffe://td/a/../b", id="two dots"),
        pytest.param("spiffe://td/./b", id="one dot"),
        pytest.param("spiffe://td/a?b", id="query"),
        pytest.param("spiffe://td/a#b", id="fragment"),
        pytest.param("spiffe://td/a%20b", id="escape"),
        pytest.param("spiffe://td/ä", id="not ASCII"),
        pytest.param("spiffe://td/a\n", id="line end"),
        pytest.param(f"spiffe://{'t' * 256}/a", id="trust domain of 256 bytes"),
        pytest.param(f"spiffe://td/{'x' * 2037}", id="2,049 bytes"),
    ],
)
def test_what_is_no_workloads_spiffe_id_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=r"is no principal|is no SPIFFE id") as refused:
        Peer.of_uri(uri)
    assert len(str(refused.value)) < 200


def test_labels_are_read_as_the_downward_api_writes_them() -> None:
    text = 'app="web"\napp.kubernetes.io/version="v1.2"\nempty=""\n'
    assert read_labels(text) == {"app": "web", "app.kubernetes.io/version": "v1.2", "empty": ""}


@pytest.mark.parametrize("line", ["app=web", "app", '="web"', 'app="we b"', 'app="a"b'])
def test_a_line_that_is_no_label_is_named(line: str) -> None:
    with pytest.raises(ValueError, match="line 2: "):
        read_labels(f'a="b"\n{line}\n')
