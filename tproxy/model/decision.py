"""What policies say of a connection or a request, and which one says it."""

from enum import StrEnum

import msgspec


class RuleName(msgspec.Struct, frozen=True):
    """One rule of one policy, and where it stands."""

    namespace: str
    policy: str
    index: int
    file: str
    line: int

    def __str__(self) -> str:
        """`ns[foo]-policy[readers]-rule[0]`, as Istio names rules to Envoy and Envoy to its log."""
        return f"ns[{self.namespace}]-policy[{self.policy}]-rule[{self.index}]"

    @property
    def owner(self) -> str:
        """Name its policy: `foo/readers`."""
        return f"{self.namespace}/{self.policy}"

    @property
    def place(self) -> str:
        """Say where it stands: `readers.yaml:7`."""
        return f"{self.file}:{self.line}"


class Reason(StrEnum):
    """Why a decision is what it is."""

    DEFAULT = "default"
    """No policy that allows applies, and the default decided."""
    AUDITED_DEFAULT = "audited_default"
    """The same, and the default asks for a mark."""
    ALLOW_MATCH = "allow_match"
    DENY_MATCH = "deny_match"
    NO_ALLOW_MATCH = "no_allow_match"
    """Some policy allows something, and none allows this."""
    AMBIGUOUS_PATH = "ambiguous_path"
    """A path that some would read as another one, so that no policy can speak of it."""
    PROBE = "probe"
    """A probe that the configuration exempts."""
    PLAINTEXT = "plaintext_on_strict_port"
    """A connection that proves nothing where PeerAuthentication is STRICT: refused before any policy is asked."""


class Decision(msgspec.Struct, frozen=True):
    """Allowed or not, why, and by which rule."""

    allowed: bool
    reason: Reason = Reason.DEFAULT
    rule: RuleName | None = None
    """The rule that matched; None where none did."""
    audited_by: RuleName | None = None
    """The first AUDIT rule that matched."""
    allowed_if_enforced: bool | None = None
    """What it would be with all dry-run policies in force; None when there are none."""

    @property
    def details(self) -> str:
        """Say it in Envoy's words, for `response_code_details`."""
        return f"rbac_access_denied_matched_policy[{self.rule or 'none'}]"


ALLOWED = Decision(allowed=True)
UNPROVEN = Decision(allowed=False, reason=Reason.PLAINTEXT)


def verdict(allowed: bool | None) -> str:  # noqa: FBT001 - its only argument
    """Write a decision in a word; empty when there is none."""
    return "" if allowed is None else "ALLOW" if allowed else "DENY"
