"""Endpoints that a name server names, and names otherwise while they are in use."""

import sys
from pathlib import Path

import pytest
import trio

from fakes.mesh import APPS, QUIET, ROOT
from fakes.mutual import Mutual
from fakes.traffic import HOST, VIP, istio, shop

pytestmark = pytest.mark.netns

BY_NAME = istio(
    "ServiceEntry",
    f"hosts: [{HOST}], addresses: [{VIP}], location: MESH_INTERNAL, resolution: DNS,"
    " ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8081}]",
)


async def test_a_change_in_the_dns_is_followed_without_a_lost_request(
    mutual: Mutual, tmp_path: Path
) -> None:
    zone, at = tmp_path / "zone", mutual.server.addresses
    zone.write_text(f"{HOST} 1 A {at.v4}\n")
    argv = [sys.executable, str(APPS / "name_server.py"), str(zone)]
    await mutual.client.start(argv, user=ROOT, stdio=QUIET)
    store = await shop(mutual, "v1")
    await mutual.decree(mutual.client, BY_NAME)
    await store.until("v1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_moved, zone, f"{HOST} 1 AAAA {at.v6}\n")
        load = await store.load(400, 2, "--rps=50")
        nursery.cancel_scope.cancel()
    assert load.codes == (400, 0, 0, 0)
    lines = await mutual.mesh.lines(mutual.client, 401)
    asked = [line["upstream_host"] for line in lines]
    assert (asked[0], asked[-1]) == (f"{at.v4}:8081", f"[{at.v6}]:8081")


async def _moved(zone: Path, text: str) -> None:
    await trio.sleep(1)
    zone.write_text(text)
    await trio.sleep_forever()


async def test_names_that_stop_leading_anywhere_keep_their_endpoints(
    mutual: Mutual, tmp_path: Path
) -> None:
    zone = tmp_path / "zone"
    zone.write_text(f"{HOST} 1 A {mutual.server.addresses.v4}\n")
    argv = [sys.executable, str(APPS / "name_server.py"), str(zone)]
    await mutual.client.start(argv, user=ROOT, stdio=QUIET)
    store = await shop(mutual, "v1")
    await mutual.decree(mutual.client, BY_NAME)
    await store.until("v1")
    zone.write_text("")
    await trio.sleep(2.5)
    assert await store.ask() == ("200", "v1")
