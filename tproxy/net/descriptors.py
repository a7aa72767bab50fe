"""Have room for every connection: each takes a descriptor on both of its sides."""

import resource

MOST = 1 << 20
"""What is asked for where there is no bound: the kernel's own default for one (fs.nr_open)."""


def take_all_descriptors() -> int:
    """Let this process open as many descriptors as it may, and say how many that is.

    What it is started with is often 1024, for the sake of select(2), which nobody here calls.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
