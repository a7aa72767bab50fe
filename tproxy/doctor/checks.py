"""Judge facts: each check says what was found and, where it is wrong, how to mend it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from tproxy.doctor.facts import Facts

PROXY = "tproxy"
LEAST_MEMORY = 96 * 1024 * 1024
"""A sidecar takes some 45 MiB when idle, and 9 KiB for each connection."""
LEFT_TO_WARN = 3
"""What part of its life a certificate should not begin without being replaced."""


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """It works, and may not be meant so."""
    FAIL = "FAIL"
    UNKNOWN = "?"
    """It could not be found out."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    what: str
    verdict: Verdict
    found: str
    mend: str = ""


def examine(facts: Facts) -> list[Check]:
    """Make every check."""
    return [check for judge in JUDGES for check in judge(facts)]


def _python(facts: Facts) -> Iterator[Check]:
    if facts.fast:
        yield Check("installation", Verdict.OK, f"{facts.python}, with httptools")
    else:
        mend = "pip install 'tproxy[fast]': HTTP/1 is read several times as fast"
        yield Check("installation", Verdict.WARN, f"{facts.python}, without httptools", mend)


def _user(facts: Facts) -> Iterator[Check]:
    if facts.user_name not in ("", PROXY):
        mend = "give that user another uid: what runs as 1337 goes past the sidecar"
        yield Check("user", Verdict.FAIL, f"uid 1337 belongs to {facts.user_name}", mend)
    for other in facts.others:
        found = f"process {other.pid} runs as uid 1337 and is no sidecar: {other.command}"
        mend = "run it as another user: nothing that it sends is captured"
        yield Check("user", Verdict.FAIL, found, mend)
    if not facts.others and facts.user_name in ("", PROXY):
        yield Check("user", Verdict.OK, "uid 1337 is the sidecar's alone")


def _sidecar(facts: Facts) -> Iterator[Check]:
    captured = any(engine.holds for engine in facts.capture.engines)
    ports = ", ".join(map(str, facts.taken))
    match facts.ready:
        case 200:
            yield Check("sidecar", Verdict.OK, "ready")
        case None if facts.taken:
            mend = "end whoever listens there, or move it: ss -ltnp"
            yield Check("sidecar", Verdict.FAIL, f"not running, and others have {ports}", mend)
        case None if captured:
            mend = "start it: until then every captured connection is refused"
            yield Check("sidecar", Verdict.FAIL, "not running, though the kernel captures", mend)
        case None:
            yield Check("sidecar", Verdict.WARN, "not running", "tproxy run")
        case status:
            mend = "it is starting or leaving; its log says which"
            yield Check("sidecar", Verdict.WARN, f"not ready ({status})", mend)


def _capture(facts: Facts) -> Iterator[Check]:
    capture = facts.capture
    if capture.problem:
        mend = "" if facts.root else "ask as root"
        yield Check("capture", Verdict.UNKNOWN, capture.problem, mend)
        return
    usable = [engine.name for engine in capture.engines if engine.refusal is None]
    if usable:
        yield Check("kernel", Verdict.OK, f"takes rules by {', '.join(usable)}")
    else:
        reasons = "; ".join(f"{each.name}: {each.refusal}" for each in capture.engines)
        mend = "give CAP_NET_ADMIN, install nftables, or load the modules: docs/capture.md"
        yield Check("kernel", Verdict.FAIL, f"no engine can load rules: {reasons}", mend)
    yield from _rules(facts)


def _rules(facts: Facts) -> Iterator[Check]:
    holding = [engine for engine in facts.capture.engines if engine.holds]
    if not holding:
        host = (
            f"; {' and '.join(facts.capture.host)}: --force is needed" if facts.capture.host else ""
        )
        yield Check("capture", Verdict.WARN, f"no rules{host}", "tproxy-init apply")
        return
    broken = [f"{each.name}: {each.differences[0]}" for each in holding if each.differences]
    if broken:
        mend = "tproxy-init apply, with the options that it had: they are part of the plan"
        yield Check("capture", Verdict.FAIL, f"rules are not the plan: {'; '.join(broken)}", mend)
    else:
        names = ", ".join(each.name for each in holding)
        yield Check("capture", Verdict.OK, f"complete, held by {names}")


