"""The pods that most files of tests here share; a file overrides the fixture that it wants otherwise."""

from collections.abc import AsyncIterator, Iterator

import pytest

from fakes.mesh import Mesh, quiet_mesh, two_pods
from fakes.mutual import Mutual, known_pods, quiet
from tproxy.lab import Lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put last what is timed: the tests in memory, which run beside these, are done by then."""
    items.sort(key=lambda item: item.get_closest_marker("timed") is not None)


@pytest.fixture(scope="session")
def policies() -> str:
    """A policy file that changes nothing."""
    return "{apiVersion: tproxy.io/v1alpha1, kind: ProxyConfig, spec: {}}\n"


@pytest.fixture(scope="session")
def pods(policies: str) -> Iterator[Lab]:
    """Two pods that know nothing of each other; several files share them."""
    with two_pods(policies) as lab:
        yield lab


@pytest.fixture
async def mesh(pods: Lab) -> AsyncIterator[Mesh]:
    """The pods, quiet; what a test starts in them is ended after it."""
    async with quiet_mesh(pods) as mesh:
        yield mesh


@pytest.fixture(scope="session")
def known() -> Iterator[Lab]:
    """Pods that prove to each other who they are, and one that cannot; several files share them."""
    with known_pods() as lab:
        yield lab


@pytest.fixture
async def mutual(known: Lab) -> AsyncIterator[Mutual]:
    """The same, quiet, and under no policies that another test has made."""
    async with quiet_mesh(known) as mesh, quiet(mesh, known) as mutual:
        yield mutual
