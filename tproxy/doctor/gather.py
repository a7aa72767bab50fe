"""Look at this machine, and change nothing."""

import ctypes
import importlib.util
import json
import os
import platform
import pwd
import resource
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tproxy.doctor.facts import CaptureFacts, EngineFacts, Facts, IdentityFacts, ProcessFacts
from tproxy.model.identity import Workload
from tproxy.model.limits import Limits
from tproxy.model.ports import Ports
from tproxy.stores.policy_loader import BadPolicies, load

UID = 1337
ANSWER_SECONDS = 2.0
STATUS_SECONDS = 20.0
"""How long the init step may take to look at the kernel's tables."""
UNSYNCHRONISED = 0x0040
"""STA_UNSYNC of <sys/timex.h>."""
TIMEX_BYTES = 256
"""More than its struct timex has."""
STATUS_AT = 40 if sys.maxsize > 1 << 32 else 20
"""Where its `status` is: behind modes, offset, freq, maxerror and esterror."""
CONTROL_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
UNBOUND = 1 << 60
"""What version 1 says where there is no bound is more than that."""
SIDECAR = "tproxy"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the sidecar of this place is started with."""

    policies: Path | None
    certificates: Path | None
    workload: Workload
    ports: Ports
    init_step: str = "tproxy-init"


def gather(asked: Asked, environment: Mapping[str, str]) -> Facts:
    """Find out all that is judged."""
    now = datetime.now(UTC)
    return Facts(
        now=now,
        root=os.geteuid() == 0,
        python=f"Python {platform.python_version()}",
        fast=importlib.util.find_spec("httptools") is not None,
        user_name=_user_name(),
        others=_others(),
        ready=_ready(asked.ports.health),
        taken=tuple(port for port in sorted(asked.ports.all()) if _listened_on(port)),
        capture=_capture(asked.init_step),
        policies=_mistakes(asked),
        identity=None if asked.certificates is None else _identity(asked.certificates, now),
        synchronised=_synchronised(),
        descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        wanted_descriptors=2 * Limits().connections,
        memory=_memory(),
        misled=tuple(
            name
            for name, value in sorted(environment.items())
            if name.startswith("TPROXY_") and value.startswith("tcp://")
        ),
        units=_units(),
    )


def _user_name() -> str:
    try:
        return pwd.getpwuid(UID).pw_name
    except KeyError:
        return ""


def _others() -> tuple[ProcessFacts, ...]:
    found = []
    for entry in Path("/proc").iterdir():
        # It may have ended since, or be nobody's business of ours.
        with suppress(OSError):
            if entry.name.isdecimal() and entry.stat().st_uid == UID:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                command = b" ".join(words).decode(errors="replace").strip()
                if not _is_sidecar(words) and command:
                    found.append(ProcessFacts(int(entry.name), command[:120]))
    return tuple(found)


def _is_sidecar(words: list[bytes]) -> bool:
    names = {word.rpartition(b"/")[2] for word in words[:3]}
    return SIDECAR.encode() in names


def _ready(port: int) -> int | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(
            f"http://127.0.0.1:{port}/healthz/ready", timeout=ANSWER_SECONDS
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError):
        return None


def _listened_on(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


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
    except (OSError, subprocess.TimeoutExpired) as error:
        return CaptureFacts(problem=f"{init_step} cannot be asked: {error}")
    except ValueError:
        return CaptureFacts(problem=done.stderr.strip() or f"{init_step} says nothing")
    engines = tuple(
        EngineFacts(each["name"], each["refusal"], each["holds"], tuple(each["differences"]))
        for each in found["engines"]
    )
    return CaptureFacts(engines, tuple(found["host"]))


def _mistakes(asked: Asked) -> tuple[str, ...] | None:
    if asked.policies is None:
        return None
    try:
        load(asked.policies, 1, asked.workload)
    except BadPolicies as bad:
        return tuple(str(finding).partition("\n")[0] for finding in bad.findings)
    return ()


def _identity(directory: Path, now: datetime) -> IdentityFacts:
    from tproxy.stores.identity_files import IdentityFiles  # noqa: PLC0415  (OpenSSL is slow to load)
    from tproxy.stores.identity_store import BadIdentity  # noqa: PLC0415

    try:
        identity = IdentityFiles(directory).load(now)
    except BadIdentity as bad:
        return IdentityFacts(problem=str(bad))
    return IdentityFacts(identity.own.spiffe_id, identity.not_before, identity.not_after)


def _synchronised() -> bool | None:
    timex = ctypes.create_string_buffer(TIMEX_BYTES)
    if ctypes.CDLL(None).adjtimex(timex) < 0:
        return None
    return not int.from_bytes(timex.raw[STATUS_AT : STATUS_AT + 4], sys.byteorder) & UNSYNCHRONISED


def _memory() -> int | None:
    for place in CONTROL_GROUPS:
        with suppress(OSError, ValueError):
            bound = int(Path(place).read_text())
            return bound if bound < UNBOUND else None
    return None


def _units() -> tuple[tuple[str, str, str], ...]:
    if not Path("/run/systemd/system").is_dir():
        return ()
    return tuple(
        (name, _systemctl("is-enabled", name), _systemctl("is-active", name))
        for name in ("tproxy", "tproxy-init")
        if Path(f"/etc/systemd/system/{name}.service").exists()
    )


def _systemctl(question: str, unit: str) -> str:
    argv = ["systemctl", question, unit]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
