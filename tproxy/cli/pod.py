"""`tproxy pod`: run a process in a captured pod of its own on this machine."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
import trio

from tproxy.lab import (
    Lab,
    LabError,
    Pod,
    PodSpec,
    Process,
    Publish,
    Record,
    User,
    attach,
    open_pod,
    remove,
    require_root,
    serve,
)
from tproxy.lab.sidecar import describe_end, tail

T = TypeVar("T")

# As container engines have it: the pod failed, the command cannot be run, there is no such command.
LAB_FAILED, NOT_RUNNABLE, NOT_FOUND = 125, 126, 127

FORWARDED = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2),
)
FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
FOLLOW_INTERVAL = 0.2


class _Refused(click.ClickException):
    """What stopped the pod, with an exit code of its own beside those of the command."""

    exit_code = LAB_FAILED


def _parsed(parse: Callable[[str], T]) -> Callable[..., T | tuple[T, ...] | None]:
    """An option's values as the lab reads them; its refusal becomes click's."""

    def callback(
        _ctx: click.Context, _param: click.Parameter, value: str | tuple[str, ...] | None
    ) -> T | tuple[T, ...] | None:
        try:
            if isinstance(value, tuple):
                return tuple(parse(each) for each in value)
            return None if value is None else parse(value)
        except LabError as error:
            raise click.BadParameter(str(error)) from error

    return callback


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise LabError(f"{text!r}: expected KEY=VALUE")
    return key, value


@dataclass(frozen=True, slots=True)
class Job:
    """What `pod run` is to do."""

    spec: PodSpec
    argv: Sequence[str]
    publish: Sequence[Publish] = ()


@click.group()
def pod() -> None:
    """Pods on this machine: network namespaces with capture, a sidecar, and a process of yours."""


@pod.command()
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--policies",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory of policy files.",
)
@click.option(
    "--publish",
    callback=_parsed(Publish.parse),
    multiple=True,
    metavar="[HOST:]PORT:PODPORT",
    help="A port of this host (127.0.0.1) that leads into the pod.",
)
@click.option("--no-proxy", is_flag=True, help="Neither capture nor sidecar: a plain pod.")
@click.option(
    "--user",
    callback=_parsed(User.parse),
    metavar="USER",
    help="Who runs COMMAND: UID[:GID] or a name. [whoever called sudo, else nobody]",
)
@click.option("--namespace", default="default", show_default=True, help="The pod's namespace.")
@click.option(
    "--service-account", default="default", show_default=True, help="The pod's service account."
)
@click.option(
    "--trust-domain",
    default="cluster.local",
    show_default=True,
    help="Of the identity that the pod's sidecar gets: spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT.",
)
@click.option(
    "--label",
    callback=_parsed(_pair),
    metavar="KEY=VALUE",
    multiple=True,
    help="A label of the pod.",
)
@click.option(
    "--env",
    callback=_parsed(_pair),
    metavar="KEY=VALUE",
    multiple=True,
    help="A variable for COMMAND.",
)
@click.option(
    "--init-arg", multiple=True, help="An argument for the init step (`tproxy init apply --help`)."
)
@click.option("--run-arg", multiple=True, help="An argument for the sidecar (`tproxy run --help`).")
def run(**given: object) -> None:
    """Run COMMAND in a pod called NAME; its output, signals and exit code are the command's own.

    Whatever follows -- is COMMAND.
    """
    with _refusing():
        job = _job(given)
        status = _foreground(lambda front: _run(front, job))
    sys.exit(status)


def _job(given: Mapping[str, Any]) -> Job:
    spec = PodSpec(
        name=given["name"],
        namespace=given["namespace"],
        service_account=given["service_account"],
        trust_domain=given["trust_domain"],
        labels=dict(given["label"]),
        policies=given["policies"],
        proxy=not given["no_proxy"],
        user=given["user"],
        env=dict(given["env"]),
        init_args=given["init_arg"],
        run_args=given["run_arg"],
    )
    return Job(spec, given["command"], given["publish"])


@pod.command(name="exec")
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--user",
    callback=_parsed(User.parse),
    metavar="USER",
    help="Who runs COMMAND. [as for the pod's own command]",
)
@click.option("--bypass-capture", is_flag=True, help="Allow the sidecar's own user.")
def exec_(name: str, command: tuple[str, ...], user: User | None, *, bypass_capture: bool) -> None:
    """Run COMMAND in the running pod NAME."""
    with _refusing():
        if user is not None and not bypass_capture:
            _refuse_proxy(user)
        status = _foreground(lambda front: _exec(front, name, command, user))
    sys.exit(status)


def _refuse_proxy(user: User) -> None:
    try:
        user.refuse_proxy()
    except LabError as error:
        raise LabError(f"{error}, or say --bypass-capture if that is what you want") from None


@pod.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def ls(*, as_json: bool) -> None:
    """List the pods of this machine."""
    with _refusing():
        records = Lab.of(os.environ).records()
    if as_json:
        click.echo(json.dumps([_described(record) for record in records], indent=2))
        return
    row = "{:<16} {:<9} {:<12} {:<20} {:>6}  {}"
    click.echo(row.format("NAME", "STATE", "IPV4", "IPV6", "AGE", "PIDS"))
    for record in records:
        where = record.addresses
        pids = " ".join(map(str, record.pids()))
        click.echo(row.format(record.name, record.state, where.v4, where.v6, _age(record), pids))


def _described(record: Record) -> dict[str, object]:
    return {
        "name": record.name,
        "namespace": record.namespace,
        "state": record.state,
        **asdict(record.addresses),
        "netns": record.netns,
        "supervisor": record.supervisor.pid,
        "pids": record.pids(),
        "user": record.user,
        "created": record.created,
    }


def _age(record: Record) -> str:
    seconds = int(time.time() - record.created)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


@pod.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All pods of this machine.")
def rm(names: tuple[str, ...], *, everything: bool) -> None:
    """End pods and remove all that is left of them."""
    lab = Lab.of(os.environ)
    if everything == bool(names):
        raise click.UsageError("give the names of pods, or --all")
    with _refusing():
        for name in names or [record.name for record in lab.records()]:
            trio.run(remove, lab, name)
            click.echo(name)


@pod.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on until the pod ends.")
@click.option(
    "--sidecar", "log", flag_value="sidecar.log", help="What the sidecar says about itself."
)
@click.option("--init", "log", flag_value="init.log", help="What the init step said.")
@click.option(
    "--access",
    "log",
    flag_value="access.log",
    default="access.log",
    help="The access log. [default]",
)
def logs(name: str, log: str, *, follow: bool) -> None:
    """Print a pod's access log."""
    path = Lab.of(os.environ).directory(name) / log
    with _refusing():
        if not path.exists():
            raise LabError(f"no {log} of a pod named {name}: it has ended, or runs with --no-proxy")
    trio.run(partial(_print, path, follow=follow))


