"""Bring policy files into force: all of a directory or nothing of it, at start and again on request."""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import trio

from tproxy.model.identity import Workload
from tproxy.policy.compile import NOBODY, compiled
from tproxy.policy.findings import Finding, Severity
from tproxy.policy.snapshot import Snapshot
from tproxy.stores.policy_files import read_directory
from tproxy.stores.policy_store import PolicyStore

LOG = logging.getLogger(__name__)


class BadPolicies(Exception):
    """The files do not say what they must; each finding names its place."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = tuple(findings)


def load(directory: Path | None, generation: int, workload: Workload = NOBODY) -> Snapshot:
    """Read and compile a directory; without one, nothing is declared. It waits for the disk."""
    if directory is None:
        return Snapshot(generation)
    reading = read_directory(directory)
    for name in reading.skipped:
        LOG.info("%s is no policy file (*.yaml, *.yml)", directory / name)
    snapshot = compiled(reading.files, generation, workload)
    findings = reading.findings + (snapshot if isinstance(snapshot, tuple) else ())
    if findings or isinstance(snapshot, tuple):
        raise BadPolicies(findings)
    _tell(snapshot.findings)
    return snapshot


MOST_TOLD = 100
"""Warnings in the log for one load: what follows is of the same sort."""

_LEVELS = {
    Severity.ERROR: logging.ERROR,
    Severity.WARNING: logging.WARNING,
    Severity.INFO: logging.INFO,
}


def _tell(findings: Sequence[Finding]) -> None:
    """Log what hardly means what its author thinks."""
    for finding in findings[:MOST_TOLD]:
        LOG.log(_LEVELS[finding.severity], "%s", finding)
    if len(findings) > MOST_TOLD:
        LOG.warning("and %d more like these", len(findings) - MOST_TOLD)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last time that the files were read."""

    at: float
    """Seconds since the epoch."""
    findings: tuple[str, ...] = ()
    """Why nothing changed; empty when the files are in force."""


class PolicyLoader:
    """Reads the files again and again into one store. What changes: how the last attempt went."""

    def __init__(self, directory: Path | None, workload: Workload = NOBODY) -> None:
        self._directory = directory
        self._workload = workload
        """What the options say of whose sidecar this is, where the files are silent."""
        self.store = PolicyStore(load(directory, 1, workload))
        self.last = Attempt(time.time())

    async def reload(self) -> bool:
        """Put the files in force, or say in the log why they can not be and change nothing."""
        generation = self.store.current.generation + 1
        try:
            snapshot = await trio.to_thread.run_sync(
                load, self._directory, generation, self._workload
            )
        except BadPolicies as bad:
            self._keep(bad)
            return False
        self.last = Attempt(time.time())
        self.store.swap(snapshot)
        LOG.info("policies of generation %d are in force", generation)
        return True

    def follow(self) -> None:
        """Load what the workers of this process load, for those that are still to come; they say how it went."""
        with suppress(BadPolicies):
            generation = self.store.current.generation + 1
            self.store.swap(load(self._directory, generation, self._workload))

    def _keep(self, bad: BadPolicies) -> None:
        self.last = Attempt(time.time(), tuple(str(finding) for finding in bad.findings))
        for finding in bad.findings:
            LOG.error("%s", finding)
        LOG.error("the policies of generation %d stay in force", self.store.current.generation)

    def describe(self) -> dict[str, object]:
        """Show the snapshot in force and the last attempt to replace it."""
        snapshot = self.store.current
        return {
            "directory": None if self._directory is None else str(self._directory),
            "generation": snapshot.generation,
            "workload": asdict(snapshot.workload),
            "ports": [
                {"port": port, "direction": direction, "protocol": protocol}
                for (direction, port), protocol in sorted(
                    snapshot.ports.items(), key=lambda item: item[0][1]
                )
            ],
            "translated": [
                {"port": port, "direction": direction, "upstream_protocol": protocol}
                for (direction, port), protocol in sorted(
                    snapshot.translated.items(), key=lambda item: item[0][1]
                )
            ],
            "detection": asdict(snapshot.detection),
            "access_log": asdict(snapshot.access_log),
            "last_attempt": asdict(self.last),
        }
