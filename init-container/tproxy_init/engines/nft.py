"""Native nftables: both families in one table of our own, replaced in one transaction."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tproxy_init.engines import EngineError, confirm
from tproxy_init.engines.compare import differences
from tproxy_init.engines.tool import missing, run
from tproxy_init.render import NFT_TABLE, nft_chain_name, nft_text
from tproxy_init.rules import Goto, Jump, Mark, Plan, Redirect, Return, Rule, Tproxy, Zone


@dataclass(frozen=True, slots=True)
class NftEngine:
    """The nft program. Needs CAP_NET_ADMIN only: no lock, no writable file, no xtables module."""

    name: str = "nft"
    home: str = "table inet tpx"

    def refusal(self, plan: Plan) -> str | None:
        """`nft --check` has the kernel itself look at the whole transaction."""
        if absent := missing("nft"):
            return absent
        try:
            run("nft", "--check", "--file", "-", text=nft_text(plan))
        except EngineError as error:
            forbidden = "Operation not permitted" in str(error)
            return f"{error}; CAP_NET_ADMIN is needed" if forbidden else str(error)
        return None

    def holds(self) -> bool:
        """Our table exists."""
        if missing("nft"):
            return False
        try:
            run("nft", "list", "table", *NFT_TABLE.split())
        except EngineError:
            return False
        return True

    def apply(self, plan: Plan) -> None:
        """Our table is replaced as a whole, and read back."""
        run("nft", "--file", "-", text=nft_text(plan))
        confirm(self.differences(plan))

    def remove(self) -> None:
        """Our table goes."""
        if not missing("nft"):
            # Adding first makes deleting what is not there no error.
            run("nft", "--file", "-", text=f"add table {NFT_TABLE}\ndelete table {NFT_TABLE}\n")

    def differences(self, plan: Plan) -> list[str]:
        """Reasons and verdicts, in order: how nft spells matches differs between its releases."""
        wanted = [_expected(rule) for rule in plan.rules]
        found = [_found(rule) for rule in _listed()]
        return differences(wanted, found, where=f"table {NFT_TABLE}", chain=_chain)


ARGUMENTS = ("target", "port", "value")
"""What the verdicts we use call what they are given."""


def _expected(rule: Rule) -> str:
    match rule.target:
        case Return():
            verdict = "return None"
        case Jump(chain):
            verdict = f"jump {chain}"
        case Goto(chain):
            verdict = f"goto {chain}"
        case Redirect(port):
            verdict = f"redirect {port}"
        case Zone(value) | Mark(value) | Tproxy(_, value):
            verdict = f"mangle {value}"
    return f"{nft_chain_name(rule.table, rule.chain)}: {verdict} # {rule.why}"


def _listed() -> list[dict[str, Any]]:
    """The rules of our table as the kernel has them; none when there is no such table."""
    try:
        listing = json.loads(run("nft", "--json", "list", "table", *NFT_TABLE.split()))
    except EngineError:
        return []
    return [item["rule"] for item in listing["nftables"] if "rule" in item]


def _found(rule: Mapping[str, Any]) -> str:
    [(verb, fields)] = rule["expr"][-1].items()
    argument = fields and next((fields[key] for key in ARGUMENTS if key in fields), fields)
    return f"{rule['chain']}: {verb} {argument} # {rule.get('comment', '')}"


def _chain(line: str) -> str:
    return line.split(":", 1)[0]