async def _print(path: Path, *, follow: bool) -> None:
    async with await trio.open_file(path, errors="replace") as log:
        click.echo(await log.read(), nl=False)
        while follow and await trio.Path(path).exists():
            await trio.sleep(FOLLOW_INTERVAL)
            click.echo(await log.read(), nl=False)


async def _run(front: "Front", job: Job) -> int:
    lab = Lab.of(os.environ)
    async with open_pod(job.spec, lab) as opened, trio.open_nursery() as nursery:
        for publish in job.publish:
            port = await nursery.start(serve, publish, opened.record, lab.bridge_netns)
            _say(f"{publish.host}:{port} leads to {opened.name}:{publish.pod_port}")
        if await opened.directory_of(opened.user) != Path.cwd():
            _say(f"{opened.user.name} may not enter {Path.cwd()}: the command starts in /")
        process = await front.start(opened.start(job.argv))
        watch = Watch(opened, process)
        nursery.start_soon(watch.sidecar)
        await process.wait()
        nursery.cancel_scope.cancel()
    return LAB_FAILED if watch.uncaptured else process.status


async def _exec(front: "Front", name: str, argv: Sequence[str], user: User | None) -> int:
    process = await front.start(attach(Lab.of(os.environ), name).start(argv, user=user))
    await process.finish()
    return process.status


