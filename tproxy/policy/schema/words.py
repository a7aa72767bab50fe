"""What all parts of the format are written with."""

from typing import Annotated

import msgspec

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
"""A Kubernetes name."""


class Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What all parts of the format share: camelCase, as Kubernetes writes it, and no field beyond those named."""


class Metadata(Form, frozen=True):
    """Which object this is."""

    name: Name = "default"
    namespace: Name | None = None
    """Without one, the workload's own."""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    """`istio.io/dry-run: "true"` has an AuthorizationPolicy evaluated and never enforced."""


Values = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
"""Any of these: exact, `prefix*`, `*suffix`, or `*` for anything that is there. An empty list would mean anything at all."""


class Selector(Form, frozen=True):
    """Which workloads: those that have all of these labels."""

    match_labels: dict[str, str] = {}
    """Exact values: there are no wildcards."""


Texts = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
