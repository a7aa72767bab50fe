"""The ways to get a plan into the kernel, all with one shape."""

from collections.abc import Sequence
from typing import Protocol

from tproxy_init.rules import Plan


class EngineError(Exception):
    """An engine could not do what it was asked; its tables are as they were."""


def confirm(found: Sequence[str]) -> None:
    """EngineError when reading back found differences."""
    if found:
        raise EngineError(f"the kernel holds something else than was committed: {found[0]}")


class Engine(Protocol):
    """One way into the kernel."""

    @property
    def name(self) -> str:
        """What --backend and messages call it."""

    @property
    def home(self) -> str:
        """The kernel's tables it writes; engines with one home see each other's rules."""

    def refusal(self, plan: Plan) -> str | None:
        """Why this kernel will not take `plan` this way, as far as asking changes nothing."""

    def holds(self) -> bool:
        """Chains of ours are in this engine's tables."""

    def apply(self, plan: Plan) -> None:
        """Make our chains be `plan`, read back to be sure; foreign rules stay as they are."""

    def remove(self) -> None:
        """Take every chain of ours out; nothing happens when there is none."""

    def differences(self, plan: Plan) -> list[str]:
        """How the kernel, read back, differs from `plan`."""
