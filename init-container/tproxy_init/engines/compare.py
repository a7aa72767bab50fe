"""Compare the rules that should be with those that are."""

from collections.abc import Callable, Sequence


def differences(
    wanted: Sequence[str], found: Sequence[str], *, where: str, chain: Callable[[str], str]
) -> list[str]:
    """Chains may stand in any order; the rules of one chain may not."""
    wanted, found = sorted(wanted, key=chain), sorted(found, key=chain)
    if wanted == found:
        return []
    absent = [f"{where}: missing {line}" for line in wanted if line not in found]
    foreign = [f"{where}: unexpected {line}" for line in found if line not in wanted]
    return absent + foreign or [f"{where}: rules are repeated or out of order"]


def second_word(line: str) -> str:
    """The chain of a rule as iptables-save prints it."""
    return line.split()[1]
