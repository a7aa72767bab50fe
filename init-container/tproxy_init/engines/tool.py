"""Run one of netfilter's own programs, its complaint being our error."""

import os
import shutil
import subprocess

from tproxy_init.engines import EngineError
from tproxy_init.engines.lock import lock_path

TOOL_SECONDS = 30
"""A tool that waits longer than this on a lock or a stalled kernel is given up."""


def missing(*tools: str) -> str | None:
    """The first of `tools` that is not installed, as a reason."""
    absent = [tool for tool in tools if shutil.which(tool) is None]
    return f"{absent[0]} is not installed" if absent else None


def run(*command: str, text: str = "") -> str:
    """What `command` prints when it is given `text`."""
    environment = os.environ | {"XTABLES_LOCKFILE": lock_path(), "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            timeout=TOOL_SECONDS,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        complaint = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise EngineError(f"{command[0]}: {complaint}")
    return done.stdout
