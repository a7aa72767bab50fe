"""An explanation for people: the verdict and its reason first, then every policy and what kept its rules from matching."""

from collections.abc import Iterator

import click
import msgspec

from tproxy.cli.finding_text import printable
from tproxy.cli.route_text import route_text
from tproxy.policy.account import (
    Account,
    Asked,
    LimitAccount,
    MissedField,
    PolicyAccount,
    RuleAccount,
    TlsAccount,
)
from tproxy.policy.account_fault import FaultAccount
from tproxy.policy.explain import NOT_HTTP

_COLOURS = {"ALLOW": "green", "DENY": "red", "UNDETERMINED": "yellow"}

_REASONS = {
    "default": "no policy that allows is about this workload, so the default decides",
    "audited_default": "no policy that allows is about this workload, so the default decides, and marks it",
    "no_allow_match": "some policy allows something, and no rule allows this",
    "ambiguous_path": "its path holds %00, which ends it for some: it is refused whatever policies say",
    "probe": "it is a probe that ProxyConfig exempts",
    "plaintext_on_strict_port": "PeerAuthentication is STRICT, and the connection is plaintext",
    "outbound": "what leaves the application is not judged",
}


def account_text(account: Account) -> str:
    """Write all of it; nothing that a request or a file says steers the terminal."""
    account = msgspec.convert(_printable(msgspec.to_builtins(account)), Account)
    lines = [
        f"{styled(account.verdict)} {_request(account.request)}",
        f"  {because(account)}",
        *_facts(account),
        *(route_text(account.route) if account.route else ()),
        *(_tls(account.tls) if account.tls else ()),
        *map(_limit, account.limits),
        # What is said of a way says what is done on it.
        *(map(_fault, account.faults) if account.route is None else ()),
        *(line for policy in account.policies for line in ("", *_policy(policy))),
    ]
    return "\n".join(lines)


def _printable(value: object) -> object:
    """Make every text in it printable."""
    match value:
        case str():
            return printable(value)
        case dict():
            return {key: _printable(each) for key, each in value.items()}
        case list() | tuple():
            return [_printable(each) for each in value]
        case _:
            return value


def styled(verdict: str) -> str:
    """Colour a verdict."""
    return click.style(verdict, fg=_COLOURS[verdict], bold=True)


def because(account: Account) -> str:
    """Say why."""
    if account.missing:
        return f"it depends on what is not known: {', '.join(account.missing)}"
    if account.policy is not None:
        return f"rule {account.rule} of {account.policy} matches ({account.place})"
    return _REASONS[account.reason]


def _request(asked: Asked) -> str:
    if asked.method is None:
        what = f"{asked.direction} {asked.protocol} connection"
    else:
        what = f"{asked.method} {asked.path or '(path not known)'}"
    return f"{what} to port {asked.port}"


def _facts(account: Account) -> Iterator[str]:
    asked = account.request
    yield f"  who asks: {asked.identity}; from {asked.source_ip or 'an address not known'}"
    if asked.received_path:
        yield f"  path as it was sent: {asked.received_path}"
    if asked.host:
        yield f"  host: {asked.host}"
    if account.audited_by:
        yield f"  marked by {account.audited_by}"
    if account.verdict_if_enforced:
        yield f"  with all dry-run policies in force: {styled(account.verdict_if_enforced)}"


def _limit(limit: LimitAccount) -> str:
    tried = ", only tried" if limit.shadow else ""
    text = f"  limit {limit.limit} ({limit.place}{tried})"
    if limit.missing:
        return f"{text} may count it, depending on what is not known: {', '.join(limit.missing)}"
    whose = ", ".join(f"{name} {value or '(none)'}" for name, value in limit.key)
    return f"{text} counts this {limit.per.lower()} for {whose or 'all'}"


def _fault(fault: FaultAccount) -> str:
    text = f"  faults of {fault.name} ({fault.place}): {fault.faults}"
    if fault.missing:
        return f"{text}; depend on what is not known: {', '.join(fault.missing)}"
    return f"{text}; this one: {fault.injected}"


def _tls(tls: TlsAccount) -> Iterator[str]:
    if tls.missing:
        yield f"  TLS: it depends on what is not known: {', '.join(tls.missing)}"
        return
    if tls.hosts:
        named = f", named by {tls.entry}" if tls.entry else ""
        yield f"  to: {', '.join(tls.hosts)}{named}"
    if tls.mode == "DISABLE":
        yield f"  TLS: none of ours, {_decided(tls, 'no rule is about it and no sidecar is known there')}"
        return
    yield f"  TLS: {tls.mode}, {_decided(tls, 'automatic: a sidecar answers there')}"
    yield f"    asks for: {tls.sni or 'nobody'}"
    yield f"    accepts: {_accepted(tls)}"


def _decided(tls: TlsAccount, otherwise: str) -> str:
    return f"as {tls.rule} says" if tls.rule else otherwise


def _accepted(tls: TlsAccount) -> str:
    if tls.insecure:
        return "anybody, as verification is skipped"
    meshed = tls.mode == "ISTIO_MUTUAL"
    nobody = "nobody, as no name is known: write sni or subjectAltNames"
    return ", ".join(tls.accepts) or ("anybody of the trust domain" if meshed else nobody)


def _policy(policy: PolicyAccount) -> Iterator[str]:
    tried = ", dry run" if policy.dry_run else ""
    yield f"{policy.action} {policy.policy} ({policy.place}{tried})"
    if policy.left_out:
        yield f"  is not about this workload: {policy.left_out}"
    elif not policy.rules:
        yield "  has no rules, so nothing matches"
    for rule in policy.rules:
        yield from _rule(rule)


def _rule(rule: RuleAccount) -> Iterator[str]:
    word = {True: "matches", False: "does not match", None: "may match"}[rule.matches]
    near = ", for one field only" if rule.near_miss else ""
    yield f"  rule {rule.rule} {word}{near} ({rule.place})"
    if not rule.missed:
        return
    first, *others = rule.missed
    yield f"    {missed_text(first)}"
    # Beside what surely fails, what is not known does not matter.
    more = [each.field for each in others if rule.matches is None or not each.missing]
    if more:
        yield f"    and so {'does' if len(more) == 1 else 'do'} {', '.join(more)}"


def missed_text(missed: MissedField) -> str:
    """Say what a field wanted and saw."""
    if missed.missing == NOT_HTTP:
        return f"{missed.field} (line {missed.line}) is about HTTP, and this connection is none"
    if missed.missing:
        return (
            f"{missed.field} (line {missed.line}) depends on {missed.missing}, which is not known"
        )
    seen = "there is none" if missed.seen is None else f"it is {missed.seen}"
    wanted = ("none" if missed.negative else "one", ", ".join(missed.wanted))
    return (
        f"{missed.field} (line {missed.line}) fails: {wanted[0]} of {wanted[1]} is wanted, {seen}"
    )
