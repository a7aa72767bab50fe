"""The plan as text: for people, for iptables-restore, for nft and for other programs.

The restore lines are spelt exactly as iptables-save prints them, so that reading the kernel
back is comparing lines.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import assert_never

from tproxy_init.rules import (
    PREFIX,
    Family,
    Goto,
    Jump,
    Mark,
    Plan,
    Redirect,
    Return,
    Rule,
    Table,
    Target,
    Tproxy,
    When,
    Zone,
    chains,
)
from tproxy_init.values import Span

NFT_TABLE = "inet tpx"
"""Not "tproxy", which is a keyword of nft's grammar."""

FULL_MASK = "0xffffffff"

ANY_ADDRESS = {Family.V4: IPv4Address(0), Family.V6: IPv6Address(0)}

# One before the usual place of each hook: between two of equal priority the last one
# registered wins, and ours must come before an iptables that is loaded later.
# raw keeps its place, because only conntrack at -200 matters to it.
NFT_HOOKS: Mapping[tuple[Table, str], str] = {
    (Table.RAW, "PREROUTING"): "type filter hook prerouting priority -300; policy accept;",
    (Table.RAW, "OUTPUT"): "type filter hook output priority -300; policy accept;",
    (Table.MANGLE, "PREROUTING"): "type filter hook prerouting priority -151; policy accept;",
    (Table.NAT, "PREROUTING"): "type nat hook prerouting priority -101; policy accept;",
    (Table.NAT, "OUTPUT"): "type nat hook output priority -101; policy accept;",
}

Saved = Mapping[Table, Sequence[str]]
"""Lines of iptables-save that name chains of ours, by table."""


def save_line(rule: Rule, family: Family) -> str:
    """The rule as iptables-save prints it."""
    return " ".join(["-A", rule.chain, *_xt_match(rule.when), *_xt_target(rule.target, family)])


def restore_text(plan: Plan, family: Family, saved: Saved | None = None) -> str:
    """What turns the kernel's state `saved` into the plan, one commit per table.

    Declaring a chain creates or empties it, so applying twice is applying once.
    """
    saved = saved or {}
    sections = [
        _section(table, plan.of(table, family), saved.get(table, ()), family) for table in Table
    ]
    return "".join(sections)


def removal_text(saved: Saved) -> str:
    """What takes every chain of ours out of the kernel's state `saved`."""
    return "".join(_section(table, (), saved.get(table, ()), Family.V4) for table in Table)


def _section(table: Table, rules: Sequence[Rule], saved: Sequence[str], family: Family) -> str:
    kept = chains(rules)
    stale = [name for name in declared(saved) if name not in kept]
    if not kept and not saved:
        return ""
    lines = [
        f"*{table}",
        *(f":{name} - [0:0]" for name in [*kept, *stale]),
        *(line.replace("-A", "-D", 1) for line in jumps_in(saved)),
        *(save_line(rule, family) for rule in rules if not rule.hook),
        *(save_line(rule, family) for rule in rules if rule.hook),
        *(f"-X {name}" for name in stale),
        "COMMIT",
    ]
    return "\n".join(lines) + "\n"


def declared(saved: Iterable[str]) -> list[str]:
    """The chains of ours that a save declares."""
    return [line[1:].split()[0] for line in saved if line.startswith(f":{PREFIX}")]


def jumps_in(saved: Iterable[str]) -> list[str]:
    """The rules outside our chains that lead into them."""
    return [
        line for line in saved if line.startswith("-A ") and not line.startswith(f"-A {PREFIX}")
    ]


def ours(save: str) -> dict[Table, list[str]]:
    """From the whole output of iptables-save, the lines that name chains of ours, by table."""
    found: dict[Table, list[str]] = {}
    table = ""
    for line in save.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif table in list(Table) and _names_us(line):
            found.setdefault(Table(table), []).append(line)
    return found


def _names_us(line: str) -> bool:
    words = line.split()
    declares = line.startswith(f":{PREFIX}")
    belongs = words[:1] == ["-A"] and words[1].startswith(PREFIX)
    leads = words[:1] == ["-A"] and words[-2] in ("-j", "-g") and words[-1].startswith(PREFIX)
    return declares or belongs or leads


