"""Do something in a forked child, so that a crash of a C library is one error and no more."""

import os
import sys
from collections.abc import Callable


class ChildFailed(Exception):
    """The work was not done; the text is the child's own complaint."""


def in_child(work: Callable[[], str]) -> str:
    """What `work` returns in a child of ours; ChildFailed with its complaint when it fails.

    The exit code is the truth: a child that dies half-way has not done its work.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _work_and_exit(work, writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        raise ChildFailed(f"its process was ended by signal {-code}")
    if code > 0:
        raise ChildFailed(said or f"its process ended with {code}")
    return said


def _work_and_exit(work: Callable[[], str], writer: int) -> None:
    code = 1
    try:
        said = work()
        code = 0
    except Exception as error:  # noqa: BLE001  whatever it was, the parent must hear of it
        said = f"{type(error).__name__}: {error}"
    try:
        with open(writer, "w", encoding="utf-8") as pipe:
            pipe.write(said)
    finally:
        # Not sys.exit: what the parent registered to run at exit is the parent's.
        os._exit(code)
