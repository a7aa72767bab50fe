"""How an exchange or a connection ended, in the words of Envoy's access log."""

from collections.abc import Collection
from enum import Enum
from typing import Self

from tproxy.model.address import Address
from tproxy.model.decision import Decision, Reason


class ResponseFlag(Enum):
    """Why the proxy, not the upstream, answered: log code, HTTP status, gRPC status."""

    NONE = ("-", 200, 0)
    DENIED = ("-", 403, 7)
    """Refused by policy: Envoy has no flag for it, the details name the rule."""
    NO_HEALTHY_UPSTREAM = ("UH", 503, 14)
    UPSTREAM_CONNECT = ("UF", 503, 14)
    UPSTREAM_CLOSED = ("UC", 503, 14)
    UPSTREAM_RESET = ("UR", 503, 14)
    UPSTREAM_PROTOCOL = ("UPE", 502, 13)
    UPSTREAM_TIMEOUT = ("UT", 504, 4)
    OVERFLOW = ("UO", 503, 14)
    NO_ROUTE = ("NR", 404, 12)
    DELAYED = ("DI", 200, 0)
    """A delay was injected; what became of the exchange then has its own flag."""
    FAULT_INJECTED = ("FI", 503, 14)
    DOWNSTREAM_GONE = ("DC", 499, 1)
    DOWNSTREAM_RESET = ("DR", 499, 1)
    DOWNSTREAM_PROTOCOL = ("DPE", 400, 13)
    HEAD_TIMEOUT = ("-", 408, 4)
    """A request's head that took too long: Envoy has no flag for it, the details say it."""
    IDLE_TIMEOUT = ("SI", 408, 4)
    RATE_LIMITED = ("RL", 429, 8)
    RETRIES_EXHAUSTED = ("URX", 503, 14)
    """Beside another flag: all attempts were made."""

    def __init__(self, code: str, http_status: int, grpc_status: int) -> None:
        self.code = code
        self.http_status = http_status
        self.grpc_status = grpc_status


def codes(flags: Collection[ResponseFlag]) -> str:
    """Write what holds of one exchange as logs and metrics do: in a fixed order, joined by commas."""
    said = (each.code for each in ResponseFlag if each in flags and each.code != "-")
    return ",".join(said) or "-"


class ProxyError(Exception):
    """Something a peer or a policy did that ends an exchange; never our own mistake.

    `details` is what the access log's `response_code_details` says; it carries no header value and no secret.
    """

    def __init__(
        self, flag: ResponseFlag, details: str, *, status: int = 0, cause: str = ""
    ) -> None:
        super().__init__(f"{flag.code} {details}" + (f": {cause}" if cause else ""))
        self.flag = flag
        self.details = details
        self.status = status or flag.http_status
        self.cause = cause
        """The transport's own words (`Connection refused`), for the log; never sent to a peer."""
        self.grpc_status = flag.grpc_status
        self.upstream: Address | None = None
        """The endpoint that was chosen, where one was."""

    def again(self) -> Self:
        """Build the same error anew: one that was raised holds the frames that it passed through, and what they hold."""
        error = type(self)(self.flag, self.details, status=self.status, cause=self.cause)
        error.grpc_status, error.upstream = self.grpc_status, self.upstream
        return error


class DownstreamError(ProxyError):
    """The peer that dialled us broke its protocol or left."""


class UpstreamError(ProxyError):
    """The peer that we dialled could not be reached, broke its protocol or left."""


class Unprocessed(UpstreamError):
    """The peer that we dialled promises not to have looked at the request, which can safely be sent again."""


class Dropped(ProxyError):
    """What gets no answer on purpose: its connection, or its stream of HTTP/2, is reset."""


class Denied(ProxyError):
    """A policy refused the exchange or the connection."""


PLAINTEXT = DownstreamError(
    ResponseFlag.NO_ROUTE, "filter_chain_not_found", cause="plaintext_on_strict_port"
)
"""A peer that does not prove who it is where PeerAuthentication is STRICT, in Envoy's words and in ours."""


def refusal(decision: Decision) -> ProxyError:
    """Build the error for what a policy does not allow, or cannot read."""
    if decision.reason is Reason.PLAINTEXT:
        return PLAINTEXT.again()
    if decision.reason is Reason.AMBIGUOUS_PATH:
        return ProxyError(ResponseFlag.DOWNSTREAM_PROTOCOL, "path_normalization_failed", status=400)
    return Denied(ResponseFlag.DENIED, decision.details)


def not_secured(reason: str, cause: str) -> DownstreamError:
    """Build the error for a downstream whose TLS handshake failed."""
    said = f"{reason}: {cause}" if cause else reason
    return DownstreamError(ResponseFlag.DOWNSTREAM_PROTOCOL, "tls_handshake_failed", cause=said)


def downstream_gone() -> DownstreamError:
    """Build the error for a downstream whose connection ended before its exchange did."""
    return DownstreamError(ResponseFlag.DOWNSTREAM_GONE, "downstream_remote_disconnect")


def upstream_gone(*, response_begun: bool) -> UpstreamError:
    """Build the error for an upstream whose connection ended before its response did."""
    when = "after" if response_begun else "before"
    return UpstreamError(
        ResponseFlag.UPSTREAM_CLOSED,
        f"upstream_reset_{when}_response_started{{connection_termination}}",
    )


def head_timeout() -> DownstreamError:
    """Build the error for a downstream that does not finish a request's head."""
    return DownstreamError(ResponseFlag.HEAD_TIMEOUT, "request_header_timeout")


def stream_idle(*, request_whole: bool) -> ProxyError:
    """Build the error for an exchange in which nothing moves any more; who owed the next byte decides the status."""
    status = 504 if request_whole else ResponseFlag.IDLE_TIMEOUT.http_status
    return ProxyError(ResponseFlag.IDLE_TIMEOUT, "stream_idle_timeout", status=status)


def upstream_late(details: str = "upstream_response_timeout") -> UpstreamError:
    """Build the error for a response that was not whole in time."""
    return UpstreamError(ResponseFlag.UPSTREAM_TIMEOUT, details)


def overloaded() -> ProxyError:
    """Build the error for what is turned away so that the rest can be carried."""
    return ProxyError(ResponseFlag.OVERFLOW, "overload")
