"""The form of `VirtualService`: which way requests and connections go, and what becomes of them on the way."""

from enum import StrEnum
from typing import Annotated

import msgspec

from tproxy.policy.schema.destinations import ExportTo, PortSelector
from tproxy.policy.schema.words import Form, Metadata, Name, Port, Texts


class GatewayName(StrEnum):
    """Whom a route is for."""

    MESH = "mesh"
    """Sidecars."""


Gateways = Annotated[tuple[GatewayName, ...], msgspec.Meta(min_length=1)]
Percentage = Annotated[float, msgspec.Meta(ge=0, le=100)]
Weight = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class StringMatch(Form, frozen=True):
    """One of three ways to compare a text; for a header or a query parameter `{}` asks only that it is there."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None
    """An RE2 expression about the whole text."""


class HttpMatch(Form, frozen=True):
    """A request. Several fields are all meant."""

    name: Name | None = None
    """It changes nothing: for whoever reads the file."""
    uri: StringMatch | None = None
    """The path without its query."""
    ignore_uri_case: bool = False
    """For `exact` and `prefix` of `uri`."""
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    """In lower case, with its port or without."""
    headers: dict[str, StringMatch] = {}
    """All of these; a header that is there several times is joined by `, `."""
    without_headers: dict[str, StringMatch] = {}
    """None of these: one that is absent, or that does not match."""
    query_params: dict[str, StringMatch] = {}
    """All of these; of a parameter that is there several times, the first."""
    port: Port | None = None
    """The service's."""
    source_labels: dict[str, str] = {}
    """The workload's own labels, by which it is told whether the match is for it."""
    source_namespace: Name | None = None
    """The workload's own namespace."""
    gateways: Gateways | None = None


class Destination(Form, frozen=True):
    """A service, or a part of it."""

    host: str
    """One without a dot is a service of the VirtualService's own namespace."""
    subset: Name | None = None
    """One that a DestinationRule about the host defines."""
    port: PortSelector | None = None
    """Without it, the service's only one, else the port that is dialled."""


class HeaderOperations(Form, frozen=True):
    """What becomes of headers: removed first, then set, then added."""

    set: dict[str, str] = {}
    add: dict[str, str] = {}
    remove: tuple[str, ...] = ()


class HeaderEdits(Form, frozen=True):
    """Which messages' headers."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None


class WeightedDestination(Form, frozen=True):
    """A share of the requests."""

    destination: Destination
    weight: Weight | None = None
    """Relative to the others'; without it 0 beside others, and all alone."""
    headers: HeaderEdits | None = None
    """Done before those of the whole route."""


class HttpRedirect(Form, frozen=True):
    """Where a request is sent in place of being carried; what is left out stays as it was asked."""

    uri: str | None = None
    """The path; `%PREFIX()%/new` puts `/new` in place of the prefix that was matched."""
    authority: str | None = None
    port: Port | None = None
    scheme: Annotated[str, msgspec.Meta(pattern="^https?$")] | None = None
    redirect_code: Annotated[int, msgspec.Meta(ge=301, le=308)] = 301
    """301, 302, 303, 307 or 308."""


class HttpBody(Form, frozen=True):
    """Content, in one of two forms."""

    string: str | None = None
    bytes: str | None = None
    """In base64."""


class HttpDirectResponse(Form, frozen=True):
    """An answer in place of the upstream's."""

    status: Annotated[int, msgspec.Meta(ge=200, le=599)]
    body: HttpBody | None = None


class RegexRewrite(Form, frozen=True):
    """Each match of an expression in the path is replaced."""

    match: str
    """An RE2 expression."""
    rewrite: str
    """With `\\1` for the first group."""


class HttpRewrite(Form, frozen=True):
    """What a request's path and authority are replaced by."""

    uri: str | None = None
    """In place of the prefix that was matched, or of the whole path for `exact` and `regex`."""
    authority: str | None = None
    uri_regex_rewrite: RegexRewrite | None = None


class HttpRetry(Form, frozen=True):
    """How often a request is sent again, and when."""

    attempts: Annotated[int, msgspec.Meta(ge=0, le=100)]
    """Beyond the first; 0 disables."""
    per_try_timeout: str | None = None
    """A duration; without it, only the route's timeout bounds a try."""
    retry_on: str | None = None
    """Envoy's words and statuses, separated by commas; without it, what no upstream has seen."""
    backoff: str | None = None
    """The base of the pauses, a duration: `25ms` unless it is named; they grow to ten times as much."""
    retry_ignore_previous_hosts: bool | None = None
    """As it is done anyway: a retry goes to another endpoint where there is one."""


