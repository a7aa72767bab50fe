"""The desk: looking changes nothing, changing needs a POST, and the rest is refused by name."""

import json
import logging
from collections.abc import Iterator

import pytest

from tproxy.admin import ADMIN, HEALTH, METRICS, MOST_CANDIDATE_BYTES, Desk, Table, View
from tproxy.model.http import Content, Headers, HttpVersion, Request, RequestHead
from tproxy.model.identity import Workload
from tproxy.telemetry.metrics import Metrics


class Sidecar:
    """What the desk is about. What changes: all of it."""

    def __init__(self) -> None:
        self.ready = True
        self.refreshed = 0
        self.stopped = 0
        self.reloaded = 0
        self.sound = True
        self.metrics = Metrics(Workload("shop", "web"), "1.2.3")

    def refresh(self) -> None:
        self.refreshed += 1

    def stop(self) -> None:
        self.stopped += 1

    async def reload(self) -> bool:
        self.reloaded += 1
        return self.sound

    async def check(self, content: bytes) -> tuple[bool, list[str]]:
        return self.sound, [content.decode()]

    def view(self) -> View:
        return View(
            ready=lambda: self.ready,
            policies=lambda: "generation 7 hash abcd",
            server_info=lambda: {"version": "1.2.3"},
            config=lambda: {"generation": 7},
            clusters=lambda: "192.0.2.1:80 connections 2\n",
            certificates=lambda: {"certificates": []},
            metrics=self.metrics,
            refresh=self.refresh,
            stop=self.stop,
            reload=self.reload,
            check=self.check,
            decisions=lambda query: [query] if query else None,
        )


@pytest.fixture
def sidecar() -> Sidecar:
    return Sidecar()


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


async def ask(
    sidecar: Sidecar,
    method: str,
    target: str,
    *,
    table: Table = ADMIN,
    accept: str = "*/*",
    body: bytes = b"",
) -> tuple[int, Headers, bytes]:
    """Ask the desk, and return status, fields and content."""
    head = RequestHead(
        method.encode(),
        b"http",
        b"localhost",
        target.encode(),
        Headers(((b"accept", accept.encode()),)),
        HttpVersion.HTTP11,
    )
    response = await Desk(table, sidecar.view()).answer(Request(head, Content(body)))
    content = b"".join([part async for part in response.body])
    return response.head.status, response.head.headers, content


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param("/ready", b"LIVE\npolicies generation 7 hash abcd\n", id="ready"),
        pytest.param("/server_info", b'{\n  "version": "1.2.3"\n}\n', id="server info"),
        pytest.param("/config_dump", b'{\n  "generation": 7\n}\n', id="config dump"),
        pytest.param("/certs", b'{\n  "certificates": []\n}\n', id="certificates"),
        pytest.param("/clusters", b"192.0.2.1:80 connections 2\n", id="clusters"),
    ],
)
async def test_each_page_shows_its_part(sidecar: Sidecar, target: str, expected: bytes) -> None:
    status, fields, content = await ask(sidecar, "GET", target)
    assert (status, content) == (200, expected)
    assert fields.get(b"content-length") == b"%d" % len(expected)
    assert fields.get(b"cache-control") == b"no-store"


async def test_decisions_are_explained_to_those_who_say_which(sidecar: Sidecar) -> None:
    status, _, content = await ask(sidecar, "GET", "/decisions?id=r-1")
    assert (status, json.loads(content)) == (200, {"decisions": [{"id": ["r-1"]}]})
    assert (await ask(sidecar, "GET", "/decisions"))[0] == 400


async def test_the_index_names_every_page_and_its_methods(sidecar: Sidecar) -> None:
    _, _, content = await ask(sidecar, "GET", "/")
    listed = {tuple(line.split()) for line in content.decode().splitlines()}
    assert listed == {(method, path) for path, methods in ADMIN.items() for method in methods}


@pytest.mark.parametrize(
    "table", [pytest.param(HEALTH, id="health"), pytest.param(ADMIN, id="admin")]
)
async def test_readiness_is_refused_while_the_proxy_drains(sidecar: Sidecar, table: Table) -> None:
    sidecar.ready = False
    target = "/ready" if table is ADMIN else "/healthz/ready"
    status, _, content = await ask(sidecar, "GET", target, table=table)
    assert (status, content) == (503, b"NOT READY\n")


@pytest.mark.parametrize("target", ["/metrics", "/stats/prometheus"])
async def test_metrics_are_refreshed_and_shown(sidecar: Sidecar, target: str) -> None:
    status, fields, content = await ask(sidecar, "GET", target, table=METRICS)
    assert status == 200
    assert sidecar.refreshed == 1
    assert b"# TYPE istio_build gauge" in content
    assert (fields.get(b"content-type") or b"").startswith(b"text/plain")


async def test_metrics_are_shown_as_openmetrics_to_who_asks_for_that(sidecar: Sidecar) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    _, fields, content = await ask(sidecar, "GET", "/metrics", table=METRICS, accept=accept)
    assert (fields.get(b"content-type") or b"").startswith(b"application/openmetrics-text")
    assert content.endswith(b"# EOF\n")


