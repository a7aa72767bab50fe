"""Have room for every connection: each takes a descriptor on both of its sides."""

import resource


def take_all_descriptors() -> None:
    """Let this process open as many descriptors as it may: what it is started with is often 1024, for select(2)'s sake."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
