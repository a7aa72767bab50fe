"""A sidecar as its administration sees it, with nothing to show."""

from tproxy.admin import View
from tproxy.model.identity import Workload
from tproxy.telemetry.metrics import Metrics


async def sound() -> bool:
    """Have the policies be as the files say."""
    return True


async def clean(_: bytes) -> tuple[bool, list[str]]:
    """Find nothing in a candidate."""
    return True, []


def plain_view() -> View:
    """What the desk may see of it."""
    return View(
        ready=lambda: True,
        policies=lambda: "generation 1 hash -",
        server_info=dict,
        config=dict,
        clusters=str,
        certificates=dict,
        metrics=Metrics(Workload("shop", "web"), "1"),
        refresh=lambda: None,
        stop=lambda: None,
        reload=sound,
        check=clean,
        decisions=lambda _: [],
    )
