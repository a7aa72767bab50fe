"""Everything that is fixed for the life of the process: what `tproxy run`'s options and `TPROXY_*` say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tproxy.codec.h1_h11 import H11
from tproxy.codec.h1_parser import HeadParser
from tproxy.codec.h2_engine import Engine
from tproxy.codec.h2_own import OwnEngine
from tproxy.model.app_probe import AppProbe
from tproxy.model.identity import Workload
from tproxy.model.limits import Limits
from tproxy.model.ports import Ports

VERSION = "0.1.0"
"""As in pyproject.toml: `importlib.metadata` finds it there, but brings what reads archives and e-mails."""


@dataclass(frozen=True, slots=True)
class User:
    """Whom the process becomes once its listeners are open."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Settings:
    """The process's own configuration; policies are not part of it, they change while it runs."""

    ports: Ports = field(default_factory=Ports)
    policies: Path | None = None
    """The directory of policy files; without one, everything is carried and nothing is declared."""
    certificates: Path | None = None
    """The directory of the workload's identity; without one, it proves none."""
    endpoints: Path | None = None
    """The directory of files that name addresses, and that something else than people writes."""
    workload: Workload = field(default_factory=Workload)
    labels_file: Path | None = None
    """Of more labels of the workload, which may change; those that it has here already win."""
    app_probes: Mapping[str, AppProbe] = field(default_factory=dict)
    """How a kubelet learns of the application's health from us, by the paths at which it asks."""
    user: User | None = None
    workers: int = 1
    """Processes that share the listeners' ports; a supervisor starts them, and again when one crashes."""
    tproxy_inbound: bool = False
    """The capture uses TPROXY for inbound connections: the original destination is the socket's own address."""
    parser: HeadParser = H11
    """What reads HTTP/1."""
    engine: type[Engine] = OwnEngine
    """What keeps HTTP/2's account."""
    limits: Limits = field(default_factory=Limits)
    version: str = VERSION
