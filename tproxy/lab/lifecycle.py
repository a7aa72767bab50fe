"""How a pod begins and ends: every step is undone by the scope that made it, in reverse order.

Whoever dies without undoing leaves a record whose supervisor is dead; the kernel has ended the pod's
processes by then (`namespaces`), and the next pod, or `remove`, takes away the rest.
"""

import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial

import trio

from tproxy.lab import network
from tproxy.lab.identity import issue_identity, renew_identity, utc_now
from tproxy.lab.namespaces import READY, Command, Stdio, start_holder
from tproxy.lab.pod import Pod, attach
from tproxy.lab.process import Process, ended
from tproxy.lab.records import Lab, ProcessId, Record, State, free_number
from tproxy.lab.sidecar import (
    check_readable,
    describe_end,
    init_command,
    sidecar_command,
    tail,
    wait_ready,
)
from tproxy.lab.spec import ROOT, LabError, PodSpec, User

READY_TIMEOUT = 20.0
REMOVE_TIMEOUT = 10.0
REAP_TIMEOUT = 5.0


@asynccontextmanager
async def open_pod(spec: PodSpec, lab: Lab | None = None) -> AsyncIterator[Pod]:
    """A pod that is up, captured and ready while the scope is open, and gone after it."""
    lab = lab or Lab.of(os.environ)
    user = spec.user or User.default(os.environ)
    _check(spec, user)
    async with AsyncExitStack() as scopes:
        record = await scopes.enter_async_context(_claimed(lab, spec, user))
        if spec.proxy:
            await scopes.enter_async_context(_identified(lab, spec))
        started: list[Process] = []
        record = await scopes.enter_async_context(_held(lab, record, started))
        pod = Pod(record, lab.directory(spec.name), user, started)
        if spec.proxy:
            await _initialise(pod, spec)
            pod = replace(pod, sidecar=await scopes.enter_async_context(_sidecar(pod, spec)))
        lab.write(replace(record, ready=True))
        yield pod


async def remove(lab: Lab, name: str) -> None:
    """End a pod and remove it, whether or not its supervisor still lives."""
    if (record := lab.find(name)) is None:
        raise LabError(f"no pod named {name} (`tproxy pod ls` shows which exist)")
    if record.state is not State.DEAD:
        await _end(attach(lab, name).record)
    await trio.to_thread.run_sync(_release, lab, record)


async def _end(record: Record) -> None:
    """Ask the pod to end, then make it."""
    assert record.holder is not None, "attach() hands out no pod without"
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal_holder(record, number)
        with trio.move_on_after(REMOVE_TIMEOUT):
            await ended(record.holder.pid)
            return


def require_root() -> None:
    """Refuse anyone else before anything is touched."""
    if os.geteuid() != 0:
        raise LabError("pods are network namespaces, which take root: use sudo")


def _check(spec: PodSpec, user: User) -> None:
    require_root()
    user.refuse_proxy()
    if spec.policies is not None:
        check_readable(spec.policies)


@asynccontextmanager
async def _claimed(lab: Lab, spec: PodSpec, user: User) -> AsyncIterator[Record]:
    """A name, an address and a wired network namespace."""
    record = await trio.to_thread.run_sync(_claim, lab, spec, user)
    try:
        yield record
    finally:
        with trio.CancelScope(shield=True):  # bounded: netlink and files, nobody to wait for
            await trio.to_thread.run_sync(_release, lab, record)


def _claim(lab: Lab, spec: PodSpec, user: User) -> Record:
    with lab.locked(), ExitStack() as undo:
        for left in lab.records():
            if left.state is State.DEAD:
                _discard(lab, left)
        record = _fresh_record(lab, spec, user)
        undo.callback(_discard, lab, record)
        lab.write(record)
        network.connect(lab.bridge_netns, record)
        lab.tell_names()
        undo.pop_all()
        return record


def _fresh_record(lab: Lab, spec: PodSpec, user: User) -> Record:
    living = lab.records()
    _refuse_taken(spec.name, living)
    return Record(
        name=spec.name,
        namespace=spec.namespace,
        number=free_number(other.number for other in living),
        netns=lab.netns(spec.name),
        supervisor=ProcessId.of(os.getpid()),
        created=time.time(),
        user=f"{user.identity.uid}:{user.identity.gid}",
        env=dict(spec.env),
        service_account=spec.service_account,
        trust_domain=spec.trust_domain,
        labels=dict(spec.labels),
        captured=spec.proxy,
    )


