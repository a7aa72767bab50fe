"""iptables-restore: one document per family, one commit per table."""

from dataclasses import dataclass

from tproxy_init.engines import EngineError, confirm, legacy
from tproxy_init.engines.compare import differences, second_word
from tproxy_init.engines.tool import missing, run
from tproxy_init.render import ours, removal_text, restore_text, save_line
from tproxy_init.rules import Family, Plan, Table

PROGRAM = {Family.V4: "iptables", Family.V6: "ip6tables"}


@dataclass(frozen=True, slots=True)
class RestoreEngine:
    """The iptables programs of one variant."""

    variant: str
    """legacy, or nft: the same rules, kept in nf_tables in a compatible form."""

    @property
    def name(self) -> str:
        """Both variants answer to --backend restore."""
        return f"restore ({self.variant})"

    @property
    def home(self) -> str:
        """The legacy tables, or nf_tables' compatible ones."""
        return "legacy tables" if self.variant == "legacy" else "iptables-nft tables"

    def refusal(self, plan: Plan) -> str | None:
        """`--test` is not asked: it passes rules that the kernel refuses, and creates tables."""
        tools = [
            self._tool(family, verb) for family in plan.families for verb in ("restore", "save")
        ]
        if absent := missing(*tools):
            return absent
        return legacy.refusal(plan) if self.variant == "legacy" else self._unreadable(plan)

    def _unreadable(self, plan: Plan) -> str | None:
        """What nf_tables says to reading, which it grants to those who may write."""
        try:
            for family in plan.families:
                run(self._tool(family, "save"))
        except EngineError as error:
            return str(error)
        return None

    def holds(self) -> bool:
        """Chains of ours are in this variant's tables."""
        if self.variant == "legacy":
            return legacy.holds_ours()
        return any(self._saved(family) for family in Family)

    def apply(self, plan: Plan) -> None:
        """Our chains become `plan`, family after family."""
        for family in plan.families:
            self._restore(family, restore_text(plan, family, self._saved(family)))
        for family in set(Family) - set(plan.families):
            self._restore(family, removal_text(self._saved(family)))
        confirm(self.differences(plan))

    def remove(self) -> None:
        """Our chains go, from both families."""
        for family in Family:
            self._restore(family, removal_text(self._saved(family)))

    def differences(self, plan: Plan) -> list[str]:
        """Lines that iptables-save should print and does not, or prints and should not."""
        found: list[str] = []
        for family in plan.families:
            saved = self._saved(family)
            for table in Table:
                wanted = [save_line(rule, family) for rule in plan.of(table, family)]
                kept = [line for line in saved.get(table, ()) if line.startswith("-A")]
                found += differences(wanted, kept, where=f"IPv{family} {table}", chain=second_word)
        return found

    def _restore(self, family: Family, text: str) -> None:
        if text:
            run(self._tool(family, "restore"), "--noflush", "--wait", "10", text=text)

    def _saved(self, family: Family) -> dict[Table, list[str]]:
        tool = self._tool(family, "save")
        if missing(tool):
            return {}
        try:
            return ours(run(tool))
        except EngineError:
            # A kernel without this family, or without these tables, holds nothing of ours.
            return {}

    def _tool(self, family: Family, verb: str) -> str:
        return f"{PROGRAM[family]}-{self.variant}-{verb}"
