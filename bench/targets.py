"""What the comparisons should come to."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.summary import Ratio, Summary, Value

AGAINST_MITMPROXY = 5.0
"""How many times better than mitmproxy in everything that both can do."""


@dataclass(frozen=True, slots=True)
class Target:
    """A bound for one id of the summary."""

    id: str
    bound: float
    at_least: bool = False

    def met(self, measured: float) -> bool:
        """Whether a measured median is within the bound."""
        return measured >= self.bound if self.at_least else measured <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.bound:g}"


TARGETS = (
    Target("h1_c32_cpu_vs_envoy_equal", 1.0),
    Target("h1_c32_cpu_vs_envoy_bare", 1.6),
    Target("h1_c256_rate_vs_envoy_equal", 1.0, at_least=True),
    Target("h1_c1_p50_vs_envoy_equal", 1.3),
    Target("h2_1x32_rate_vs_envoy_equal", 0.25, at_least=True),
    Target("tcp_bulk8_cpu_vs_envoy", 0.6),
    Target("tcp_bulk1_rate_vs_envoy", 0.9, at_least=True),
    Target("tcp_conn_rate_vs_envoy", 0.9, at_least=True),
    Target("mtls_h1_cpu_vs_envoy_equal", 1.2),
    Target("mtls_bulk_cpu_vs_envoy", 1.3),
    Target("mtls_handshakes_vs_envoy", 0.7, at_least=True),
    Target("idle_pss_vs_envoy", 0.55),
    Target("tcp_idle_conn_kib", 8),
    Target("start_s", 0.5),
    Target("h1_cpu_1000_policies_vs_1", 1.2),
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A target, and what was measured; None if nothing was."""

    target: Target
    measured: Ratio | Value | None

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        match self.measured:
            case None:
                return "not measured"
            case Ratio(median=middle) | Value(value=middle):
                return "met" if self.target.met(middle) else "missed"

    def __str__(self) -> str:
        return f"{self.target.id:36} {self.target!s:8} {described(self.measured):34} {self.verdict}"


def judged(summary: Summary) -> list[Judgement]:
    """Every target, with what was measured of it."""
    return [
        Judgement(target, summary.get(target.id)) for target in (*TARGETS, *_mitmproxy(summary))
    ]


def described(measured: Ratio | Value | None) -> str:
    """`0.93 (0.90-1.02, 5 pairs)`."""
    match measured:
        case None:
            return "-"
        case Value():
            return f"{measured.value:.3g} {measured.unit}"
        case Ratio():
            spread = f"{measured.min:.3g}-{measured.max:.3g}"
            return f"{measured.median:.3g} ({spread}, {measured.pairs} pairs)"


def _mitmproxy(summary: Summary) -> Iterator[Target]:
    for id_ in summary:
        if id_.endswith("_vs_mitmproxy"):
            better_is_more = "_rate_vs_" in id_
            bound = AGAINST_MITMPROXY if better_is_more else 1 / AGAINST_MITMPROXY
            yield Target(id_, bound, at_least=better_is_more)
