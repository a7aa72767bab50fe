"""Which engines to try, and in which order; asking changes nothing in the kernel."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from tproxy_init.engines import Engine
from tproxy_init.engines.iptc import IptcEngine
from tproxy_init.engines.nft import NftEngine
from tproxy_init.engines.restore import RestoreEngine
from tproxy_init.rules import Plan


class Backend(StrEnum):
    """What --backend may say."""

    AUTO = "auto"
    IPTABLES = "iptables"
    NFT = "nft"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class Refused:
    """An engine that did not serve, and why."""

    engine: str
    reason: str

    def __str__(self) -> str:
        """As it stands in an error's list."""
        return f"{self.engine}: {self.reason}"


def engines(backend: Backend) -> list[Engine]:
    """The engines that `backend` admits, the one to prefer first."""
    iptc, nft = IptcEngine(), NftEngine()
    restore = [RestoreEngine("nft"), RestoreEngine("legacy")]
    match backend:
        case Backend.AUTO:
            return [iptc, nft, *restore]
        case Backend.IPTABLES:
            return [iptc]
        case Backend.NFT:
            return [nft]
        case Backend.RESTORE:
            return [*restore]


def holders(candidates: Iterable[Engine]) -> list[Engine]:
    """The engines that find chains of ours in their tables."""
    return [engine for engine in candidates if engine.holds()]


def ordered(candidates: Iterable[Engine]) -> list[Engine]:
    """Whoever holds our chains first: a restart must not leave two engines at work."""
    return sorted(candidates, key=lambda engine: not engine.holds())


def usable(candidates: Iterable[Engine], plan: Plan, refused: list[Refused]) -> Iterator[Engine]:
    """The engines this kernel takes; the others are noted in `refused`."""
    for engine in candidates:
        reason = engine.refusal(plan)
        if reason is None:
            yield engine
        else:
            refused.append(Refused(engine.name, reason))
