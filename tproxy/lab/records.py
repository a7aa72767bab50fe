"""What this machine knows of its pods: one directory each, kept under one lock.

A record is true as long as its supervisor lives; a pid alone proves nothing, because pids are
used again, so the process's start time stands beside it.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

import msgspec

from tproxy.lab.namespaces import View
from tproxy.lab.spec import LabError
from tproxy.model.identity import Peer

DEFAULT_ROOT = Path("/run/tproxy/lab")
NETNS_DIR = Path("/run/netns")
IDENTITY = Path("/run/tproxy/identity")
"""Where each pod sees its own identity, whoever may enter the lab's directory; on the host nothing is in it."""
ENDPOINTS = Path("/run/tproxy/endpoints")
"""Where each captured pod sees which pods there are, whoever may enter the lab's directory; on the host it is empty."""
GATEWAY = 1
"""The bridge's own number; pods count up from the next one."""
LAST = 254
LOCALHOST = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
NO_RESOLVER = (
    "# no name server: pods know each other from /etc/hosts\noptions timeout:1 attempts:1\n"
)
IPV4_FIRST = """\
# A server that listens on IPv4 only would be found on IPv6 first, and behind a proxy there is no second try: the
# client's connection is accepted before the server's is dialled.
precedence ::ffff:0:0/96 100
"""


class State(StrEnum):
    """How far a pod is."""

    STARTING = "starting"
    RUNNING = "running"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process for certain: its pid, and when it began in clock ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """The process that has `pid` now."""
        return cls(pid, _started(pid))

    def alive(self) -> bool:
        """Whether that very process still runs."""
        with suppress(FileNotFoundError, ProcessLookupError):
            return _started(self.pid) == self.started
        return False


def _started(pid: int) -> int:
    # proc(5): field 22; the command in field 2 may hold spaces and parentheses of its own.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if fields[0] in "ZX":
        raise ProcessLookupError(f"process {pid} has ended")
    return int(fields[19])


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a pod is, from a documentation range of each family."""

    v4: str
    v6: str

    @classmethod
    def of(cls, number: int) -> Self:
        """The addresses that belong to a number on the bridge."""
        return cls(f"192.0.2.{number}", f"2001:db8:0:1::{number:x}")


@dataclass(frozen=True, slots=True)
class Record:
    """One pod as all others see it."""

    name: str
    namespace: str
    number: int
    netns: str
    supervisor: ProcessId
    created: float
    user: str
    """The applications' `UID:GID`, for whoever comes in later."""
    holder: ProcessId | None = None
    ready: bool = False
    env: dict[str, str] = field(default_factory=dict)
    service_account: str = "default"
    trust_domain: str = "cluster.local"
    labels: dict[str, str] = field(default_factory=dict)
    captured: bool = False
    """Whether a sidecar stands beside the applications."""

    @property
    def addresses(self) -> Addresses:
        """Both of the pod's addresses."""
        return Addresses.of(self.number)

    @property
    def netns_path(self) -> Path:
        """The pod's network namespace, as `ip netns` knows it."""
        return NETNS_DIR / self.netns

    @property
    def state(self) -> State:
        """How far the pod is at this moment."""
        if not self.supervisor.alive():
            return State.DEAD
        return State.RUNNING if self.ready else State.STARTING

    def pids(self) -> list[int]:
        """All processes in the pod's network, as the host numbers them."""
        with suppress(FileNotFoundError):
            inside = self.netns_path.stat()
            return sorted(
                int(net.parts[2])
                for net in Path("/proc").glob("[0-9]*/ns/net")
                if _same(net, inside)
            )
        return []

    def names(self) -> str:
        """The names that lead to the pod."""
        return f"{self.name} {self.name}.{self.namespace} {self.name}.{self.namespace}.svc.cluster.local"


def _same(net: Path, inside: os.stat_result) -> bool:
    with suppress(OSError):  # it ended while we looked
        found = net.stat()
        return (found.st_dev, found.st_ino) == (inside.st_dev, inside.st_ino)
    return False


def hosts_text(records: Iterable[Record]) -> str:
    """The /etc/hosts of every pod."""
    lines = [
        f"{address} {record.names()}\n"
        for record in sorted(records, key=lambda record: record.number)
        for address in (record.addresses.v4, record.addresses.v6)
    ]
    return LOCALHOST + "".join(lines)


TLS_MODE = "security.istio.io/tlsMode"
"""The label by which sidecars know each other."""


def endpoints_text(records: Iterable[Record]) -> str:
    """What every sidecar is told of the pods: a ServiceEntry for each. JSON is YAML, and needs no thought about quoting."""
    ordered = sorted(records, key=lambda record: record.number)
    documents = [msgspec.json.encode(_service_entry(record)) for record in ordered]
    return "---\n".join(f"{msgspec.json.format(each, indent=2).decode()}\n" for each in documents)


def _identity(record: Record) -> str:
    """As whom the pod's sidecar proves itself."""
    return Peer(record.trust_domain, record.namespace, record.service_account).spiffe_id


def _service_entry(record: Record) -> dict[str, object]:
    labels = {key: value for key, value in record.labels.items() if key != TLS_MODE}
    if record.captured:
        labels[TLS_MODE] = "istio"
    addresses = (record.addresses.v4, record.addresses.v6)
    pod = {"labels": labels, "serviceAccount": record.service_account}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": record.name, "namespace": record.namespace},
        "spec": {
            "hosts": record.names().split(),
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            # Whatever trust domain the reader thinks that service accounts are of.
            "subjectAltNames": [_identity(record)],
            "endpoints": [{"address": address, **pod} for address in addresses],
        },
    }


