"""What can be seen of this machine: its processes, ports, bounds, clock and units."""

import ctypes
import os
import pwd
import resource
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from errno import EADDRINUSE
from pathlib import Path

from tproxy.doctor.facts import ProcessFacts, SidecarFacts
from tproxy.model.ports import PROXY_UID

UNSYNCHRONISED = 0x0040
"""STA_UNSYNC of <sys/timex.h>."""
TIMEX_BYTES = 256
"""More than its struct timex has."""
STATUS_AT = 40 if sys.maxsize > 1 << 32 else 20
"""Where its `status` is: behind modes, offset, freq, maxerror and esterror."""
UNBOUND = 1 << 60
"""What version 1 of control groups says where there is no bound is more than that."""
MOST_SHOWN = 120
"""Characters of a command line."""
SIDECAR = b"tproxy"
CAPABILITIES = {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW"}
"""Those of <linux/capability.h> that the capture is about; others go by their numbers."""
GLOBAL_SCOPE = "00"
"""Of an address that leads here from elsewhere, in if_inet6."""


def user_name() -> str:
    """Say who has the proxy's uid, in this machine's list of users."""
    try:
        return pwd.getpwuid(PROXY_UID).pw_name
    except KeyError:
        return ""


def processes() -> tuple[SidecarFacts | None, tuple[ProcessFacts, ...]]:
    """Find the sidecar of this network namespace, and what else runs there as its user."""
    sidecar, others = None, []
    for pid, words in _as_proxy():
        if not _is_ours(words):
            command = b" ".join(words).decode(errors="replace").strip()
            others.append(ProcessFacts(pid, command[:MOST_SHOWN]))
        elif b"run" in words and sidecar is None:
            sidecar = SidecarFacts(pid, capabilities(pid))
    return sidecar, tuple(others)


def _as_proxy() -> Iterator[tuple[int, list[bytes]]]:
    here = _network("self")
    for entry in sorted(Path("/proc").glob("[0-9]*"), key=lambda each: int(each.name)):
        # It may have ended since, or be nobody's business of ours.
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if entry.stat().st_uid == PROXY_UID and any(words) and _network(entry.name) == here:
                yield int(entry.name), words


def _network(process: str) -> str:
    """Tell network namespaces apart."""
    return os.readlink(f"/proc/{process}/ns/net")


def sees_processes() -> bool:
    """Say whether who asks may know of the proxy's user's processes where they are."""
    return os.geteuid() in (0, PROXY_UID)


def _is_ours(words: list[bytes]) -> bool:
    return SIDECAR in {word.rpartition(b"/")[2] for word in words[:4]}


def capabilities(pid: int | str = "self") -> tuple[str, ...]:
    """Say what a process may; nothing where that is not told."""
    mask = int(_status(pid).get("CapEff", "0"), 16)
    held = (at for at in range(mask.bit_length()) if mask >> at & 1)
    return tuple(CAPABILITIES.get(at, f"capability {at}") for at in held)


def _status(pid: int | str) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def unreadable(places: Iterable[Path]) -> tuple[str, ...]:
    """Name what of some files and directories the proxy's user cannot read; root alone can find out."""
    if os.geteuid() != 0:
        return ()
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(PROXY_UID)
    os.seteuid(PROXY_UID)
    try:
        return tuple(refusal for place in places if (refusal := _refusal(place)))
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _refusal(place: Path) -> str:
    """Try, and say of what it is not allowed; what is not there is said elsewhere."""
    try:
        for path in place.iterdir() if place.is_dir() else (place,):
            if path.is_file():
                path.open("rb").close()
    except PermissionError as error:
        return str(error.filename)
    except OSError:
        return ""
    return ""


def listened_on(port: int) -> bool:
    """Say whether somebody listens on a port, at any address."""
    for family, everywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 - nobody is let in
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((everywhere, port))
        except OSError as error:
            if error.errno == EADDRINUSE:
                return True
    return False


def has_ipv6() -> bool:
    """Say whether an address of IPv6 leads here from elsewhere."""
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        return False
    return any(line.split()[3] == GLOBAL_SCOPE for line in lines)


def synchronised() -> bool | None:
    """Say whether something keeps the clock right; None where the kernel does not tell."""
    timex = ctypes.create_string_buffer(TIMEX_BYTES)
    if ctypes.CDLL(None).adjtimex(timex) < 0:
        return None
    return not int.from_bytes(timex.raw[STATUS_AT : STATUS_AT + 4], sys.byteorder) & UNSYNCHRONISED


def descriptors(pid: int | None) -> int:
    """Say how many a process may ask for, this one where there is none."""
    try:
        lines = Path(f"/proc/{pid or 'self'}/limits").read_text().splitlines()
        bound = next(line for line in lines if line.startswith("Max open files")).split()[4]
        return int(bound)
    except (OSError, StopIteration, ValueError):
        return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def memory(pid: int | None) -> int | None:
    """Say how many bytes a process's control group may have; None where there is no bound."""
    bounds = []
    for place in _memory_files(pid or "self"):
        with suppress(OSError, ValueError):
            bounds.append(int(place.read_text()))
    least = min(bounds, default=UNBOUND)
    return least if least < UNBOUND else None


def _memory_files(pid: int | str) -> Iterator[Path]:
    """Go up from the group of a process: those above it bind it too."""
    root = Path("/sys/fs/cgroup")
    yield root / "memory.max"
    yield root / "memory/memory.limit_in_bytes"
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        group = Path(path.lstrip("/"))
        for each in (group, *group.parents):
            if not controllers:
                yield root / each / "memory.max"
            elif "memory" in controllers.split(","):
                yield root / "memory" / each / "memory.limit_in_bytes"


def units() -> tuple[tuple[str, str, str], ...]:
    """Say of systemd's units of ours whether they are enabled and active."""
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
