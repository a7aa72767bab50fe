"""python-iptables: libiptc itself, without any program, on the legacy tables.

The library keeps tables in process-wide caches that are bound to the network namespace they
were opened in, and it has crashed before; so each family gets a child process of its own, which
opens tables without autocommit, works under the xtables lock, and reads back what it committed.
"""

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from typing import Any

from tproxy_init.child import ChildFailed, in_child
from tproxy_init.engines import EngineError, confirm, legacy
from tproxy_init.engines.compare import differences, second_word
from tproxy_init.engines.lock import xtables_lock
from tproxy_init.render import save_line, xt_extensions, xt_target
from tproxy_init.rules import PREFIX, Family, Goto, Plan, Rule, Table, When, chains

Untyped = Any
"""Something of python-iptables', which publishes no types; it stays in this file."""


@dataclass(frozen=True, slots=True)
class IptcEngine:
    """The python-iptables library."""

    name: str = "iptables"
    home: str = "legacy tables"

    def refusal(self, plan: Plan) -> str | None:
        """Asks the kernel for every extension, by getsockopt; opens no table."""
        if importlib.util.find_spec("iptc") is None:
            return "python-iptables is not installed (pip install 'tproxy[init]')"
        return legacy.refusal(plan)

    def holds(self) -> bool:
        """Chains of ours are in the legacy tables."""
        return legacy.holds_ours()

    def apply(self, plan: Plan) -> None:
        """Our chains become `plan`, family after family."""
        for family in plan.families:
            _contained(partial(_apply, plan, family))
        for family in set(Family) - set(plan.families):
            self._remove(family)

    def remove(self) -> None:
        """Our chains go, from both families."""
        for family in Family:
            self._remove(family)

    def differences(self, plan: Plan) -> list[str]:
        """Rules of the plan that the kernel lacks, and rules of ours that it has besides."""
        found: list[str] = []
        for family in plan.families:
            found += json.loads(_contained(partial(_differences, plan, family)))
        return found

    def _remove(self, family: Family) -> None:
        if legacy.has_chain(family, PREFIX):
            _contained(partial(_apply, Plan((), ()), family))


def _contained(work: Callable[[], str]) -> str:
    try:
        return in_child(work)
    except ChildFailed as error:
        raise EngineError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Xtables:
    """The library for one family. To be made in a child process only."""

    library: Untyped
    family: Family

    def table(self, table: Table) -> Untyped:
        """The table as the kernel has it now."""
        of_family = self.library.Table if self.family is Family.V4 else self.library.Table6
        opened = of_family(str(table), autocommit=False)
        opened.refresh()
        return opened

    def rule(self, rule: Rule) -> Untyped:
        """The library's form of a rule of ours. Its chains must exist in the open table."""
        made = self.library.Rule() if self.family is Family.V4 else self.library.Rule6()
        _match(made, rule.when)
        for extension, parameters in xt_extensions(rule.when):
            _set(made.create_match(extension), parameters)
        name, parameters = xt_target(rule.target, self.family)
        _set(made.create_target(name, goto=isinstance(rule.target, Goto)), parameters)
        return made


def _xtables(family: Family, tables: Sequence[Table]) -> Xtables:
    import iptc  # noqa: PLC0415  slow, and only this engine's children need it

    # The library looks for a jump's target in every table it believes to exist, and creates
    # each by looking. Only those we work on anyway exist for it.
    available = {name: name in tables for name in iptc.Table.ALL}
    cache = iptc.Table if family is Family.V4 else iptc.Table6
    cache.existing_table_names = available
    return Xtables(iptc, family)


def _apply(plan: Plan, family: Family) -> str:
    tables = _concerned(plan, family)
    xtables = _xtables(family, tables)
    with xtables_lock():
        for table in tables:
            _replace(xtables, table, plan.of(table, family))
        confirm(_compare(xtables, plan, tables))
    return ""


def _concerned(plan: Plan, family: Family) -> list[Table]:
    """The tables with rules to come, and those where rules of ours may stand."""
    present = legacy.instantiated(family)
    return [table for table in Table if plan.of(table, family) or table in present]


def _replace(xtables: Xtables, table: Table, rules: Sequence[Rule]) -> None:
    """One commit: our jumps and chains go and come anew, and no packet sees the middle."""
    opened = xtables.table(table)
    _clear(xtables, opened)
    for name in chains(rules):
        opened.create_chain(name)
    for rule in sorted(rules, key=lambda rule: rule.hook):
        xtables.library.Chain(opened, rule.chain).append_rule(xtables.rule(rule))
    opened.commit()


