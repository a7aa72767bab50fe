"""A directory comes into force as a whole, and a bad one changes nothing."""

import errno
import logging
from pathlib import Path

import pytest
import trio
import trio.testing

from fakes.policies import WORKLOAD, authorization
from tproxy.stores.data_link import publish
from tproxy.stores.policy_loader import BadPolicies, PolicyLoader, load
from tproxy.stores.watch import Changes

DRY = '{"istio.io/dry-run": "true"}'
BAD = "apiVersion: tproxy/v1\nkind: Nonsense\n"


@pytest.fixture
def proxy_policy() -> str:
    """A policy file that compiles: the one that operators copy."""
    return (Path(__file__).parents[3] / "policies" / "proxy.yaml").read_text()


def test_without_a_directory_nothing_is_declared() -> None:
    snapshot = load(None, 7)
    assert (snapshot.generation, dict(snapshot.ports)) == (7, {})


def test_a_start_with_bad_policies_is_refused_with_every_finding(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(BAD)
    with pytest.raises(BadPolicies) as caught:
        PolicyLoader(tmp_path)
    assert [Path(finding.file).name for finding in caught.value.findings] == ["a.yaml", "b.yaml"]
    assert "a.yaml" in str(caught.value)


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPolicies):
        PolicyLoader(tmp_path / "missing")


def test_files_that_are_no_policies_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "notes.txt").write_text("remember the milk")
    load(tmp_path, 1)
    assert "notes.txt" in caplog.text


def test_what_is_worth_a_look_is_logged_and_no_flood_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = ", ".join(f"/p{at}-*" for at in range(102))
    (tmp_path / "a.yaml").write_text(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\n"
        f"spec: {{rules: [{{to: [{{operation: {{paths: [{paths}]}}}}]}}]}}\n"
    )
    PolicyLoader(tmp_path)
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert [record.getMessage() for record in caplog.records][-1] == "and 2 more like these"
    assert len(caplog.records) == 101


async def test_a_good_reload_is_in_force_and_wakes_who_waits(
    tmp_path: Path, proxy_policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    loader = PolicyLoader(tmp_path)
    before = loader.store.current
    (tmp_path / "proxy.yaml").write_text(proxy_policy)
    assert await loader.reload()
    assert (before.generation, loader.store.current.generation) == (1, 2)
    assert loader.last.findings == ()
    assert "generation 2 are in force" in caplog.text


async def test_a_bad_reload_changes_nothing_and_says_why(
    tmp_path: Path, proxy_policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "proxy.yaml").write_text(proxy_policy)
    loader = PolicyLoader(tmp_path)
    before = loader.store.current
    (tmp_path / "broken.yaml").write_text(BAD)
    assert not await loader.reload()
    assert loader.store.current is before
    assert "broken.yaml" in loader.last.findings[0]
    assert "the policies of generation 1 stay in force" in caplog.text
    assert loader.describe()["last_attempt"] == {
        "at": loader.last.at,
        "findings": loader.last.findings,
    }


async def test_a_mended_directory_is_taken_again(tmp_path: Path, proxy_policy: str) -> None:
    loader = PolicyLoader(tmp_path)
    (tmp_path / "proxy.yaml").write_text(BAD)
    assert not await loader.reload()
    (tmp_path / "proxy.yaml").write_text(proxy_policy)
    assert await loader.reload()
    assert loader.describe()["generation"] == 2


async def test_files_that_did_not_change_keep_their_generation(tmp_path: Path) -> None:
    loader = PolicyLoader(tmp_path)
    assert await loader.reload()
    assert loader.store.current.generation == 1


async def test_a_change_of_the_files_is_told(tmp_path: Path, proxy_policy: str) -> None:
    loader = PolicyLoader(tmp_path)
    told = trio.Event()

    async def reload() -> None:
        await loader.reload()
        told.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(loader.watch, reload)
        await trio.testing.wait_all_tasks_blocked()
        (tmp_path / "proxy.yaml").write_text(proxy_policy)
        with trio.fail_after(5):
            await told.wait()
        nursery.cancel_scope.cancel()
    assert loader.store.current.generation == 2


ENTRY = (
    "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a, namespace: web}\n"
    "spec: {hosts: [a.example], addresses: [192.0.2.10]}\n"
)


async def test_endpoints_are_read_and_watched_beside_the_policies(
    tmp_path: Path, proxy_policy: str
) -> None:
    policies, endpoints = tmp_path / "policies", tmp_path / "endpoints"
    policies.mkdir()
    endpoints.mkdir()
    loader = PolicyLoader(policies, endpoints=endpoints)
    digests = [loader.store.current.digest]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loader.watch, loader.reload)
        for file, text in ((endpoints / "a.yaml", ENTRY), (policies / "b.yaml", proxy_policy)):
            await trio.testing.wait_all_tasks_blocked()
            file.write_text(text)
            with trio.fail_after(5):
                await loader.store.superseded()
            digests.append(loader.store.current.digest)
        nursery.cancel_scope.cancel()
    assert len(set(digests)) == 3
    shown = loader.describe()
    assert shown["endpoints"] == str(endpoints)
    entries = [{"entry": "web/a", "place": f"{endpoints}/a.yaml:1", "hosts": ("a.example",)}]
    assert shown["destinations"] == {"rules": [], "entries": entries}


