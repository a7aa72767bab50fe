"""Errors say what ended something, in words for logs."""

import pytest

from tproxy.model.address import Address
from tproxy.model.decision import UNPROVEN, Decision, Reason
from tproxy.model.outcome import (
    DownstreamError,
    ResponseFlag,
    codes,
    not_secured,
    refusal,
    upstream_late,
)


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        pytest.param("certificate has expired", "expired: certificate has expired", id="a cause"),
        pytest.param("", "expired", id="the reason alone"),
    ],
)
def test_a_failed_handshake_is_the_downstreams_and_says_why(cause: str, said: str) -> None:
    error = not_secured("expired", cause)
    assert (error.flag, error.details, error.cause) == (
        ResponseFlag.DOWNSTREAM_PROTOCOL,
        "tls_handshake_failed",
        said,
    )


def test_plaintext_that_is_not_taken_is_past_answering() -> None:
    """`rescue` answers for all errors but a downstream's."""
    error = refusal(UNPROVEN)
    assert isinstance(error, DownstreamError)
    assert (error.flag, error.details, error.cause) == (
        ResponseFlag.NO_ROUTE,
        "filter_chain_not_found",
        "plaintext_on_strict_port",
    )


def test_what_a_policy_denies_names_it() -> None:
    error = refusal(Decision(allowed=False, reason=Reason.NO_ALLOW_MATCH))
    assert (error.status, error.details) == (403, "rbac_access_denied_matched_policy[none]")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        pytest.param((), "-", id="nothing"),
        pytest.param(
            (ResponseFlag.DENIED, ResponseFlag.NONE), "-", id="what Envoy has no flag for"
        ),
        pytest.param((ResponseFlag.FAULT_INJECTED, ResponseFlag.DELAYED), "DI,FI", id="in order"),
        pytest.param(
            (ResponseFlag.RETRIES_EXHAUSTED, ResponseFlag.UPSTREAM_CONNECT), "UF,URX", id="Envoys"
        ),
    ],
)
def test_several_flags_are_written_in_one_order(flags: tuple[ResponseFlag, ...], said: str) -> None:
    assert codes(flags) == said


def test_an_error_that_is_raised_anew_says_all_that_it_said() -> None:
    error = upstream_late()
    error.grpc_status, error.upstream = 8, Address("192.0.2.1", 80)
    anew = error.again()
    assert (anew.flag, anew.details, anew.grpc_status, anew.upstream) == (
        ResponseFlag.UPSTREAM_TIMEOUT,
        "upstream_response_timeout",
        8,
        error.upstream,
    )
