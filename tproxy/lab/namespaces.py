"""Linux namespaces: how a process of ours comes to stand inside a pod, and how none outlives it.

The rule: a thread that has entered a namespace never comes back. setns(2) and unshare(2) act on the
calling thread alone, so every entry gets a fresh thread that does one thing and ends (`in_thread`);
the socket or the child made there stays where it was made, and the rest of us never leaves home.

A pod is held by its holder: pid 1 of the pod's own pid namespace, which also owns the pod's view of
the file system. It reads a pipe whose other end only the supervisor has. When the supervisor ends,
however it ends, the read returns, the holder exits, and the kernel kills whatever still runs in the
pod (pid_namespaces(7)). This file is the holder's program as well: standard library only, so that
it starts at once in Python's isolated mode.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# <linux/sched.h> and <linux/mount.h>; the os module has these only from Python 3.12 on.
CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 0x80000

READY = b"ready\n"


@dataclass(frozen=True, slots=True)
class View:
    """What a pod sees instead of the host: its own name, and files and directories laid over the host's."""

    hostname: str
    files: Mapping[str, str] = field(default_factory=dict)
    """Where one appears, and what appears there."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The ids a process runs with."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Stdio:
    """A process's three streams, as `subprocess.Popen` takes them; None is inherited."""

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """One program, who runs it, and with what around it."""

    argv: Sequence[str]
    identity: Identity
    env: Mapping[str, str]
    stdio: Stdio = Stdio()
    new_session: bool = False
    """Out of the terminal's reach: its Ctrl-C and its hang-up go elsewhere."""
    directory: Path = Path("/")
    """Where it starts."""


def permitted(identity: Identity, flag: str, path: Path) -> bool:
    """Whether `test FLAG PATH` holds for that user: the kernel is asked, as modes know nothing of ACLs and mounts."""
    asked = subprocess.run(
        ["test", flag, path],
        user=identity.uid,
        group=identity.gid,
        extra_groups=identity.groups,
        check=False,
    )
    return asked.returncode == 0


def in_thread(step: Callable[[], T]) -> T:
    """Run `step` in a thread of its own, and end that thread with it."""
    results: list[T] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            results.append(step())
        except BaseException as failure:  # noqa: BLE001  (carried over to the caller, whole)
            failures.append(failure)

    thread = threading.Thread(target=body, name="namespace")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def enter_network(netns: Path) -> None:
    """Move the calling thread into a network namespace."""
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(descriptor, CLONE_NEWNET)
    finally:
        os.close(descriptor)


def unshare(kinds: int) -> None:
    """Give the calling thread namespaces of its own."""
    _checked(_libc().unshare(kinds), "unshare")


def socket_in(netns: Path, family: socket.AddressFamily) -> socket.socket:
    """A TCP socket that lives in another network namespace."""

    def step() -> socket.socket:
        enter_network(netns)
        return socket.socket(family, socket.SOCK_STREAM)

    return in_thread(step)


def start_holder(netns: Path, view: View) -> subprocess.Popen[bytes]:
    """Start pid 1 of a pod; it lives until our end of its stdin is closed, by us or by our death."""
    argv = [sys.executable, "-I", "-S", __file__, json.dumps(asdict(view))]

    def step() -> subprocess.Popen[bytes]:
        enter_network(netns)
        unshare(CLONE_NEWPID)
        pipe = subprocess.PIPE
        return subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, cwd="/"
        )

    return in_thread(step)


def start_inside(holder: int, command: Command) -> subprocess.Popen[bytes]:
    """Start a child of ours among the holder's namespaces."""

    def step() -> subprocess.Popen[bytes]:
        _join(holder)
        return subprocess.Popen(
            command.argv,
            cwd=command.directory,
            env=command.env,
            stdin=command.stdio.stdin,
            stdout=command.stdio.stdout,
            stderr=command.stdio.stderr,
            user=command.identity.uid,
            group=command.identity.gid,
            extra_groups=command.identity.groups,
            start_new_session=command.new_session,
        )

    return in_thread(step)


def _join(holder: int) -> None:
    """Move the calling thread to where the process `holder` is; its children are born there."""
    descriptor = os.pidfd_open(holder)
    try:
        unshare(CLONE_FS)  # a mount namespace cannot be entered with a shared root and directory
        _setns(descriptor, CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID)
    finally:
        os.close(descriptor)


def _hold(view: View) -> None:
    """Be pid 1 of a pod: make its view, say so, and wait for the supervisor's end."""
    unshare(CLONE_NEWNS | CLONE_NEWUTS)
    # Slave, not private: when another pod's namespace is unmounted on the host, no copy stays here.
    _mount("none", "/", "", MS_REC | MS_SLAVE)
    _mount("proc", "/proc", "proc", 0)
    _mount("sysfs", "/sys", "sysfs", 0)
    for target, source in view.files.items():
        if Path(target).exists():
            _mount(source, target, "", MS_BIND)
    socket.sethostname(view.hostname)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the orphans left to pid 1
    signal.signal(signal.SIGTERM, _pass_on)
    os.write(sys.stdout.fileno(), READY)
    os.read(sys.stdin.fileno(), 1)


def _pass_on(number: int, _frame: object) -> None:
    """Hand a signal on to all others in the pod; without others there is no one to stay for."""
    try:
        os.kill(-1, number)
    except ProcessLookupError:
        sys.exit()


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _setns(descriptor: int, kinds: int) -> None:
    _checked(_libc().setns(descriptor, kinds), "setns")


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    status = _libc().mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None
    )
    _checked(status, f"mount {target}")


def _checked(status: int, what: str) -> None:
    if status != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


if __name__ == "__main__":
    _hold(View(**json.loads(sys.argv[1])))
