"""Horizontal bars as SVG, readable on light and dark pages alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from bench.figures import rounded

WIDTH, MARGIN, LABELS, VALUES = 720, 12, 130, 90
BAR, PITCH, HEADING = 14, 20, 34
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.heading { font-weight: 600 }
.bar { fill: #8c959f }
.ours { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .bar { fill: #6e7681 }
  .ours { fill: #4493f8 }
}
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One comparison: a heading, and a bar for each name; the first is ours."""

    heading: str
    bars: Mapping[str, float]

    @property
    def height(self) -> int:
        """How far down the next panel begins."""
        return HEADING + PITCH * len(self.bars) + MARGIN


def svg(panels: Sequence[Panel]) -> str:
    """All panels, one below the other."""
    parts, top = [], 0
    for panel in panels:
        parts.append(_panel(panel, top))
        top += panel.height
    size = f'width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    return f"{head}\n<style>{STYLE}</style>\n{''.join(parts)}</svg>\n"


def _panel(panel: Panel, top: int) -> str:
    longest = max(panel.bars.values())
    lines = [
        f'<text class="heading" x="{MARGIN}" y="{top + HEADING - 14}">{escape(panel.heading)}</text>'
    ]
    for place, (name, value) in enumerate(panel.bars.items()):
        share = value / longest if longest else 0.0
        lines.append(_bar(name, value, share, top + HEADING + place * PITCH, ours=place == 0))
    return "".join(f"{line}\n" for line in lines)


def _bar(name: str, value: float, share: float, top: int, *, ours: bool) -> str:
    width = max(1, round(share * (WIDTH - LABELS - VALUES - 2 * MARGIN)))
    left, base = MARGIN + LABELS, top + BAR - 3
    return (
        f'<text x="{left - 8}" y="{base}" text-anchor="end">{escape(name)}</text>'
        f'<rect class="{"ours" if ours else "bar"}" x="{left}" y="{top}" width="{width}" height="{BAR}" rx="2"/>'
        f'<text x="{left + width + 6}" y="{base}">{rounded(value)}</text>'
    )