def _refuse_taken(name: str, living: Sequence[Record]) -> None:
    for other in living:
        if other.name == name:
            raise LabError(
                f"a pod named {name} runs already (supervisor: process {other.supervisor.pid}); "
                f"take another name, or `tproxy pod rm {name}`"
            )


def _release(lab: Lab, record: Record) -> None:
    with lab.locked():
        # The name may be another pod's by now: `remove` acts for a supervisor that is stuck.
        if lab.knows(record):
            _discard(lab, record)
            lab.tell_names()


def _discard(lab: Lab, record: Record) -> None:
    """Remove all of a pod, and the bridge with the last one; the lab is locked."""
    _signal_holder(record, signal.SIGKILL)
    network.disconnect(lab.bridge_netns, record)
    lab.forget(record)
    if not lab.records():
        network.remove_bridge(lab.bridge_netns)
        lab.forget_authorities()


def _signal_holder(record: Record, number: int) -> None:
    if record.holder is not None and record.holder.alive():
        with suppress(ProcessLookupError):  # it ended on its own in between
            os.kill(record.holder.pid, number)


@asynccontextmanager
async def _identified(lab: Lab, spec: PodSpec) -> AsyncIterator[None]:
    """The pod's identity, valid as long as the scope is open."""
    issue = partial(issue_identity, lab, spec)
    due = await trio.to_thread.run_sync(issue, utc_now())
    async with _beside(partial(renew_identity, issue, due, utc_now)):
        yield


@asynccontextmanager
async def _beside(task: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run a task as long as the block lasts; what fails in the block stays the exception that it is."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)
            yield
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from group.exceptions[0].__cause__


@asynccontextmanager
async def _held(lab: Lab, record: Record, started: Sequence[Process]) -> AsyncIterator[Record]:
    """The pod's pid 1, and with its end the end of every process in the pod."""
    child = await trio.to_thread.run_sync(_hold, lab, record)
    holder = Process(child)
    try:
        held = replace(record, holder=ProcessId.of(holder.pid))
        lab.write(held)
        yield held
    finally:
        holder.send_signal(signal.SIGKILL)
        # A pid namespace ends when its last zombie is gone, so our children come first; whoever
        # came in by `attach` and does not wait for theirs shall not keep us.
        with trio.move_on_after(REAP_TIMEOUT, shield=True):
            for process in (*started, holder):
                await process.wait()
        _close_pipes(child)


def _hold(lab: Lab, record: Record) -> subprocess.Popen[bytes]:
    holder = start_holder(record.netns_path, lab.view(record))
    assert holder.stdout is not None, "a pipe, as start_holder makes it"
    assert holder.stderr is not None, "a pipe, as start_holder makes it"
    if holder.stdout.readline() == READY:
        return holder
    with holder:
        failure = holder.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
    raise LabError(f"pod {record.name}: its namespaces could not be made: {failure}")


def _close_pipes(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


async def _initialise(pod: Pod, spec: PodSpec) -> None:
    """Run the init step; a pod whose capture failed never starts."""
    env = {**os.environ, "XTABLES_LOCKFILE": str(pod.directory / "xtables.lock")}
    with pod.init_log_path.open("wb") as log:
        stdio = Stdio(subprocess.DEVNULL, log.fileno(), log.fileno())
        init = await pod.execute(
            Command(init_command(spec), ROOT, env, stdio, new_session=True),
        )
    await init.finish()
    if init.returncode != 0:
        raise LabError(
            f"pod {pod.name}: the init step failed ({describe_end(init)})" + tail(pod.init_log_path)
        )


@asynccontextmanager
async def _sidecar(pod: Pod, spec: PodSpec) -> AsyncIterator[Process]:
    """The sidecar, ready; at the end it drains for as long as it may."""
    with pod.access_log_path.open("wb") as access, pod.sidecar_log_path.open("wb") as log:
        stdio = Stdio(subprocess.DEVNULL, access.fileno(), log.fileno())
        sidecar = await pod.execute(
            Command(sidecar_command(spec), ROOT, os.environ, stdio, new_session=True),
        )
    try:
        await _await_ready(pod, sidecar)
        yield sidecar
    finally:
        with trio.CancelScope(shield=True):  # bounded: stop() kills what does not drain
            await sidecar.stop()


async def _await_ready(pod: Pod, sidecar: Process) -> None:
    try:
        with trio.fail_after(READY_TIMEOUT):
            await wait_ready(pod.netns_path, sidecar)
    except trio.TooSlowError:
        failure = f"the sidecar was not ready after {READY_TIMEOUT:.0f} s"
    except LabError as error:
        failure = str(error)
    else:
        return
    raise LabError(f"pod {pod.name}: {failure}" + tail(pod.sidecar_log_path))
