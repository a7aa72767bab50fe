"""What injection says of a manifest: why it refuses, and what it wants known."""

from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
"""A Kubernetes object, or a part of one, as YAML and JSON hold it."""


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing to say about one place."""

    path: str
    """As `$.spec.template.spec.hostNetwork`."""
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


class Refused(Exception):
    """A pod that may not be injected as it is."""

    def __init__(self, *remarks: Remark) -> None:
        super().__init__("; ".join(map(str, remarks)))
        self.remarks = remarks
