"""How this step ends: every exit code, and the refusals that lead to them."""

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of tproxy-init; scripts and pod events may rely on them."""

    OK = 0
    BAD_INPUT = 2
    NOTHING_CAPTURES = 3
    UNSAFE_NAMESPACE = 4
    IPV6_UNCAPTURED = 5
    VERIFY_FAILED = 6
    CLEANUP_FAILED = 7


class InitError(Exception):
    """A refusal that ends the program; its text says what, why and what to do."""

    exit_code = Exit.NOTHING_CAPTURES


class BadInput(InitError):
    """A value of the user's that cannot be meant; nothing has been touched."""

    exit_code = Exit.BAD_INPUT


class NothingCaptures(InitError):
    """No engine could load the rules; none of ours are left behind."""

    exit_code = Exit.NOTHING_CAPTURES


class UnsafeNamespace(InitError):
    """The network namespace looks like a host's own, and --force was not given."""

    exit_code = Exit.UNSAFE_NAMESPACE


class Ipv6Uncaptured(InitError):
    """IPv6 works in this pod but cannot be captured, so it would pass every policy by."""

    exit_code = Exit.IPV6_UNCAPTURED


class VerifyFailed(InitError):
    """The rules are not the plan, or a connection did not arrive where the plan sends it."""

    exit_code = Exit.VERIFY_FAILED


class CleanupFailed(InitError):
    """Some of our own rules could not be removed."""

    exit_code = Exit.CLEANUP_FAILED