def free_number(taken: Iterable[int]) -> int:
    """The lowest number on the bridge that no pod has."""
    free = set(range(GATEWAY + 1, LAST + 1)) - set(taken)
    if not free:
        raise LabError(f"all {LAST - GATEWAY} addresses are taken: `tproxy pod rm` some pods")
    return min(free)


@dataclass(frozen=True, slots=True)
class Lab:
    """The pods of this machine that share one bridge, and the directory that remembers them."""

    root: Path = DEFAULT_ROOT

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """The lab that TPROXY_LAB_DIR names, else this machine's own."""
        return cls(Path(environ.get("TPROXY_LAB_DIR", DEFAULT_ROOT)).absolute())

    def inner(self, name: str) -> Self:
        """A lab beside this one, whose pods have names, addresses and a bridge of their own."""
        return type(self)(self.root / name)

    @property
    def _mark(self) -> str:
        """What keeps the namespaces of two labs apart; nothing for the usual one."""
        if self.root == DEFAULT_ROOT:
            return ""
        return hashlib.sha256(os.fsencode(self.root)).hexdigest()[:6] + "-"

    @property
    def bridge_netns(self) -> Path:
        """The namespace that holds the bridge and nothing else."""
        return NETNS_DIR / f"tproxy-{self._mark}lab"

    def netns(self, name: str) -> str:
        """What `ip netns` calls the pod `name`."""
        return f"tpx-{self._mark}{name}"

    def directory(self, name: str) -> Path:
        """Where everything about the pod `name` lies: record, hosts, identity, logs."""
        return self.root / "pods" / name

    def identity(self, name: str) -> Path:
        """Where the certificates of the pod `name` lie."""
        return self.directory(name) / "identity"

    def authority(self, trust_domain: str) -> Path:
        """Where what signs them lies, as long as there are pods."""
        return self.root / "ca" / trust_domain

    def endpoints(self, name: str) -> Path:
        """Where the sidecar of the pod `name` is told of all pods."""
        return self.directory(name) / "endpoints"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lab still; ends with the process that holds it, so a crash never blocks it."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def records(self) -> list[Record]:
        """All pods, dead ones too, by number."""
        found = [self.find(path.parent.name) for path in self.root.glob("pods/*/record.json")]
        return sorted((r for r in found if r is not None), key=lambda record: record.number)

    def find(self, name: str) -> Record | None:
        """The pod `name`, or None; a pod that leaves while we look counts as gone."""
        try:
            data = (self.directory(name) / "record.json").read_bytes()
        except FileNotFoundError:
            return None
        return msgspec.json.decode(data, type=Record)

    def knows(self, record: Record) -> bool:
        """Whether `record`'s pod is still there, not merely another of its name."""
        found = self.find(record.name)
        return found is not None and found.created == record.created

    def write(self, record: Record) -> None:
        """Remember `record`, whole or not at all."""
        directory = self.directory(record.name)
        directory.mkdir(parents=True, exist_ok=True)
        draft = directory / "record.json.draft"
        draft.touch(mode=0o600)  # the applications' environment may hold secrets
        draft.write_bytes(msgspec.json.encode(record))
        draft.replace(directory / "record.json")

    def forget(self, record: Record) -> None:
        """Remove the pod's directory; a second remover finds nothing to do."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.directory(record.name))

    def forget_authorities(self) -> None:
        """Remove what has signed for pods that are all gone."""
        shutil.rmtree(self.root / "ca", ignore_errors=True)

    def tell_names(self) -> None:
        """Tell every living pod which pods there are, and its sidecar who they are."""
        living = [record for record in self.records() if record.state is not State.DEAD]
        hosts, endpoints = hosts_text(living), endpoints_text(living)
        for record in living:
            _rewrite(self.directory(record.name) / "hosts", hosts)
            if record.captured:
                _replace(self.endpoints(record.name) / "pods.yaml", endpoints)

    def view(self, record: Record) -> View:
        """The files that the pod sees in place of the host's."""
        directory = self.directory(record.name)
        files = {"/etc/hosts": directory / "hosts"}
        for target, text in (("/etc/resolv.conf", NO_RESOLVER), ("/etc/gai.conf", IPV4_FIRST)):
            files[target] = directory / Path(target).name
            files[target].write_text(text)
        if self.identity(record.name).exists():
            _make_way(IDENTITY)
            files[str(IDENTITY)] = self.identity(record.name)
        if record.captured:
            _make_way(ENDPOINTS)
            files[str(ENDPOINTS)] = self.endpoints(record.name)
        return View(record.name, {target: str(file) for target, file in files.items()})


def _make_way(directory: Path) -> None:
    """Make a directory that every user can enter, whatever the umask."""
    for place in (directory.parent, directory):
        with suppress(FileExistsError):
            place.mkdir()
            place.chmod(0o755)


def _replace(path: Path, text: str) -> None:
    """Put a whole new file in the place of one that somebody may be reading."""
    _make_way(path.parent)
    draft = path.parent.with_suffix(".draft")
    draft.write_text(text)
    draft.chmod(0o644)
    draft.replace(path)


def _rewrite(path: Path, text: str) -> None:
    # In place, never a new file: running pods have this very inode mounted over /etc/hosts.
    with path.open("r+b" if path.exists() else "w+b", buffering=0) as file:
        file.write(text.encode())
        file.truncate()
