"""What a machine is like, as far as the sidecar depends on it: facts, gathered elsewhere and judged elsewhere."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """One of the init step's ways into the kernel."""

    name: str
    refusal: str | None
    """Why it would not serve; None where it would."""
    holds: bool
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CaptureFacts:
    """What the init step says of this kernel."""

    engines: tuple[EngineFacts, ...] = ()
    """Those that would be tried, in their order."""
    families: tuple[int, ...] = ()
    """Which of IPv4 and IPv6 would be captured."""
    host: tuple[str, ...] = ()
    """What makes this network namespace look like a node's own."""
    problem: str = ""
    """Why it could not be asked."""


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """A process."""

    pid: int
    command: str


@dataclass(frozen=True, slots=True)
class SidecarFacts:
    """The sidecar's own process, which may be bound otherwise than who asks."""

    pid: int
    capabilities: tuple[str, ...] = ()
    """Those that it has, as `CAP_NET_ADMIN`."""


@dataclass(frozen=True, slots=True)
class IdentityFacts:
    """What the certificates' directory holds."""

    spiffe_id: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    problem: str = ""
    """Why it proves nobody."""
    told: tuple[str, ...] = ()
    """What hardly is as it should be."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is judged. None where it was not asked for, or cannot be found out."""

    now: datetime
    sees_kernel: bool = True
    """Whether who asks may read the kernel's tables."""
    sees_processes: bool = True
    """Whether who asks may know what runs as the proxy's user."""
    versions: str = ""
    """Of Python and of what does the sidecar's work."""
    fast: bool = True
    """Whether httptools is installed."""
    user_name: str = ""
    """Who has the proxy's uid, in this machine's list of users."""
    others: tuple[ProcessFacts, ...] = ()
    """What else than the sidecar runs as the proxy's uid."""
    ready: int | None = None
    """The status that the sidecar's readiness answered with; None where nobody answers."""
    taken: tuple[int, ...] = ()
    """The sidecar's ports on which somebody listens."""
    sidecar: SidecarFacts | None = None
    """None where none runs, or none that can be seen."""
    tproxy_inbound: bool = False
    """Whether it is told to take over inbound connections by TPROXY."""
    capture: CaptureFacts = field(default_factory=CaptureFacts)
    policies: tuple[str, ...] | None = None
    """The mistakes in them; None without a directory."""
    remarks: tuple[str, ...] = ()
    """What else is to be said about them."""
    unreadable: tuple[str, ...] = ()
    """Of policies, certificates and labels, what the proxy's user may not read."""
    identity: IdentityFacts | None = None
    ipv6: bool = False
    """Whether an address of IPv6 leads here from elsewhere."""
    synchronised: bool | None = None
    """Whether the clock is."""
    descriptors: int = 0
    wanted_descriptors: int = 0
    memory: int | None = None
    """Bytes that this control group may have."""
    misled: tuple[str, ...] = ()
    """Environment variables that Kubernetes has set in the place of options."""
    units: tuple[tuple[str, str, str], ...] = ()
    """systemd's units of ours: name, whether enabled, whether active."""