def test_endpoints_alone_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ENTRY)
    assert load(None, 1, endpoints=tmp_path).destinations is not None


async def test_bad_endpoints_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ENTRY)
    loader = PolicyLoader(None, endpoints=tmp_path)
    (tmp_path / "a.yaml").write_text(authorization("{rules: [{}]}"))
    assert not await loader.reload()
    assert "endpoints are ServiceEntry objects only" in loader.last.findings[0]
    assert loader.store.current.generation == 1


async def test_without_a_directory_nothing_is_watched() -> None:
    loader = PolicyLoader(None)
    await loader.watch(loader.reload)


@pytest.mark.parametrize(
    ("content", "sound", "found"),
    [
        pytest.param(b"", True, 0, id="sound"),
        pytest.param(BAD.encode(), False, 1, id="bad"),
    ],
)
async def test_a_candidate_is_looked_at_and_not_taken(
    content: bytes, sound: bool, found: int
) -> None:
    loader = PolicyLoader(None)
    verdict, findings = await loader.check(content)
    assert (verdict, len(findings)) == (sound, found)
    assert loader.store.current.generation == 1


async def test_what_workers_took_is_followed_and_what_is_bad_is_not(
    tmp_path: Path, proxy_policy: str
) -> None:
    loader = PolicyLoader(tmp_path)
    (tmp_path / "proxy.yaml").write_text(proxy_policy)
    loader.follow()
    loader.follow()
    assert loader.store.current.generation == 2
    (tmp_path / "proxy.yaml").write_text(BAD)
    loader.follow()
    assert loader.store.current.generation == 2


async def test_the_same_mistakes_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loader = PolicyLoader(tmp_path)
    (tmp_path / "broken.yaml").write_text(BAD)
    for _ in range(2):
        assert not await loader.reload()
    assert caplog.text.count("broken.yaml") == 1


def test_every_rule_is_shown_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "authz.yaml").write_text(
        authorization("{rules: [{}]}")
        + "---\n"
        + authorization("{action: DENY, rules: [{}]}", name="q", annotations=DRY)
    )
    loader = PolicyLoader(tmp_path, WORKLOAD)
    rules = loader.describe()["rules"]
    assert rules == [
        {
            "action": action,
            "dry_run": tried,
            "rule": f"ns[web]-policy[{name}]-rule[0]",
            "place": f"{tmp_path}/authz.yaml:{line}",
        }
        for action, tried, name, line in (("ALLOW", False, "p", 4), ("DENY", True, "q", 9))
    ]


async def test_without_watches_it_goes_on_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loader = PolicyLoader(tmp_path)

    def exhausted(_: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Changes, "_add", exhausted)
    await loader.watch(loader.reload)
    assert "send SIGHUP" in caplog.text


async def test_labels_that_change_change_which_policies_are_about_us(tmp_path: Path) -> None:
    (policies := tmp_path / "policies").mkdir()
    spec = "{selector: {matchLabels: {role: front}}, rules: [{}]}"
    (policies / "authz.yaml").write_text(authorization(spec))
    (labels := tmp_path / "labels").write_text('app="other"\nrole="back"\n')
    loader = PolicyLoader(policies, WORKLOAD, labels_file=labels)
    assert loader.describe()["rules"] == []
    labels.write_text('app="other"\nrole="front"\n')
    assert await loader.reload()
    assert loader.workload.labels == {"app": "shop", "role": "front"}
    assert loader.describe()["rules"]
    assert loader.named().startswith("generation 2 ")
    assert await loader.reload()
    assert loader.store.current.generation == 2


async def test_labels_that_cannot_be_read_change_nothing(tmp_path: Path) -> None:
    (labels := tmp_path / "labels").write_text('app="web"\n')
    loader = PolicyLoader(None, labels_file=labels)
    labels.write_text('app="web"\nrole=front\n')
    assert not await loader.reload()
    assert loader.workload.labels == {"app": "web"}
    assert "line 2: 'role=front'" in loader.last.findings[0]
    labels.unlink()
    assert not await loader.reload()
    with pytest.raises(BadPolicies, match="No such file"):
        PolicyLoader(None, labels_file=labels)


async def test_workers_to_come_have_the_labels_too(tmp_path: Path) -> None:
    (labels := tmp_path / "labels").write_text('app="web"\n')
    loader = PolicyLoader(None, labels_file=labels)
    labels.write_text('app="shop"\n')
    loader.follow()
    assert (loader.workload.app, loader.store.current.generation) == ("shop", 2)


async def test_a_volume_of_labels_is_watched(tmp_path: Path) -> None:
    publish(tmp_path, {"labels": b'app="web"\n'})
    loader = PolicyLoader(None, labels_file=tmp_path / "labels")
    changed = trio.Event()

    async def reloaded() -> None:
        assert await loader.reload()
        changed.set()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loader.watch, reloaded)
            await trio.testing.wait_all_tasks_blocked()
            publish(tmp_path, {"labels": b'app="shop"\n'})
            await changed.wait()
            nursery.cancel_scope.cancel()
    assert loader.workload.app == "shop"
