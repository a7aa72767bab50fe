"""How many TLS handshakes a proxy has counted, by what it says of itself: our metrics, or Envoy's statistics."""

import re
from dataclasses import dataclass
from typing import Self

import trio

from bench.loads import LoadFailed, client
from bench.proxies import ROOT, Proxy
from bench.sidecar import Sidecar

PATIENCE = 10.0
DONE = re.compile(
    r'^(?:tproxy_tls_handshakes_total\{.*result="ok".*\}|\S+\.ssl\.handshake:) (\S+)$', re.MULTILINE
)
RESUMED = re.compile(r"^\S+\.ssl\.session_reused: (\d+)$", re.MULTILINE)
"""Envoy's alone: ours offers no session, and takes none."""


@dataclass(frozen=True, slots=True)
class Handshakes:
    """Those that succeeded, and those of them that proved nothing anew."""

    done: int
    resumed: int

    @classmethod
    def of_page(cls, page: str) -> Self:
        """Read them from the proxy's own counters."""
        return cls(_sum(DONE, page), _sum(RESUMED, page))

    def check(self, before: Self, units: float) -> None:
        """LoadFailed if there was not one full handshake for each unit."""
        done, resumed = self.done - before.done, self.resumed - before.resumed
        if done != units or resumed:
            raise LoadFailed(f"{done} handshakes, {resumed} of them resumed, for {units:g} units")


def _sum(pattern: re.Pattern[str], page: str) -> int:
    return sum(int(float(each)) for each in pattern.findall(page))


async def handshakes(proxy: Proxy, sidecar: Sidecar) -> Handshakes:
    """Ask one of a proxy's sidecars."""
    with trio.fail_after(PATIENCE):
        done = await sidecar.pod.run(client("page", *proxy.counters), user=ROOT)
    if done.returncode:
        raise LoadFailed(done.stderr)
    return Handshakes.of_page(done.stdout)