def _policies(facts: Facts) -> Iterator[Check]:
    match facts.policies:
        case None:
            yield Check(
                "policies", Verdict.WARN, "none: everything is carried", "--policies DIRECTORY"
            )
        case ():
            yield Check("policies", Verdict.OK, "can be kept")
        case mistakes:
            found = f"{len(mistakes)} mistakes, the first: {mistakes[0]}"
            yield Check("policies", Verdict.FAIL, found, "tproxy policy check shows all of them")


def _identity(facts: Facts) -> Iterator[Check]:
    identity = facts.identity
    if identity is None:
        found = "none: nobody is proven to be anybody"
        yield Check("identity", Verdict.WARN, found, "--certificates DIRECTORY")
        return
    if identity.problem:
        mend = "tproxy ca check DIRECTORY; a clock that is wrong makes good certificates bad"
        yield Check("identity", Verdict.FAIL, identity.problem, mend)
        return
    assert identity.not_before is not None
    assert identity.not_after is not None
    left = identity.not_after - facts.now
    found = f"{identity.spiffe_id} until {identity.not_after:%Y-%m-%d %H:%M:%SZ}"
    if left < (identity.not_after - identity.not_before) / LEFT_TO_WARN:
        mend = "look at what renews it: less than a third of its life is left"
        yield Check("identity", Verdict.WARN, found, mend)
    else:
        yield Check("identity", Verdict.OK, found)


def _clock(facts: Facts) -> Iterator[Check]:
    match facts.synchronised:
        case True:
            yield Check("clock", Verdict.OK, "synchronised")
        case False:
            mend = "systemd-timesyncd or chrony: certificates are judged by it"
            yield Check("clock", Verdict.WARN, "the kernel says it is not synchronised", mend)
        case None:
            yield Check("clock", Verdict.UNKNOWN, "the kernel does not say")


def _room(facts: Facts) -> Iterator[Check]:
    if facts.descriptors < facts.wanted_descriptors:
        found = f"{facts.descriptors} descriptors, and {facts.wanted_descriptors} are wanted"
        mend = "raise the hard limit (LimitNOFILE=), or lower --max-connections"
        yield Check("descriptors", Verdict.WARN, found, mend)
    else:
        yield Check("descriptors", Verdict.OK, f"{facts.descriptors}")
    if facts.memory is None:
        yield Check("memory", Verdict.OK, "no bound")
    elif facts.memory < LEAST_MEMORY:
        mend = "give it 96 MiB at least, and 10 MiB more for each thousand connections"
        yield Check("memory", Verdict.WARN, f"bound to {facts.memory // 1048576} MiB", mend)
    else:
        yield Check("memory", Verdict.OK, f"bound to {facts.memory // 1048576} MiB")


def _environment(facts: Facts) -> Iterator[Check]:
    for name in facts.misled:
        mend = "set enableServiceLinks: false in the pod, or set the variable yourself"
        yield Check("environment", Verdict.FAIL, f"{name} is a Kubernetes service's", mend)


def _units(facts: Facts) -> Iterator[Check]:
    for name, enabled, active in facts.units:
        if (enabled, active) == ("enabled", "active"):
            yield Check("systemd", Verdict.OK, f"{name} is enabled and active")
        else:
            mend = f"systemctl enable --now {name}; journalctl -u {name} says what went wrong"
            yield Check("systemd", Verdict.WARN, f"{name} is {enabled} and {active}", mend)


JUDGES: tuple[Callable[[Facts], Iterator[Check]], ...] = (
    _python,
    _environment,
    _user,
    _capture,
    _sidecar,
    _policies,
    _identity,
    _clock,
    _room,
    _units,
)
