"""Look at this machine, and change nothing."""

import importlib.util
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tproxy.doctor import machine
from tproxy.doctor.checks import TRANSPARENT
from tproxy.doctor.facts import CaptureFacts, EngineFacts, Facts, IdentityFacts
from tproxy.doctor.readiness import readiness
from tproxy.model.identity import Workload
from tproxy.model.ports import Ports
from tproxy.policy.findings import Finding
from tproxy.stores.policy_loader import BadPolicies, PolicyLoader

STATUS_SECONDS = 20.0
"""How long the init step may take to look at the kernel's tables."""
PORT_VARIABLES = tuple(f"TPROXY_{each.name.upper()}_PORT" for each in fields(Ports))
"""Options that a Service's name can be mistaken for: Kubernetes sets variables after it in each container beside it."""
OF_A_SERVICE = "tcp://"
"""How Kubernetes' values of these begin."""
SHOWN_PACKAGES = ("tproxy", "trio", "cryptography", "httptools")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the sidecar of this place is started with."""

    workload: Workload
    policies: Path | None = None
    certificates: Path | None = None
    endpoints: Path | None = None
    labels_file: Path | None = None
    ports: Ports = field(default_factory=Ports)
    connections: int = 0
    tproxy_inbound: bool = False
    init_step: str = "tproxy-init"


def gather(asked: Asked, environment: Mapping[str, str]) -> Facts:
    """Find out all that is judged."""
    now = datetime.now(UTC)
    sidecar, others = machine.processes()
    sees_kernel = TRANSPARENT.issubset(machine.capabilities())
    pid = None if sidecar is None else sidecar.pid
    policies, remarks = _policies(asked)
    read = (asked.policies, asked.certificates, asked.endpoints, asked.labels_file)
    return Facts(
        now=now,
        sees_kernel=sees_kernel,
        sees_processes=machine.sees_processes(),
        versions=_versions(),
        fast=importlib.util.find_spec("httptools") is not None,
        user_name=machine.user_name(),
        others=others,
        ready=readiness(asked.ports.health),
        taken=tuple(port for port in sorted(asked.ports.all()) if machine.listened_on(port)),
        sidecar=sidecar,
        tproxy_inbound=asked.tproxy_inbound,
        capture=_capture(asked.init_step) if sees_kernel else CaptureFacts(),
        policies=policies,
        remarks=remarks,
        unreadable=machine.unreadable(filter(None, read)),
        identity=None if asked.certificates is None else _identity(asked.certificates, now),
        ipv6=machine.has_ipv6(),
        synchronised=machine.synchronised(),
        descriptors=machine.descriptors(pid),
        wanted_descriptors=2 * asked.connections,
        memory=machine.memory(pid),
        misled=tuple(
            name for name in PORT_VARIABLES if environment.get(name, "").startswith(OF_A_SERVICE)
        ),
        units=machine.units(),
    )


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in SHOWN_PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _capture(init_step: str) -> CaptureFacts:
    """Ask the init step, which is a program of its own."""
    try:
        done = subprocess.run(
            [init_step, "status"],
            capture_output=True,
            text=True,
            timeout=STATUS_SECONDS,
            check=False,
        )
        found = json.loads(done.stdout)
    except FileNotFoundError:
        return CaptureFacts(problem="tproxy-init is not installed here")
    except (OSError, subprocess.TimeoutExpired) as error:
        return CaptureFacts(problem=f"{init_step} cannot be asked: {error}")
    except ValueError:
        return CaptureFacts(problem=done.stderr.strip() or f"{init_step} says nothing")
    engines = tuple(
        EngineFacts(each["name"], each["refusal"], each["holds"], tuple(each["differences"]))
        for each in found["engines"]
    )
    return CaptureFacts(engines, tuple(found["families"]), tuple(found["host"]))


def _policies(asked: Asked) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Read them as the sidecar does: mistakes, and remarks."""
    try:
        loader = PolicyLoader(
            asked.policies,
            asked.workload,
            endpoints=asked.endpoints,
            labels_file=asked.labels_file,
        )
    except BadPolicies as bad:
        return _lines(bad.findings), ()
    remarks = _lines(loader.store.current.findings)
    return (None if asked.policies is None else ()), remarks


def _lines(findings: Sequence[Finding]) -> tuple[str, ...]:
    return tuple(str(finding).partition("\n")[0] for finding in findings)


def _identity(directory: Path, now: datetime) -> IdentityFacts:
    from tproxy.stores.identity_files import IdentityFiles  # noqa: PLC0415  (OpenSSL is slow to load)
    from tproxy.stores.identity_store import BadIdentity  # noqa: PLC0415

    told: list[str] = []
    try:
        identity = IdentityFiles(directory, tell=told.append).load(now)
    except BadIdentity as bad:
        return IdentityFacts(problem=str(bad), told=tuple(told))
    return IdentityFacts(
        identity.own.spiffe_id, identity.not_before, identity.not_after, told=tuple(told)
    )
