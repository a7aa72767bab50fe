"""Bring policy files into force: all of a directory or nothing of it, at start and again on request."""

import gc
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import trio

from tproxy.model.flow import Direction, Protocol
from tproxy.model.identity import Workload, read_labels
from tproxy.policy.compile import NOBODY, compiled
from tproxy.policy.findings import Code, Finding, Mark, Severity
from tproxy.policy.nodes import SourceFile
from tproxy.policy.snapshot import Snapshot
from tproxy.policy.traffic_described import traffic_described
from tproxy.resilience.digest import blake2b
from tproxy.stores.policy_files import Reading, read_directory
from tproxy.stores.policy_store import PolicyStore
from tproxy.stores.watch import watch

LOG = logging.getLogger(__name__)

DIGEST_DIGITS = 16
"""Of the hash that is shown: enough to tell apart what people deploy."""


class BadPolicies(Exception):
    """The files do not say what they must; each finding names its place."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = tuple(findings)


def load(
    directory: Path | None,
    generation: int,
    workload: Workload = NOBODY,
    *,
    endpoints: Path | None = None,
) -> Snapshot:
    """Read and compile a directory of policies and one of endpoints; without both, nothing is declared.

    It waits for the disk.
    """
    if directory is None and endpoints is None:
        return Snapshot(generation)
    policies, found = _read(directory), _read(endpoints, discovered=True)
    files = policies.files + found.files
    with _without_collector():
        snapshot = compiled(files, generation, workload)
    findings = policies.findings + found.findings
    if isinstance(snapshot, tuple):
        raise BadPolicies(findings + snapshot)
    if findings:
        raise BadPolicies(findings)
    return replace(snapshot, digest=digest(files))


def _read(directory: Path | None, *, discovered: bool = False) -> Reading:
    """Read a directory, if there is one, and name in the log what in it is not read."""
    if directory is None:
        return Reading()
    reading = read_directory(directory, discovered=discovered)
    for name in reading.skipped:
        LOG.info("%s is no policy file (*.yaml, *.yml)", directory / name)
    return reading


@contextmanager
def _without_collector() -> Iterator[None]:
    """Have no garbage looked for meanwhile: thousands of rules make none, and looking took a quarter of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def digest(files: Sequence[SourceFile]) -> str:
    """Tell two states of the directories apart, by the names and contents of their files."""
    summed = blake2b(digest_size=DIGEST_DIGITS // 2)
    for file in files:
        summed.update(b"%d %b %d " % (len(file.name), file.name.encode(), len(file.content)))
        summed.update(file.content)
    return summed.hexdigest()


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
    """Reads the files again and again into one store. What changes: how the last attempt went, and our labels."""

    def __init__(
        self,
        directory: Path | None,
        workload: Workload = NOBODY,
        *,
        endpoints: Path | None = None,
        labels_file: Path | None = None,
    ) -> None:
        self._directory = directory
        self._options = workload
        self._endpoints = endpoints
        self._labels_file = labels_file
        self.workload = self._labelled()
        """What the options and the file of labels say of whose sidecar this is, where policies are silent."""
        self.store = PolicyStore(load(directory, 1, self.workload, endpoints=endpoints))
        _tell(self.store.current.findings)
        self.last = Attempt(time.time())
        self._reloading = trio.Lock()
        """One at a time: a signal, a file and a request may ask for it together."""

    async def reload(self) -> bool:
        """Put the files in force, or say in the log why they can not be and change nothing."""
        async with self._reloading:
            try:
                snapshot, workload = await trio.to_thread.run_sync(self._read)
            except BadPolicies as bad:
                self._keep(bad)
                return False
            self.last = Attempt(time.time())
            self._take(snapshot, workload)
            return True

    async def watch(self, reloaded: Callable[[], Awaitable[object]]) -> None:
        """Call `reloaded` whenever the files have changed, until cancelled."""
        async with trio.open_nursery() as nursery:
            labels = self._labels_file and self._labels_file.parent
            for directory in (self._directory, self._endpoints, labels):
                if directory is not None:
                    nursery.start_soon(watch, directory, reloaded)

    async def check(self, content: bytes) -> tuple[bool, Sequence[str]]:
        """Say whether a file of this content, as the only one, would be taken, and what is to be said about it."""
        source = SourceFile("candidate", content)
        result = await trio.to_thread.run_sync(compiled, [source], 0, self.workload)
        sound = isinstance(result, Snapshot)
        findings = result.findings if isinstance(result, Snapshot) else result
        return sound, [str(finding) for finding in findings]

    def follow(self) -> None:
        """Load what the workers of this process have loaded, for those that are still to come; they say how it went."""
        with suppress(BadPolicies):
            snapshot, workload = self._read()
            if self._differs(snapshot, workload):
                self.workload = workload
                self.store.swap(snapshot)

    def _labelled(self) -> Workload:
        """Add to the options what the file of labels says; they win."""
        if self._labels_file is None:
            return self._options
        try:
            labels = read_labels(self._labels_file.read_text())
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            where = str(self._labels_file)
            raise BadPolicies([Finding(where, Mark(), Code.UNREADABLE, (), why)]) from error
        return replace(self._options, labels={**labels, **self._options.labels})

    def _read(self) -> tuple[Snapshot, Workload]:
        workload = self._labelled()
        generation = self.store.current.generation + 1
        return load(self._directory, generation, workload, endpoints=self._endpoints), workload

    def _differs(self, snapshot: Snapshot, workload: Workload) -> bool:
        return snapshot.digest != self.store.current.digest or workload != self.workload

    def _take(self, snapshot: Snapshot, workload: Workload) -> None:
        if not self._differs(snapshot, workload):
            LOG.info("policies are as before, generation %d", self.store.current.generation)
            return
        self.workload = workload
        self.store.swap(snapshot)
        _tell(snapshot.findings)
        LOG.info(
            "policies of generation %d are in force, hash %s", snapshot.generation, snapshot.digest
        )

    def _keep(self, bad: BadPolicies) -> None:
        findings = tuple(str(finding) for finding in bad.findings)
        if findings != self.last.findings:
            for finding in bad.findings:
                LOG.error("%s", finding)
        self.last = Attempt(time.time(), findings)
        LOG.error("the policies of generation %d stay in force", self.store.current.generation)

    def named(self) -> str:
        """Name what is in force."""
        current = self.store.current
        return f"generation {current.generation} hash {current.digest or '-'}"

    def describe(self) -> dict[str, object]:
        """Show the snapshot in force and the last attempt to replace it."""
        snapshot = self.store.current
        return {
            "directory": None if self._directory is None else str(self._directory),
            "endpoints": None if self._endpoints is None else str(self._endpoints),
            "generation": snapshot.generation,
            "hash": snapshot.digest,
            "warnings": [str(finding) for finding in snapshot.findings],
            "workload": asdict(snapshot.workload.or_else(self.workload)),
            "ports": _by_port(snapshot.ports, "protocol"),
            "translated": _by_port(snapshot.translated, "upstream_protocol"),
            "authentication": asdict(snapshot.authentication),
            "rules": [
                {
                    "action": action,
                    "dry_run": tried,
                    "rule": str(name),
                    "place": name.place,
                }
                for action, tried, name in snapshot.authorizer.names()
            ],
            "destinations": None if (book := snapshot.destinations) is None else book.describe(),
            "traffic": traffic_described(snapshot),
            "path_normalization": snapshot.normalization,
            "detection": asdict(snapshot.detection),
            "access_log": asdict(snapshot.access_log),
            "last_attempt": asdict(self.last),
        }


def _by_port(
    said: Mapping[tuple[Direction, int], Protocol], what: str
) -> Sequence[Mapping[str, object]]:
    """Show what is said of ports, the lowest first."""
    ordered = sorted(said.items(), key=lambda item: item[0][1])
    return [
        {"port": port, "direction": direction, what: protocol}
        for (direction, port), protocol in ordered
    ]