async def test_stats_show_the_samples_that_are_asked_for(sidecar: Sidecar) -> None:
    _, _, content = await ask(sidecar, "GET", "/stats?filter=istio_build")
    (line,) = content.decode().splitlines()
    assert line.startswith("istio_build{")


async def test_the_log_level_is_shown_and_changed(sidecar: Sidecar) -> None:
    assert (await ask(sidecar, "POST", "/logging?level=error"))[2] == b"error\n"
    assert logging.getLogger().level == logging.ERROR
    assert (await ask(sidecar, "GET", "/logging"))[2] == b"error\n"


@pytest.mark.parametrize("query", ["", "?level=loud", "?level=", "?level=ERROR"])
async def test_a_level_that_is_none_is_refused_with_those_that_are(
    sidecar: Sidecar, query: str
) -> None:
    logging.getLogger().setLevel(logging.WARNING)
    status, _, content = await ask(sidecar, "POST", f"/logging{query}")
    assert status == 400
    assert b"debug, info, warning, error" in content
    assert logging.getLogger().level == logging.WARNING


async def test_a_post_makes_the_proxy_leave(sidecar: Sidecar) -> None:
    assert (await ask(sidecar, "POST", "/quitquitquit"))[0] == 200
    assert sidecar.stopped == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("query", ["", "?level=debug", "?filter=x"])
async def test_looking_never_changes_anything(sidecar: Sidecar, method: str, query: str) -> None:
    logging.getLogger().setLevel(logging.WARNING)
    for path in ADMIN:
        await ask(sidecar, method, path + query)
    assert sidecar.stopped == 0
    assert logging.getLogger().level == logging.WARNING


async def test_a_head_has_a_gets_fields_and_no_content(sidecar: Sidecar) -> None:
    status, fields, content = await ask(sidecar, "HEAD", "/clusters")
    assert (status, content) == (200, b"")
    assert fields.get(b"content-length") == b"27"


@pytest.mark.parametrize("table", [ADMIN, METRICS, HEALTH], ids=["admin", "metrics", "health"])
@pytest.mark.parametrize("target", ["/nothing", "/ready/", "//ready", "/READY", "/%72eady", ""])
async def test_a_page_that_is_not_there_is_not_found(
    sidecar: Sidecar, table: Table, target: str
) -> None:
    assert (await ask(sidecar, "GET", target, table=table))[0] == 404


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        pytest.param("POST", "/ready", b"GET", id="POST to a page"),
        pytest.param("GET", "/quitquitquit", b"POST", id="GET to an action"),
        pytest.param("HEAD", "/quitquitquit", b"POST", id="HEAD to an action"),
        pytest.param("DELETE", "/logging", b"GET, POST", id="DELETE"),
    ],
)
async def test_a_method_that_a_page_does_not_take_is_refused_with_those_it_takes(
    sidecar: Sidecar, method: str, target: str, allowed: bytes
) -> None:
    status, fields, _ = await ask(sidecar, method, target)
    assert (status, fields.get(b"allow")) == (405, allowed)
    assert sidecar.stopped == 0


async def test_what_other_ports_show_cannot_change_anything() -> None:
    assert {
        method for table in (METRICS, HEALTH) for page in table.values() for method in page
    } == {"GET"}


async def test_the_config_dump_is_json(sidecar: Sidecar) -> None:
    _, fields, content = await ask(sidecar, "GET", "/config_dump")
    assert fields.get(b"content-type") == b"application/json"
    assert json.loads(content) == {"generation": 7}


async def test_whoever_drains_is_alive_and_not_ready(sidecar: Sidecar) -> None:
    sidecar.ready = False
    assert (await ask(sidecar, "GET", "/healthz/ready", table=HEALTH))[0] == 503
    assert (await ask(sidecar, "GET", "/healthz/live", table=HEALTH))[0] == 200


@pytest.mark.parametrize(("sound", "status"), [(True, 200), (False, 422)], ids=["sound", "bad"])
async def test_policies_are_read_again_on_a_post(
    sidecar: Sidecar, sound: bool, status: int
) -> None:
    sidecar.sound = sound
    assert (await ask(sidecar, "GET", "/policy/reload"))[0] == 405
    assert sidecar.reloaded == 0
    answered, _, content = await ask(sidecar, "POST", "/policy/reload")
    assert (answered, json.loads(content), sidecar.reloaded) == (status, {"generation": 7}, 1)


@pytest.mark.parametrize(("sound", "status"), [(True, 200), (False, 422)], ids=["sound", "bad"])
async def test_a_candidate_is_only_looked_at(sidecar: Sidecar, sound: bool, status: int) -> None:
    sidecar.sound = sound
    answered, _, content = await ask(sidecar, "POST", "/policy/check", body=b"kind: X")
    assert (answered, json.loads(content)) == (status, {"findings": ["kind: X"]})
    assert sidecar.reloaded == 0


async def test_a_candidate_has_a_bound(sidecar: Sidecar) -> None:
    body = bytes(MOST_CANDIDATE_BYTES + 1)
    assert (await ask(sidecar, "POST", "/policy/check", body=body))[0] == 413
