"""Workers are kept running, told what the supervisor is told, and never outlive it."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tproxy.supervisor import FIRST_PAUSE, FOLLOW, LONGEST_PAUSE, STEADY_SECONDS, pause_after

pytestmark = pytest.mark.slow

PROGRAM = """
import json, os, signal, socket, sys
from tproxy.supervisor import Slot, Supervisor

def tell(**facts):
    os.write(1, json.dumps(facts).encode() + b"\\n")

def work(slot):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(int(sys.argv[1])))
    signal.signal(signal.SIGHUP, lambda *_: tell(told=slot.number))
    listening, = slot.sockets
    tell(slot=slot.number, pid=os.getpid(), restarts=slot.restarts, port=listening.getsockname()[1])
    if sys.argv[2:] == ["raise"] and not slot.restarts:
        raise ValueError("a mistake")
    while True:
        accepted, _ = listening.accept()
        accepted.sendall(b"%d" % os.getpid())
        accepted.close()

slots = [Slot(number, (socket.create_server(("127.0.0.1", 0)),)) for number in (1, 2)]
sys.exit(Supervisor(slots, work, lambda: tell(followed=True)).run())
"""


class Supervised:
    """A supervisor with two workers, in processes of their own."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self.child = child

    def told(self) -> dict[str, int]:
        """The next thing that any of them has to say."""
        assert self.child.stdout is not None
        fact: dict[str, int] = json.loads(self.child.stdout.readline())
        return fact

    def ended(self) -> int:
        """Wait for the supervisor's end."""
        return self.child.wait(10)


@contextmanager
def supervised(*words: str) -> Iterator[tuple[Supervised, list[dict[str, int]]]]:
    """A supervisor whose two workers have started, and what they said."""
    argv = [sys.executable, "-c", PROGRAM, *words]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        try:
            group = Supervised(child)
            yield group, sorted((group.told(), group.told()), key=lambda fact: fact["slot"])
        finally:
            child.kill()


def dialled(port: int) -> bytes:
    """Who answers there."""
    script = (
        f"import socket; print(socket.create_connection(('127.0.0.1', {port})).recv(9).decode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=10, check=True
    )
    return done.stdout


def test_a_killed_worker_is_followed_by_another_at_its_socket() -> None:
    with supervised("0") as (group, (first, second)):
        os.kill(first["pid"], signal.SIGKILL)
        assert int(dialled(first["port"])) not in (first["pid"], second["pid"])
        successor = group.told()
        assert (successor["slot"], successor["restarts"]) == (1, 1)
        assert int(dialled(second["port"])) == second["pid"]


def test_a_worker_that_raises_is_followed_by_another() -> None:
    with supervised("0", "raise") as (group, _):
        assert sorted((group.told()["restarts"], group.told()["restarts"])) == [1, 1]


@pytest.mark.parametrize("code", [0, 3])
def test_all_workers_are_told_to_leave_and_the_exit_code_is_theirs(code: int) -> None:
    with supervised(str(code)) as (group, _):
        group.child.send_signal(signal.SIGTERM)
        assert group.ended() == code


def test_a_reload_is_passed_on_to_the_workers() -> None:
    with supervised("0") as (group, _):
        group.child.send_signal(signal.SIGHUP)
        assert sorted((group.told()["told"], group.told()["told"])) == [1, 2]


def test_policies_that_a_worker_took_are_taken_for_later_ones() -> None:
    with supervised("0") as (group, _):
        group.child.send_signal(FOLLOW)
        assert group.told() == {"followed": True}


def test_workers_end_with_their_supervisor() -> None:
    with supervised("0") as (group, workers), ExitStack() as closing:
        ends = [os.pidfd_open(worker["pid"]) for worker in workers]
        for end in ends:
            closing.callback(os.close, end)
        group.child.kill()
        assert all(select.select([end], [], [], 10)[0] for end in ends)


@pytest.mark.parametrize(
    ("lived", "pause", "expected"),
    [
        pytest.param(STEADY_SECONDS, 1.6, 0.0, id="ran for long"),
        pytest.param(0.1, 0.0, FIRST_PAUSE, id="crashed soon"),
        pytest.param(0.1, 0.4, 0.8, id="crashed again"),
        pytest.param(0.1, LONGEST_PAUSE, LONGEST_PAUSE, id="never runs"),
    ],
)
def test_the_pause_grows_with_each_quick_crash(lived: float, pause: float, expected: float) -> None:
    assert pause_after(lived, pause) == expected