def _xt_match(when: When) -> Iterator[str]:
    if when.source is not None:
        yield f"-s {when.source}"
    if when.destination is not None:
        yield f"-d {when.destination}"
    if when.beyond is not None:
        yield f"! -d {when.beyond}"
    if when.by_in is not None:
        yield f"-i {when.by_in}"
    if when.by_out is not None:
        yield f"-o {when.by_out}"
    if when.proto is not None:
        yield f"-p {when.proto}"
    for extension, parameters in xt_extensions(when):
        yield f"-m {extension}"
        yield from (f"--{name} {value}".rstrip() for name, value in parameters.items())


def xt_extensions(when: When) -> Iterator[tuple[str, dict[str, str]]]:
    """The xtables match extensions that `when` needs, each with its parameters."""
    if when.uid is not None:
        yield "owner", {"uid-owner": when.uid.text("-")}
    if when.gid is not None:
        yield "owner", {"gid-owner": when.gid.text("-")}
    if when.sports:
        yield "multiport", {"sports": _listed(when.sports, ":")}
    if when.dports:
        yield "multiport", {"dports": _listed(when.dports, ":")}
    if when.transparent:
        yield "socket", {"transparent": "", "nowildcard": ""}
    if when.opening:
        yield "conntrack", {"ctstate": "NEW"}


def _xt_target(target: Target, family: Family) -> Iterator[str]:
    verb = "-g" if isinstance(target, Goto) else "-j"
    name, parameters = xt_target(target, family)
    yield f"{verb} {name}"
    yield from (f"--{key} {value}" for key, value in parameters.items())


def xt_target(target: Target, family: Family) -> tuple[str, dict[str, str]]:
    """The xtables target, or the chain, with its parameters."""
    match target:
        case Return():
            return "RETURN", {}
        case Jump(chain) | Goto(chain):
            return chain, {}
        case Redirect(port):
            return "REDIRECT", {"to-ports": str(port)}
        case Zone(number):
            return "CT", {"zone": str(number)}
        case Mark(mark):
            return "MARK", {"set-xmark": f"{mark:#x}/{FULL_MASK}"}
        case Tproxy(port, mark):
            return "TPROXY", {
                "on-port": str(port),
                "on-ip": str(ANY_ADDRESS[family]),
                "tproxy-mark": f"{mark:#x}/{FULL_MASK}",
            }
    assert_never(target)


