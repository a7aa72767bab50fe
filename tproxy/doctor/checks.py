"""Judge facts: each check says what was found and, where it is wrong, how to mend it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from tproxy.doctor.facts import Facts
from tproxy.model.identity import LEFT_TO_WARN

PROXY = "tproxy"
IPV6 = 6
TRANSPARENT = frozenset(("CAP_NET_ADMIN", "CAP_NET_RAW"))
"""Either is enough for sockets that take over what was meant for other addresses."""
LEAST_MEMORY = 96 * 1024 * 1024
"""A sidecar takes some 34 MiB when idle, 48 in mutual TLS, and 7 KiB for each TCP connection or more."""


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


def _installation(facts: Facts) -> Iterator[Check]:
    if facts.fast:
        yield Check("installation", Verdict.OK, facts.versions)
    else:
        mend = "pip install 'tproxy[fast]': HTTP/1 is read several times as fast"
        found = f"{facts.versions}, without httptools"
        yield Check("installation", Verdict.WARN, found, mend)


def _user(facts: Facts) -> Iterator[Check]:
    if facts.user_name not in ("", PROXY):
        mend = "give that user another uid: what runs as 1337 goes past the sidecar"
        yield Check("user", Verdict.FAIL, f"uid 1337 belongs to {facts.user_name}", mend)
    for other in facts.others:
        found = f"process {other.pid} runs as uid 1337 and is no sidecar: {other.command}"
        mend = "run it as another user: nothing that it sends is captured"
        yield Check("user", Verdict.FAIL, found, mend)
    if not facts.sees_processes:
        found = "not checked: root and user 1337 alone see what runs as 1337"
        yield Check("user", Verdict.UNKNOWN, found, "ask as root")
    elif not facts.others and facts.user_name in ("", PROXY):
        yield Check("user", Verdict.OK, "uid 1337 is the sidecar's alone")


def _sidecar(facts: Facts) -> Iterator[Check]:
    captured = any(engine.holds for engine in facts.capture.engines)
    ports = ", ".join(map(str, facts.taken))
    match facts.ready:
        case 200:
            yield Check("sidecar", Verdict.OK, "ready")
        case None if facts.sidecar:
            found = f"process {facts.sidecar.pid} runs and does not answer"
            mend = "its log says why; --health-port must be the one that it has"
            yield Check("sidecar", Verdict.FAIL, found, mend)
        case None if facts.taken:
            mend = "end whoever listens there, or move it: ss -ltnp"
            yield Check("sidecar", Verdict.FAIL, f"not running, and others have {ports}", mend)
        case None if captured:
            mend = "start it: until then every captured connection is refused"
            yield Check("sidecar", Verdict.FAIL, "not running, though the kernel captures", mend)
        case None:
            yield Check("sidecar", Verdict.WARN, "not running", "tproxy run")
        case 503:
            mend = "it is starting or leaving; its log says which"
            yield Check("sidecar", Verdict.WARN, "not ready (503)", mend)
        case status:
            found = f"somebody else answers at its port of health, with {status}"
            mend = "end whoever listens there, or move it: ss -ltnp"
            yield Check("sidecar", Verdict.FAIL, found, mend)


def _capabilities(facts: Facts) -> Iterator[Check]:
    if facts.sidecar is None:
        return
    has = facts.sidecar.capabilities
    shown = ", ".join(has) or "none"
    if facts.tproxy_inbound and not TRANSPARENT.intersection(has):
        mend = "give it CAP_NET_ADMIN, or --inbound-mode redirect to both it and the init step"
        found = f"the sidecar has {shown}, and --inbound-mode tproxy needs one"
        yield Check("capabilities", Verdict.FAIL, found, mend)
    elif has and not facts.tproxy_inbound:
        mend = "start it as user 1337, or with --user 1337; drop ALL in a container"
        found = f"the sidecar needs none, and has {shown}"
        yield Check("capabilities", Verdict.WARN, found, mend)
    else:
        yield Check("capabilities", Verdict.OK, f"the sidecar has {shown}")


def _capture(facts: Facts) -> Iterator[Check]:
    capture = facts.capture
    if not facts.sees_kernel:
        found = "not checked: only who has CAP_NET_ADMIN and CAP_NET_RAW sees the rules"
        mend = "ask as root; in Kubernetes, the log of the init container says what it did"
        yield Check("capture", Verdict.UNKNOWN, found, mend)
        return
    if capture.problem:
        mend = "install it beside tproxy: pip install 'tproxy[init]'"
        yield Check("capture", Verdict.UNKNOWN, f"not checked: {capture.problem}", mend)
        return
    usable = [engine.name for engine in capture.engines if engine.refusal is None]
    if usable:
        others = f"; so could {', '.join(usable[1:])}" if usable[1:] else ""
        yield Check("kernel", Verdict.OK, f"rules would be loaded by {usable[0]}{others}")
    else:
        reasons = "; ".join(f"{each.name}: {each.refusal}" for each in capture.engines)
        mend = "install nftables, or load the modules: docs/capture.md"
        yield Check("kernel", Verdict.FAIL, f"no engine can load rules: {reasons}", mend)
    yield from _families(facts)
    yield from _rules(facts)


def _families(facts: Facts) -> Iterator[Check]:
    if not facts.ipv6:
        yield Check("ipv6", Verdict.OK, "nobody reaches this place by it")
    elif IPV6 in facts.capture.families:
        yield Check("ipv6", Verdict.OK, "part of the plan")
    else:
        mend = "--ipv6 capture of tproxy-init, unless it is blocked on purpose"
        yield Check("ipv6", Verdict.WARN, "it is here, and not part of the plan", mend)


def _rules(facts: Facts) -> Iterator[Check]:
    holding = [engine for engine in facts.capture.engines if engine.holds]
    if not holding:
        host = (
            f"; {' and '.join(facts.capture.host)}: --force is needed" if facts.capture.host else ""
        )
        if facts.ready is None:
            yield Check("capture", Verdict.WARN, f"no rules{host}", "tproxy-init apply")
        else:
            mend = "tproxy-init apply: a firewall that was restarted may have flushed them"
            found = f"no rules, so everything goes past the sidecar{host}"
            yield Check("capture", Verdict.FAIL, found, mend)
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
        case () if facts.remarks:
            found = f"can be kept, {len(facts.remarks)} remarks, the first: {facts.remarks[0]}"
            yield Check("policies", Verdict.WARN, found, "tproxy policy check shows all of them")
        case ():
            yield Check("policies", Verdict.OK, "can be kept")
        case mistakes:
            found = f"{len(mistakes)} mistakes, the first: {mistakes[0]}"
            yield Check("policies", Verdict.FAIL, found, "tproxy policy check shows all of them")


def _files(facts: Facts) -> Iterator[Check]:
    for path in facts.unreadable:
        mend = "chown or chmod it, and the directories above it"
        yield Check("files", Verdict.FAIL, f"user 1337 may not read {path}", mend)


def _identity(facts: Facts) -> Iterator[Check]:
    identity = facts.identity
    if identity is None:
        found = "none: nobody is proven to be anybody"
        yield Check("identity", Verdict.WARN, found, "--certificates DIRECTORY")
        return
    for told in identity.told:
        yield Check("identity", Verdict.WARN, told, "whoever reads the key is this workload")
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
    _installation,
    _environment,
    _user,
    _capture,
    _sidecar,
    _capabilities,
    _files,
    _policies,
    _identity,
    _clock,
    _room,
    _units,
)
