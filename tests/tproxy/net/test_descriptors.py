"""A sidecar is not held to the few descriptors that programs are started with."""

import resource

from tproxy.net.descriptors import take_all_descriptors


def test_as_many_descriptors_may_be_open_as_are_allowed() -> None:
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, most), most))
    try:
        assert take_all_descriptors() == most
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))
