"""A workload is named by what is known of it, from wherever that is known."""

import pytest

from tproxy.model.identity import UNKNOWN, Workload


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
