"""How an application says that it is well: what a kubelet would ask, and the sidecar asks in its place."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
PATH = re.compile(r"/app-health/[^/?#\s]+/(?:livez|readyz|startupz)")
"""Where a kubelet asks: one path for each container and each of its probes."""


FieldName = Annotated[str, msgspec.Meta(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")]
"""A token of RFC 9110, 5.6.2."""
Text = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*\Z")]
"""What can stand in a line of a request's head."""


class HttpHeader(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True
):
    """A field of the request."""

    name: FieldName
    value: Text


class HttpGet(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True
):
    """Well is whoever answers with 200 to 399."""

    port: Port
    path: Text = "/"
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    http_headers: tuple[HttpHeader, ...] = ()


class TcpSocket(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True
):
    """Well is whoever listens."""

    port: Port


class Grpc(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Well is whoever answers SERVING to grpc.health.v1.Health/Check."""

    port: Port
    service: str | None = None


class AppProbe(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True
):
    """One probe, in Kubernetes' words."""

    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    grpc: Grpc | None = None
    timeout_seconds: Annotated[int, msgspec.Meta(ge=1)] = 1

    @property
    def asks(self) -> HttpGet | TcpSocket | Grpc:
        """What is asked, whichever of the three it is."""
        asked = self.http_get or self.tcp_socket or self.grpc
        assert asked is not None, "a probe that asks nothing is not read"
        return asked


def read_probes(text: str) -> Mapping[str, AppProbe]:
    """Read the probes of a pod's containers, by the path of each; ValueError for what cannot be meant."""
    try:
        probes = msgspec.json.decode(text, type=dict[str, AppProbe])
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    for path, probe in probes.items():
        if not PATH.fullmatch(path):
            raise ValueError(f"{path!r} is not /app-health/CONTAINER/livez, readyz or startupz")
        if sum(each is not None for each in (probe.http_get, probe.tcp_socket, probe.grpc)) != 1:
            raise ValueError(f"{path}: write one of httpGet, tcpSocket and grpc")
    return probes
