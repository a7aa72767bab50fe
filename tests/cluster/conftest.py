"""A cluster that the tests here share, one after another."""

from collections.abc import Iterator

import pytest

from fakes.cluster import CannotRunClusterError, Cluster, cluster


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of one node, which has both images."""
    try:
        with cluster(tmp_path_factory.mktemp("cluster")) as made:
            yield made
    except CannotRunClusterError as why:
        pytest.exit(f"this machine cannot run a cluster: {why}", returncode=3)
