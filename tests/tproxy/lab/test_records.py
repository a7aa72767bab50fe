"""What the lab remembers of its pods, without making any."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tproxy.lab.records import (
    LAST,
    TLS_MODE,
    Addresses,
    Lab,
    ProcessId,
    Record,
    State,
    endpoints_text,
    free_number,
    hosts_text,
)
from tproxy.lab.spec import LabError
from tproxy.model.address import Address
from tproxy.model.flow import Direction, Flow
from tproxy.model.identity import Workload
from tproxy.model.upstream_tls import TlsMode, UpstreamTls
from tproxy.policy.compile import compiled
from tproxy.policy.nodes import SourceFile
from tproxy.policy.snapshot import Snapshot

NOBODY_HAS = ProcessId(os.getpid(), started=1)


def record(name: str, number: int) -> Record:
    """A pod that this process supervises."""
    return Record(
        name=name,
        namespace="shop",
        number=number,
        netns=f"tpx-{name}",
        supervisor=ProcessId.of(os.getpid()),
        created=1.5,
        user="65534:65534",
    )


def test_every_pod_has_three_names_in_both_families() -> None:
    lines = hosts_text([record("web", 10), record("db", 2)]).splitlines()[2:]
    names = "web web.shop web.shop.svc.cluster.local"
    assert lines[2:] == [f"192.0.2.10 {names}", f"2001:db8:0:1::a {names}"]
    assert lines[0].startswith("192.0.2.2 db ")


def test_the_lowest_free_number_is_taken() -> None:
    assert [free_number(taken) for taken in ([], [2, 3], [3])] == [2, 4, 2]


def test_a_full_bridge_is_refused() -> None:
    with pytest.raises(LabError, match="addresses are taken"):
        free_number(range(2, LAST + 1))


def test_a_record_is_read_back_as_written(tmp_path: Path) -> None:
    lab, web = Lab(tmp_path), replace(record("web", 2), holder=NOBODY_HAS, env={"A": "b"})
    lab.write(web)
    assert (lab.find("web"), lab.records()) == (web, [web])
    assert web.addresses == Addresses("192.0.2.2", "2001:db8:0:1::2")


def test_a_record_is_for_root_alone(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.write(record("web", 2))
    assert (lab.directory("web") / "record.json").stat().st_mode & 0o077 == 0


def test_a_pid_that_was_used_again_is_no_supervisor() -> None:
    assert replace(record("web", 2), supervisor=NOBODY_HAS).state is State.DEAD


def test_another_pod_of_the_same_name_is_not_the_one_we_know(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.write(record("web", 2))
    assert not lab.knows(replace(record("web", 2), created=2.5))


def test_hosts_files_change_in_place_and_leave_dead_pods_out(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.write(record("web", 2))
    lab.write(record("gone", 3))
    lab.tell_names()
    hosts = lab.directory("web") / "hosts"
    before = hosts.stat().st_ino
    lab.write(replace(record("gone", 3), supervisor=NOBODY_HAS))
    lab.tell_names()
    assert hosts.read_text() == hosts_text([record("web", 2)])
    assert hosts.stat().st_ino == before


def test_labs_in_different_directories_share_no_namespace(tmp_path: Path) -> None:
    usual, other = Lab(), Lab.of({"TPROXY_LAB_DIR": str(tmp_path)})
    assert usual.netns("web") == "tpx-web"
    assert usual.netns("web") != other.netns("web")
    assert usual.bridge_netns != other.bridge_netns


def told(records: list[Record]) -> Snapshot:
    """What a sidecar makes of what it is told of these pods."""
    file = SourceFile("pods.yaml", endpoints_text(records).encode(), discovered=True)
    result = compiled([file], 1, Workload("web", "shop"))
    assert isinstance(result, Snapshot), "\n".join(map(str, result))
    assert result.findings == ()
    return result


def answer_at(policies: Snapshot, host: str) -> UpstreamTls | None:
    """How a connection to an address is secured."""
    here = Address("192.0.2.10", 40000)
    return policies.route(Flow(Direction.OUTBOUND, here, here, Address(host, 8080))).tls


def test_sidecars_speak_mutual_tls_to_captured_pods_and_to_no_others() -> None:
    web = replace(
        record("web", 10),
        captured=True,
        service_account="till",
        trust_domain="td.example",
        labels={"no": "010"},
    )
    policies = told([web, replace(record("db", 2), labels={TLS_MODE: "istio"})])
    for host in (web.addresses.v4, web.addresses.v6):
        assert answer_at(policies, host) == UpstreamTls(
            mode=TlsMode.ISTIO_MUTUAL,
            automatic=True,
            server_name="web.shop.svc.cluster.local",
            subject_alt_names=("spiffe://td.example/ns/shop/sa/till",),
        )
    assert answer_at(policies, "192.0.2.2") is None


def test_a_sidecar_is_told_of_pods_in_one_piece_that_its_user_can_read(tmp_path: Path) -> None:
    lab, web = Lab(tmp_path), replace(record("web", 2), captured=True)
    lab.write(web)
    lab.write(record("plain", 3))
    before = os.umask(0o077)
    try:
        lab.tell_names()
    finally:
        os.umask(before)
    (pods,) = lab.endpoints("web").iterdir()
    assert pods.read_text() == endpoints_text([web, record("plain", 3)])
    assert (pods.stat().st_mode & 0o777, pods.parent.stat().st_mode & 0o777) == (0o644, 0o755)
    assert not lab.endpoints("plain").exists()
    first = pods.open()
    lab.forget(record("plain", 3))
    lab.tell_names()
    with first:
        assert first.read() == endpoints_text([web, record("plain", 3)])
    assert pods.read_text() == endpoints_text([web])