class Watch:
    """Ends the command when its sidecar ends first; `uncaptured` says that this happened."""

    def __init__(self, opened: Pod, process: Process) -> None:
        self._pod, self._process = opened, process
        self.uncaptured = False

    async def sidecar(self) -> None:
        """Wait for the sidecar, fail closed."""
        if self._pod.sidecar is None:
            return
        await self._pod.sidecar.wait()
        if self._process.returncode is not None:
            return
        self.uncaptured = True
        _say(
            f"the sidecar of {self._pod.name} ended ({describe_end(self._pod.sidecar)}); "
            "ending the command" + tail(self._pod.sidecar_log_path)
        )
        await self._process.stop()


class Front:
    """The command that signals go to. Before there is one, a signal ends the whole undertaking.

    What changes: the command, and what came while it was being started.
    """

    def __init__(self) -> None:
        self.ended_by: int | None = None
        self._process: Process | None = None
        self._early: list[int] | None = None

    async def start(self, starting: Awaitable[Process]) -> Process:
        """Start the command; it may run for a moment before we hold it, and misses no signal."""
        self._early = []
        self._process = await starting
        for number in self._early:
            self._process.send_signal(number)
        return self._process

    async def pass_signals(
        self, signals: AsyncIterator[int], undertaking: trio.CancelScope
    ) -> None:
        """Hand on what arrives."""
        async for number in signals:
            if self._process is not None:
                self._pass(number, self._process)
            elif self._early is not None:
                self._early.append(number)
            else:
                self.ended_by = number
                undertaking.cancel()

    def _pass(self, number: int, process: Process) -> None:
        if not (number in FROM_TERMINAL and _at_terminal()):
            process.send_signal(number)


def _at_terminal() -> bool:
    """Whether our own process group has the terminal: Ctrl-C has reached the command already."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False


def _foreground(work: Callable[["Front"], Awaitable[int]]) -> int:
    """Run `work` as if it were its command: signals, terminal and exit code pass through."""
    with _terminal_kept():
        return trio.run(_with_signals, work)


async def _with_signals(work: Callable[["Front"], Awaitable[int]]) -> int:
    front = Front()
    status, failure = 0, None
    with trio.open_signal_receiver(*FORWARDED) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(front.pass_signals, signals, nursery.cancel_scope)
            try:
                status = await work(front)
            except* (LabError, OSError) as errors:
                failure = _first(errors)
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return status if front.ended_by is None else 128 + front.ended_by


def _first(errors: BaseExceptionGroup[Exception]) -> Exception:
    [first, *_] = errors.exceptions
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


@contextmanager
def _terminal_kept() -> Iterator[None]:
    """Give the terminal back to our own process group, should an interactive shell have taken it."""
    had = _at_terminal()
    yield
    if had:
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())


@contextmanager
def _refusing() -> Iterator[None]:
    """Show the lab's refusals, and a command that cannot be run, the way a shell does."""
    try:
        require_root()
        yield
    except LabError as error:
        raise _Refused(str(error)) from error
    except OSError as error:
        _say(f"cannot run {error.filename}: {error.strerror}")
        # Searching a PATH that holds directories of root's ends in EACCES, whatever was sought.
        found = error.filename is not None and shutil.which(error.filename)
        sys.exit(NOT_RUNNABLE if found else NOT_FOUND)


def _say(message: str) -> None:
    click.echo(f"tproxy pod: {message}", err=True)