class Percent(Form, frozen=True):
    """A share of the requests."""

    value: Percentage = 0.0
    """0 to 100; `0.1` is one of a thousand."""


class FaultDelay(Form, frozen=True):
    """Requests that are held back."""

    fixed_delay: str
    """A duration."""
    percentage: Percent | None = None
    """Without it, none."""


class FaultAbort(Form, frozen=True):
    """Requests that fail, by one of the statuses."""

    http_status: Annotated[int, msgspec.Meta(ge=200, le=599)] | None = None
    grpc_status: str | None = None
    """A name (`UNAVAILABLE`) or its number."""
    percentage: Percent | None = None
    """Without it, none."""


class HttpFault(Form, frozen=True):
    """What goes wrong on purpose. A route with faults has no timeout and no retries, as in Istio."""

    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


class HttpMirror(Form, frozen=True):
    """Whom copies are sent to; nobody waits for the answers."""

    destination: Destination
    percentage: Percent | None = None
    """Without it, all."""


class HttpRoute(Form, frozen=True):
    """An entry: what becomes of the requests that one of its matches means and no entry before it took."""

    name: Name | None = None
    """As logs name it."""
    match: Annotated[tuple[HttpMatch, ...], msgspec.Meta(min_length=1)] | None = None
    """Any of these; without it, every request."""
    route: Annotated[tuple[WeightedDestination, ...], msgspec.Meta(min_length=1)] | None = None
    redirect: HttpRedirect | None = None
    direct_response: HttpDirectResponse | None = None
    rewrite: HttpRewrite | None = None
    timeout: str | None = None
    """A duration for the whole, retries included; without it, or with `0s`, none."""
    retries: HttpRetry | None = None
    fault: HttpFault | None = None
    mirror: Destination | None = None
    mirror_percentage: Percent | None = None
    """Without it, all."""
    mirrors: tuple[HttpMirror, ...] = ()
    headers: HeaderEdits | None = None


class TcpMatch(Form, frozen=True):
    """A connection. Several fields are all meant."""

    destination_subnets: Texts | None = None
    """Addresses or networks that are dialled: any of these."""
    port: Port | None = None
    """The service's."""
    source_labels: dict[str, str] = {}
    source_namespace: Name | None = None
    gateways: Gateways | None = None


class TlsMatch(Form, frozen=True):
    """A connection in TLS of the application's. Several fields are all meant."""

    sni_hosts: Texts
    """The name that is asked for: any of these, names or `*.suffix`."""
    destination_subnets: Texts | None = None
    port: Port | None = None
    source_labels: dict[str, str] = {}
    source_namespace: Name | None = None
    gateways: Gateways | None = None


class WeightedRoute(Form, frozen=True):
    """A share of the connections."""

    destination: Destination
    weight: Weight | None = None


class TcpRoute(Form, frozen=True):
    """An entry for connections that are no HTTP, by the service whose address is dialled."""

    route: Annotated[tuple[WeightedRoute, ...], msgspec.Meta(min_length=1)]
    match: Annotated[tuple[TcpMatch, ...], msgspec.Meta(min_length=1)] | None = None


class TlsRoute(Form, frozen=True):
    """An entry for connections in TLS of the application's, by the name that is asked for."""

    match: Annotated[tuple[TlsMatch, ...], msgspec.Meta(min_length=1)]
    route: Annotated[tuple[WeightedRoute, ...], msgspec.Meta(min_length=1)]


class VirtualServiceSpec(Form, frozen=True):
    """Which way goes what is meant for hosts; of each kind of entries, the first that matches decides."""

    hosts: Texts
    """Names or `*.suffix`; one without a dot is a service of the VirtualService's own namespace."""
    gateways: Gateways = (GatewayName.MESH,)
    export_to: Annotated[tuple[ExportTo, ...], msgspec.Meta(min_length=1)] = (ExportTo.EVERYBODY,)
    """Who may use it, one word."""
    http: tuple[HttpRoute, ...] = ()
    tls: tuple[TlsRoute, ...] = ()
    tcp: tuple[TcpRoute, ...] = ()


class VirtualService(Form, frozen=True, tag_field="kind", tag="VirtualService"):
    """Istio's `networking.istio.io/v1`, as far as it is about sidecars."""

    api_version: str
    spec: VirtualServiceSpec
    metadata: Metadata
