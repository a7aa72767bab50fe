"""From what entries of a VirtualService ask for to what is done: timeouts, retries, faults, rewriting, answers of ours."""

from base64 import b64decode
from collections.abc import Mapping

from msgspec import structs

from tproxy.model.route import DirectResponse, HeaderEdits, Plan, Redirect, Rewrite
from tproxy.policy.schema import (
    FaultAbort,
    GrpcStatus,
    HeaderOperations,
    HttpDirectResponse,
    HttpFault,
    HttpRedirect,
    HttpRetry,
    HttpRewrite,
    HttpRoute,
    Percent,
)
from tproxy.policy.schema import HeaderEdits as WrittenEdits
from tproxy.policy.units import duration
from tproxy.resilience.fault import Abort, Delay, FaultSpec
from tproxy.resilience.retry import RetryPolicy, conditions

PREFIX = "%PREFIX()%"
"""Stands in a redirect for what the request was matched by."""

NO_RETRIES = RetryPolicy(attempts=0)

_CAP = 10
"""How many times the base a pause between tries may be, as in Envoy."""


def planned(route: HttpRoute, identity: str) -> Plan:
    """Plan what a sound entry asks for, whichever of its matches and destinations it is."""
    faulty = route.fault is not None
    edits = route.headers or WrittenEdits()
    return Plan(
        answer=_answer(route),
        fault=None if route.fault is None else _fault(route.fault, identity),
        timeout=0.0 if route.timeout is None or faulty else duration(route.timeout),
        retry=NO_RETRIES if faulty else _retry(route.retries),
        rewrite=None if route.rewrite is None else _rewrite(route.rewrite),
        request_headers=edited(edits.request),
        response_headers=edited(edits.response),
    )


def of_prefix(plan: Plan, prefix: bytes | None) -> Plan:
    """Say in place of what a path is put: of the prefix by which a request was matched."""
    rewrite, answer = plan.rewrite, plan.answer
    if rewrite is not None and rewrite.path is not None:
        plan = structs.replace(plan, rewrite=structs.replace(rewrite, prefix=prefix))
    if isinstance(answer, Redirect) and answer.prefix is not None:
        plan = structs.replace(plan, answer=structs.replace(answer, prefix=prefix))
    return plan


def _answer(route: HttpRoute) -> Redirect | DirectResponse | None:
    if route.redirect is not None:
        return _redirect(route.redirect)
    if route.direct_response is not None:
        return _direct(route.direct_response)
    return None


def _redirect(redirect: HttpRedirect) -> Redirect:
    uri = redirect.uri
    return Redirect(
        status=redirect.redirect_code,
        scheme=_octets(redirect.scheme),
        authority=_octets(redirect.authority),
        port=redirect.port,
        path=_octets(None if uri is None else uri.removeprefix(PREFIX)),
        prefix=b"/" if uri is not None and uri.startswith(PREFIX) else None,
    )


def _direct(answer: HttpDirectResponse) -> DirectResponse:
    body = answer.body
    if body is None:
        return DirectResponse(answer.status)
    content = (body.string or "").encode() if body.bytes is None else b64decode(body.bytes)
    return DirectResponse(answer.status, content)


def _octets(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _fault(fault: HttpFault, identity: str) -> FaultSpec:
    delay, abort = fault.delay, fault.abort
    return FaultSpec(
        identity,
        None if delay is None else Delay(duration(delay.fixed_delay), share(delay.percentage, 0.0)),
        None if abort is None else _abort(abort),
    )


def _abort(abort: FaultAbort) -> Abort:
    percent = share(abort.percentage, 0.0)
    if abort.grpc_status is None:
        return Abort(status=abort.http_status or 0, percent=percent)
    return Abort(grpc_status=grpc_status(abort.grpc_status), percent=percent)


def grpc_status(text: str) -> int:
    """Read the name or the number of a gRPC status that is an error; ValueError when there is none."""
    numbers = {str(each.value): each for each in GrpcStatus}
    found = numbers.get(text) or GrpcStatus.__members__.get(text)
    if found is None:
        raise ValueError(f"{text!r} is no gRPC status of a failure: write UNAVAILABLE, or 14")
    return int(found)


def share(percentage: Percent | None, otherwise: float) -> float:
    """Return a percentage, or what holds where none is written."""
    return otherwise if percentage is None else percentage.value


def _retry(retry: HttpRetry | None) -> RetryPolicy:
    if retry is None:
        return RetryPolicy()
    usual = RetryPolicy()
    met, statuses = (
        (usual.retry_on, usual.status_codes)
        if retry.retry_on is None
        else conditions(retry.retry_on)
    )
    base = usual.base if retry.backoff is None else duration(retry.backoff)
    per_try = retry.per_try_timeout
    return RetryPolicy(
        attempts=retry.attempts,
        per_try_timeout=0.0 if per_try is None else duration(per_try),
        retry_on=met,
        status_codes=statuses,
        base=base,
        cap=base * _CAP,
    )


def _rewrite(rewrite: HttpRewrite) -> Rewrite:
    regex = rewrite.uri_regex_rewrite
    return Rewrite(
        path=_octets(rewrite.uri),
        pattern="" if regex is None else regex.match,
        substitution="" if regex is None else regex.rewrite,
        authority=_octets(rewrite.authority),
    )


def edited(said: HeaderOperations | None) -> HeaderEdits | None:
    """Read what becomes of a message's headers; None for nothing."""
    if said is None or said == HeaderOperations():
        return None
    return HeaderEdits(
        frozenset(name.lower().encode() for name in said.remove),
        _fields(said.set),
        _fields(said.add),
    )


def _fields(said: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.lower().encode(), value.encode()) for name, value in said.items())


def joined(first: HeaderEdits | None, then: HeaderEdits | None) -> HeaderEdits | None:
    """Make one of two edits that are done one after the other."""
    if first is None or then is None:
        return first or then
    over = then.remove | {name for name, _ in then.set}
    return HeaderEdits(
        first.remove | then.remove,
        (*(each for each in first.set if each[0] not in over), *then.set),
        (*(each for each in first.add if each[0] not in over), *then.add),
    )
