"""The shape that a pod must have to be read at all: what a manifest written by hand may lack."""

from typing import Annotated, Any

import msgspec

from tproxy.inject.findings import Manifest, Refused, Remark
from tproxy.inject.plain import plain

_Texts = dict[str, str | None] | None
"""Kubernetes takes null for an empty text."""


class _Metadata(msgspec.Struct, rename="camel"):
    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    labels: _Texts = None
    annotations: _Texts = None
    owner_references: list[dict[str, Any]] | None = None


class _Security(msgspec.Struct, rename="camel"):
    run_as_user: int | None = None
    run_as_group: int | None = None


class _Port(msgspec.Struct, rename="camel"):
    container_port: int
    name: str | None = None


class _Asks(msgspec.Struct):
    port: int | str | None = None
    host: str | None = None


class _Probe(msgspec.Struct, rename="camel"):
    http_get: _Asks | None = None
    tcp_socket: _Asks | None = None
    grpc: _Asks | None = None
    timeout_seconds: int | None = None


class _Container(msgspec.Struct, rename="camel"):
    name: str
    ports: list[_Port] | None = None
    security_context: _Security | None = None
    env: list[dict[str, Any]] | None = None
    liveness_probe: _Probe | None = None
    readiness_probe: _Probe | None = None
    startup_probe: _Probe | None = None
    lifecycle: dict[str, dict[str, Any] | None] | None = None


class _Os(msgspec.Struct):
    name: str = "linux"


class _Spec(msgspec.Struct, rename="camel"):
    containers: Annotated[list[_Container], msgspec.Meta(min_length=1)]
    init_containers: list[_Container] | None = None
    volumes: list[dict[str, Any]] | None = None
    host_network: bool | None = None
    service_account_name: str | None = None
    termination_grace_period_seconds: Annotated[int, msgspec.Meta(ge=0)] | None = None
    security_context: _Security | None = None
    os: _Os | None = None


class _Pod(msgspec.Struct):
    spec: _Spec
    metadata: _Metadata | None = None


def refuse_misshapen(pod: Manifest, path: str) -> None:
    """Raise Refused for what no Kubernetes would take either, by its place."""
    try:
        msgspec.convert(plain(pod), _Pod)
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at `$")
        raise Refused(Remark(f"{path}{place.rstrip('`')}", said)) from None
