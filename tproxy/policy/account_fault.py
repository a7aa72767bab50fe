"""The faults of a request in a form that travels."""

import msgspec

from tproxy.policy.explain_faults import FaultTrace
from tproxy.resilience.fault import Abort, FaultSpec, Injection


class FaultAccount(msgspec.Struct, frozen=True):
    """Faults that are about a request, or may be."""

    name: str
    """Whose: that of a FaultPolicy, or an entry of a VirtualService."""
    place: str
    faults: str
    injected: str = ""
    """Into this very request; empty where it is not known whether they are about it."""
    missing: tuple[str, ...] = ()
    """What is not known, and decides whether they are about it."""


def fault_account(trace: FaultTrace) -> FaultAccount:
    """Write faults in words."""
    injected = "" if trace.missing else injected_text(trace.injection)
    return FaultAccount(trace.name, trace.place, fault_text(trace.spec), injected, trace.missing)


def fault_text(fault: FaultSpec) -> str:
    """Say what is injected, and how often."""
    said = []
    if fault.delay is not None:
        said.append(f"{fault.delay.percent:g} % wait {fault.delay.seconds:g} s")
    if fault.reset:
        said.append(f"{fault.reset:g} % are reset")
    if fault.abort is not None:
        said.append(f"{fault.abort.percent:g} % fail with {_status(fault.abort)}")
    if fault.throttle is not None:
        slow = fault.throttle
        said.append(f"{slow.percent:g} % get {slow.bytes_per_second} bytes per second")
    return ", ".join(said)


def _status(abort: Abort) -> str:
    return (
        f"gRPC status {abort.grpc_status}" if abort.grpc_status is not None else str(abort.status)
    )


def injected_text(injection: Injection | None) -> str:
    """Say what one request suffers; None where its id is not known."""
    if injection is None:
        return "not known without an x-request-id"
    waits = f"waits {injection.delay:g} s" if injection.delay else ""
    return ", ".join(filter(None, (waits, _came_to(injection)))) or "unharmed"


def _came_to(injection: Injection) -> str:
    if injection.reset:
        return "is reset"
    if injection.abort is not None:
        return "fails"
    return "is slow" if injection.bytes_per_second else ""