def nft_text(plan: Plan) -> str:
    """One transaction: whatever our table held before is gone when this one stands."""
    lines = [
        f"add table {NFT_TABLE}",
        f"delete table {NFT_TABLE}",
        f"table {NFT_TABLE} {{",
        *(line for chain in _nft_chains(plan) for line in _nft_chain(plan, *chain)),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _nft_chains(plan: Plan) -> Iterator[tuple[Table, str]]:
    for table in plan.tables():
        rules = [rule for rule in plan.rules if rule.table is table]
        yield from ((table, chain) for chain in chains(rules))
        yield from ((table, rule.chain) for rule in rules if rule.hook)


def _nft_chain(plan: Plan, table: Table, chain: str) -> Iterator[str]:
    yield f"\tchain {nft_chain_name(table, chain)} {{"
    if hook := NFT_HOOKS.get((table, chain)):
        yield f"\t\t{hook}"
    for rule in plan.rules:
        if (rule.table, rule.chain) == (table, chain):
            yield f"\t\t{nft_line(rule, plan.families)}"
    yield "\t}"


def nft_chain_name(table: Table, chain: str) -> str:
    """All tables of xtables share one in nft, so the kernel's chains carry theirs in front."""
    return chain if chain.startswith(PREFIX) else f"{table}_{chain.lower()}"


def nft_line(rule: Rule, families: Sequence[Family]) -> str:
    """The rule in nft's grammar, its reason as its comment."""
    only = [f"meta nfproto ipv{families[0]}"] if rule.hook and len(families) == 1 else []
    words = [*only, *_nft_match(rule.when), _nft_target(rule.target), f'comment "{rule.why}"']
    return " ".join(words)


def _nft_match(when: When) -> Iterator[str]:
    if when.source is not None:
        yield f"{_nft_ip(when.source.version)} saddr {when.source}"
    if when.destination is not None:
        yield f"{_nft_ip(when.destination.version)} daddr {when.destination}"
    if when.beyond is not None:
        yield f"{_nft_ip(when.beyond.version)} daddr != {when.beyond}"
    if when.by_in is not None:
        yield f'iifname "{_nft_name(when.by_in)}"'
    if when.by_out is not None:
        yield f'oifname "{_nft_name(when.by_out)}"'
    if when.uid is not None:
        yield f"meta skuid {when.uid.text('-')}"
    if when.gid is not None:
        yield f"meta skgid {when.gid.text('-')}"
    yield from _nft_transport(when)


def _nft_transport(when: When) -> Iterator[str]:
    if when.proto is not None:
        yield f"meta l4proto {when.proto}"
    if when.sports:
        yield f"{when.proto} sport {{ {_listed(when.sports, '-', ', ')} }}"
    if when.dports:
        yield f"{when.proto} dport {{ {_listed(when.dports, '-', ', ')} }}"
    if when.transparent:
        yield "socket wildcard 0 socket transparent 1"
    if when.opening:
        yield "ct state new"


def _nft_ip(version: int) -> str:
    return "ip" if version == Family.V4 else "ip6"


def _nft_name(interface: str) -> str:
    return interface.removesuffix("+") + "*" * interface.endswith("+")


def _nft_target(target: Target) -> str:
    match target:
        case Return():
            return "return"
        case Jump(chain) | Goto(chain):
            return f"{type(target).__name__.lower()} {chain}"
        case Redirect(port):
            return f"redirect to :{port}"
        case Zone(number):
            return f"ct zone set {number}"
        case Mark(mark):
            return f"meta mark set {mark:#x}"
        case Tproxy(port, mark):
            return f"tproxy to :{port} meta mark set {mark:#x}"
    assert_never(target)


def table_text(plan: Plan) -> str:
    """For people: every chain with its rules, and the reason beside each."""
    return "\n\n".join(_people_chain(plan, *chain) for chain in _people_chains(plan)) + "\n"


def _people_chains(plan: Plan) -> Iterator[tuple[Table, str]]:
    yield from dict.fromkeys((rule.table, rule.chain) for rule in plan.rules)


def _people_chain(plan: Plan, table: Table, chain: str) -> str:
    rules = [rule for rule in plan.rules if (rule.table, rule.chain) == (table, chain)]
    rows = [(_people_match(rule), _people_target(rule.target), rule.why) for rule in rules]
    wide = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"  {match:{wide[0]}}  -> {does:{wide[1]}}  # {why}" for match, does, why in rows]
    return "\n".join([f"{table} {chain}", *lines])


def _people_match(rule: Rule) -> str:
    return " ".join(_xt_match(rule.when)) or "everything"


def _people_target(target: Target) -> str:
    match target:
        case Jump(chain):
            return chain
        case Goto(chain):
            return f"{chain} (goto)"
        case _:
            name, parameters = xt_target(target, Family.V4)
            return " ".join([name, *(value for key, value in parameters.items() if key != "on-ip")])


def json_text(plan: Plan) -> str:
    """For programs: one object per rule, spelt as iptables-save prints it."""
    return json.dumps({"rules": [_json_rule(rule, plan) for rule in plan.rules]}, indent=2) + "\n"


def _json_rule(rule: Rule, plan: Plan) -> dict[str, object]:
    return {
        "table": rule.table,
        "chain": rule.chain,
        "families": [int(family) for family in plan.families if rule.fits(family)],
        "match": " ".join(_xt_match(rule.when)),
        "target": _people_target(rule.target),
        "why": rule.why,
    }


def plain_restore_text(plan: Plan) -> str:
    """Both families' documents for iptables-restore, each rule under its reason."""
    return "".join(_explained(plan, family) for family in plan.families)


def _explained(plan: Plan, family: Family) -> str:
    whys = {save_line(rule, family): rule.why for rule in plan.rules if rule.fits(family)}
    tool = "iptables-restore" if family is Family.V4 else "ip6tables-restore"
    lines = [f"# {tool} --noflush"]
    for line in restore_text(plan, family).splitlines():
        lines += [f"# {whys[line]}", line] if line in whys else [line]
    return "\n".join(lines) + "\n"


def _listed(spans: Sequence[Span], between: str, comma: str = ",") -> str:
    return comma.join(span.text(between) for span in spans)
