"""A host's port that leads into a pod, the way that strangers come: through the pod's own link.

The connection is made from the bridge's namespace, so that it arrives at the pod from outside and is
captured like any other; one made inside the pod would pass as the pod's own.
"""

import socket
from contextlib import aclosing
from functools import partial
from pathlib import Path

import trio

from tproxy.lab.namespaces import socket_in
from tproxy.lab.records import Record
from tproxy.lab.spec import LabError, Publish

MAX_CONNECTIONS = 512
CHUNK = 65536
CONNECT_TIMEOUT = 10.0


async def serve(
    publish: Publish,
    record: Record,
    bridge: Path,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Forward connections until cancelled; reports the port that it listens on once it does."""
    try:
        listeners = await trio.open_tcp_listeners(publish.port, host=publish.host)
    except OSError as error:
        raise LabError(
            f"--publish: cannot listen on {publish.host}:{publish.port}: {error}"
        ) from error
    room = trio.Semaphore(MAX_CONNECTIONS)
    task_status.started(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(partial(_forward, publish, record, bridge, room), listeners)


async def _forward(
    publish: Publish, record: Record, bridge: Path, room: trio.Semaphore, caller: trio.SocketStream
) -> None:
    async with room, aclosing(caller):
        try:
            pod = await _dial(publish, record, bridge)
        except (OSError, trio.TooSlowError):
            return  # closing the caller is the answer: there is nobody behind this port
        async with aclosing(pod), trio.open_nursery() as nursery:
            nursery.start_soon(_copy, caller, pod)
            nursery.start_soon(_copy, pod, caller)


async def _dial(publish: Publish, record: Record, bridge: Path) -> trio.SocketStream:
    family, address = socket.AF_INET, record.addresses.v4
    if ":" in publish.host:
        family, address = socket.AF_INET6, record.addresses.v6
    inside = trio.socket.from_stdlib_socket(socket_in(bridge, family))
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            await inside.connect((address, publish.pod_port))
    except BaseException:
        inside.close()
        raise
    return trio.SocketStream(inside)


async def _copy(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    """Copy one direction; its end is passed on, and the other direction goes on without it."""
    try:
        async for part in source:
            await sink.send_all(part)
        await sink.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        await trio.aclose_forcefully(source)
        await trio.aclose_forcefully(sink)
