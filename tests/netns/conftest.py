"""The pods that most files of tests here share, each file its own; a file overrides the fixture that it wants otherwise."""

from collections.abc import AsyncIterator, Iterator

import pytest

from fakes.mesh import Mesh, quiet_mesh, two_pods
from fakes.mutual import Mutual, known_pods, quiet
from tproxy.lab import Lab


@pytest.fixture(scope="module")
def policies() -> str:
    """A policy file that changes nothing."""
    return "{apiVersion: tproxy.io/v1alpha1, kind: ProxyConfig, spec: {}}\n"


@pytest.fixture(scope="module")
def pods(policies: str) -> Iterator[Lab]:
    """Two pods that live as long as the tests of a file."""
    with two_pods(policies) as lab:
        yield lab


@pytest.fixture
async def mesh(pods: Lab) -> AsyncIterator[Mesh]:
    """The pods, quiet; what a test starts in them is ended after it."""
    async with quiet_mesh(pods) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def known(policies: str) -> Iterator[Lab]:
    """Pods that prove to each other who they are, and one that cannot."""
    with known_pods(policies) as lab:
        yield lab


@pytest.fixture
async def mutual(known: Lab) -> AsyncIterator[Mutual]:
    """The same, quiet, and under no policies that another test has made."""
    async with quiet_mesh(known) as mesh, quiet(mesh, known) as mutual:
        yield mutual
