"""From settings to a running sidecar: one process, or a supervisor with its workers."""

import logging
import os
import resource
import signal
from functools import partial
from importlib import import_module

import trio

from tproxy.app import App, Place, Sources
from tproxy.model.limits import Limits
from tproxy.net.descriptors import take_all_descriptors
from tproxy.net.sockets import DeskSockets, WorkerSockets, open_carriers, open_desks
from tproxy.settings import Settings, User

LOG = logging.getLogger(__name__)

LOADED_WHEN_ASKED = ("tproxy.policy.account", "tproxy.policy.explain")
"""What every administration may be asked for, and is loaded then: `stores.decisions`."""


def launch(settings: Settings, sources: Sources) -> int:
    """Carry until told to stop and drained, and return the exit code.

    OSError: a port is taken or not allowed, or the user cannot be had.
    """
    if sources.identities is not None:
        _dump_nothing()
    limits = _affordable(settings.limits)
    carriers = open_carriers(
        settings.ports, transparent=settings.tproxy_inbound, workers=settings.workers
    )
    desks = open_desks(settings.ports)
    if settings.workers > 1:
        return _supervise(settings, sources, limits, desks, carriers)
    app = App(settings, sources, Place(carriers[0], desks, limits))
    become(settings.user)
    trio.run(app.run)
    return 0


def _dump_nothing() -> None:
    """Have the kernel keep no image of our memory, which holds the key.

    With 0 it would write no file, but still feed a program that `core_pattern` names (core(5)); 1 is less than any image,
    and what it takes for neither.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    most = 1 if hard else 0  # to raise it again is not for everybody
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


def _supervise(
    settings: Settings,
    sources: Sources,
    limits: Limits,
    desks: DeskSockets,
    carriers: list[WorkerSockets],
) -> int:
    # What one worker alone has no use for.
    from tproxy.siblings import Siblings  # noqa: PLC0415
    from tproxy.stores.shared_limits import SharedCounts, SharedLedger  # noqa: PLC0415
    from tproxy.supervisor import FOLLOW, Slot, Supervisor  # noqa: PLC0415

    places = dict(enumerate(carriers, 1))
    ports = {number: own.private[0].getsockname()[1] for number, own in places.items()}
    log_turn = os.memfd_create("tproxy-log-turn")
    counts = SharedCounts(len(places))
    supervisor = os.getpid()

    def work(slot: Slot) -> int:
        place = Place(
            places[slot.number],
            desks,
            limits,
            siblings=Siblings(slot.number, ports, limits),
            stop_all=partial(os.kill, supervisor, signal.SIGTERM),
            tell_policies=partial(os.kill, supervisor, FOLLOW),
            restarts=slot.restarts,
            ledger=SharedLedger(counts, sources.policies.store, slot.number - 1),
            log_turn=log_turn,
        )
        trio.run(App(settings, sources, place).run)
        return 0

    become(settings.user)
    slots = [Slot(number, tuple(own)) for number, own in places.items()]
    LOG.info("supervising %d workers", len(slots))
    return Supervisor(slots, work, sources.policies.follow).run()


def _affordable(limits: Limits) -> Limits:
    """Ask for all descriptors that this process may have, and keep to limits that those allow."""
    most = take_all_descriptors()
    affordable = limits.within(most)
    if affordable.connections < limits.connections:
        LOG.info(
            "%d descriptors (ulimit -n) are enough for %d connections, not %d",
            most,
            affordable.connections,
            limits.connections,
        )
    return affordable


def become(user: User | None) -> None:
    """Give up root for good: groups first, as only root may. PermissionError for anybody else but that user."""
    if user is None or (os.getuid(), os.getgid()) == (user.uid, user.gid):
        return
    # Later they could not be had where only root can read this installation, as in a checkout of root's own.
    for module in LOADED_WHEN_ASKED:
        import_module(module)
    try:
        os.setgroups([])
        os.setgid(user.gid)
        os.setuid(user.uid)
    except PermissionError as error:
        why = f"--user {user.uid}:{user.gid}: only root can become another user"
        raise PermissionError(error.errno, why) from error