def _clear(xtables: Xtables, opened: Untyped) -> None:
    names = [chain.name for chain in opened.chains]
    ours = [name for name in names if name.startswith(PREFIX)]
    for name in names:
        if name not in ours:
            chain = xtables.library.Chain(opened, name)
            # One at a time: a deletion leaves the entries found before it dangling.
            while jump := next(_jumps(opened, name), None):
                chain.delete_rule(opened.create_rule(jump, chain))
    for name in ours:
        opened.flush_entries(name)
    for name in ours:
        opened.delete_chain(name)


def _jumps(opened: Untyped, chain: str) -> Iterator[Untyped]:
    """The entries that lead into chains of ours. Foreign ones are never parsed."""
    for entry in _entries(opened, chain):
        target = opened.get_target(entry)
        if target is not None and target.startswith(PREFIX.encode()):
            yield entry


def _entries(opened: Untyped, chain: str) -> Iterator[Untyped]:
    entry = opened.first_rule(chain)
    while entry:
        yield entry
        entry = opened.next_rule(entry)


def _match(made: Untyped, when: When) -> None:
    """The part of `when` that needs no extension."""
    if when.source is not None:
        made.src = str(when.source)
    if when.destination is not None:
        made.dst = str(when.destination)
    if when.beyond is not None:
        made.dst = f"!{when.beyond}"
    header = made.get_ip()
    if when.by_in is not None:
        header.iniface, header.iniface_mask = _interface(when.by_in)
    if when.by_out is not None:
        header.outiface, header.outiface_mask = _interface(when.by_out)
    if when.proto is not None:
        made.protocol = str(when.proto)


def _interface(name: str) -> tuple[bytes, bytes]:
    """The name and its mask: all of it, and the end after it unless any ending will do.

    Written without the library's setter, which for IPv6 (in 1.2.0) masks one bit of each byte
    only: to such a rule, "va" is "lo".
    """
    stem = name.removesuffix("+")
    return name.encode(), b"\xff" * (len(stem) + (stem == name))


def _set(extension: Untyped, parameters: Mapping[str, str]) -> None:
    for name, value in parameters.items():
        extension.set_parameter(name, value)


def _differences(plan: Plan, family: Family) -> str:
    tables = _concerned(plan, family)
    return json.dumps(_compare(_xtables(family, tables), plan, tables))


def _compare(xtables: Xtables, plan: Plan, tables: Sequence[Table]) -> list[str]:
    found: list[str] = []
    for table in tables:
        wanted = [save_line(rule, xtables.family) for rule in plan.of(table, xtables.family)]
        where = f"IPv{xtables.family} {table}"
        found += differences(wanted, _saved(xtables.table(table)), where=where, chain=second_word)
    return found


def _saved(opened: Untyped) -> list[str]:
    """Our rules and the jumps to them, spelt as iptables-save prints them."""
    lines: list[str] = []
    for chain in opened.chains:
        own = chain.name.startswith(PREFIX)
        entries = _entries(opened, chain.name) if own else _jumps(opened, chain.name)
        lines += [_line(opened.create_rule(entry, chain), chain.name) for entry in entries]
    return lines


def _line(rule: Untyped, chain: str) -> str:
    words = [
        *_network("-s", rule.src),
        *_network("-d", rule.dst),
        *([f"-i {rule.in_interface}"] if rule.in_interface else []),
        *([f"-o {rule.out_interface}"] if rule.out_interface else []),
        *([f"-p {rule.protocol}"] if rule.protocol != "ip" else []),
        *(word for match in rule.matches for word in (f"-m {match.name}", *_parameters(match))),
        f"{'-g' if rule.target.goto else '-j'} {rule.target.name}",
        *_parameters(rule.target),
    ]
    return " ".join(["-A", chain, *words])


def _network(flag: str, text: str) -> Iterator[str]:
    network = ip_network(text.removeprefix("!"))
    if network.prefixlen or text.startswith("!"):
        yield f"{'! ' * text.startswith('!')}{flag} {network}"


def _parameters(extension: Untyped) -> Iterator[str]:
    for name, values in extension.get_all_parameters().items():
        yield " ".join([f"--{name}", *values])
