"""One policy as a whole, for whoever explains what its rules do among those of all others."""

from dataclasses import dataclass

from tproxy.policy.authorize import CompiledRule
from tproxy.policy.schema import Action


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """One policy as a whole: the data path asks only its rules."""

    namespace: str
    name: str
    action: Action
    file: str
    line: int
    tried: bool = False
    """Whether it is a dry run."""
    left_out: str = ""
    """Why it is not about this workload; empty when it is."""
    rules: tuple[CompiledRule, ...] = ()

    def __str__(self) -> str:
        """`foo/readers`."""
        return f"{self.namespace}/{self.name}"
