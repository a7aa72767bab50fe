"""Errors say what ended something, in words for logs."""

import pytest

from tproxy.model.decision import UNPROVEN, Decision, Reason
from tproxy.model.outcome import DownstreamError, ResponseFlag, not_secured, refusal


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
