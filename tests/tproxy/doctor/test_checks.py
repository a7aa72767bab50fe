"""What the doctor says of facts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tproxy.doctor.checks import Check, Verdict, examine
from tproxy.doctor.facts import (
    CaptureFacts,
    EngineFacts,
    Facts,
    IdentityFacts,
    ProcessFacts,
    SidecarFacts,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WELL = Facts(
    now=NOW,
    versions="Python 3.11",
    user_name="tproxy",
    ready=200,
    taken=(15001,),
    sidecar=SidecarFacts(7),
    ipv6=True,
    capture=CaptureFacts((EngineFacts("nft", None, holds=True),), (4, 6)),
    policies=(),
    identity=IdentityFacts("spiffe://a/b", NOW, NOW + timedelta(hours=1)),
    synchronised=True,
    descriptors=65536,
    wanted_descriptors=32768,
)

DOWN = replace(WELL, ready=None, sidecar=None)


def said(facts: Facts, what: str) -> list[Check]:
    """What is said about one thing."""
    return [check for check in examine(facts) if check.what == what]


def test_where_all_is_well_nothing_has_to_be_mended() -> None:
    checks = examine(WELL)
    assert {check.verdict for check in checks} == {Verdict.OK}
    assert not any(check.mend for check in checks)


@pytest.mark.parametrize(
    ("facts", "what", "verdict", "found"),
    [
        pytest.param(
            replace(WELL, fast=False), "installation", "warn", "without httptools", id="slow"
        ),
        pytest.param(
            replace(WELL, user_name="bob"), "user", "FAIL", "belongs to bob", id="uid taken"
        ),
        pytest.param(
            replace(WELL, others=(ProcessFacts(7, "java"),)),
            "user",
            "FAIL",
            "process 7",
            id="past it",
        ),
        pytest.param(
            replace(WELL, sees_processes=False), "user", "?", "not checked: root", id="a stranger"
        ),
        pytest.param(
            replace(DOWN, taken=(15006,)),
            "sidecar",
            "FAIL",
            "others have 15006",
            id="port",
        ),
        pytest.param(replace(DOWN, taken=()), "sidecar", "FAIL", "though the kernel", id="down"),
        pytest.param(
            replace(DOWN, taken=(), capture=CaptureFacts()),
            "sidecar",
            "warn",
            "not running",
            id="not begun",
        ),
        pytest.param(replace(WELL, ready=503), "sidecar", "warn", "not ready (503)", id="leaving"),
        pytest.param(
            replace(WELL, ready=None),
            "sidecar",
            "FAIL",
            "process 7 runs and does not answer",
            id="stuck",
        ),
        pytest.param(replace(WELL, ready=404), "sidecar", "FAIL", "with 404", id="an impostor"),
        pytest.param(
            replace(WELL, sidecar=SidecarFacts(7, ("CAP_NET_RAW",))),
            "capabilities",
            "warn",
            "needs none, and has CAP_NET_RAW",
            id="more than it needs",
        ),
        pytest.param(
            replace(WELL, tproxy_inbound=True),
            "capabilities",
            "FAIL",
            "has none, and --inbound-mode tproxy needs one",
            id="less than it needs",
        ),
        pytest.param(
            replace(WELL, tproxy_inbound=True, sidecar=SidecarFacts(7, ("CAP_NET_RAW",))),
            "capabilities",
            "ok",
            "has CAP_NET_RAW",
            id="what it needs",
        ),
        pytest.param(replace(WELL, ipv6=False), "ipv6", "ok", "nobody", id="no IPv6"),
        pytest.param(
            replace(
                WELL, capture=CaptureFacts((EngineFacts("nft", None, holds=True),), families=(4,))
            ),
            "ipv6",
            "warn",
            "not part of the plan",
            id="IPv6 past it",
        ),
        pytest.param(
            replace(WELL, unreadable=("/etc/tproxy/certificates/tls.key",)),
            "files",
            "FAIL",
            "user 1337 may not read /etc/tproxy/certificates/tls.key",
            id="files of another user",
        ),
        pytest.param(
            replace(WELL, remarks=("a.yaml:1", "b")),
            "policies",
            "warn",
            "2 remarks, the first: a.yaml:1",
            id="remarks",
        ),
        pytest.param(
            replace(WELL, capture=CaptureFacts(problem="no such file")),
            "capture",
            "?",
            "no such",
            id="unasked",
        ),
        pytest.param(
            replace(WELL, capture=CaptureFacts((EngineFacts("nft", "no nft", holds=False),))),
            "kernel",
            "FAIL",
            "nft: no nft",
            id="no engine",
        ),
        pytest.param(
            replace(WELL, capture=CaptureFacts((EngineFacts("nft", None, holds=False),), (4, 6))),
            "capture",
            "FAIL",
            "everything goes past the sidecar",
            id="flushed",
        ),
        pytest.param(
            replace(
                WELL,
                ready=None,
                capture=CaptureFacts((EngineFacts("nft", None, holds=False),), (4, 6), ("a link",)),
            ),
            "capture",
            "warn",
            "no rules; a link: --force is needed",
            id="a host",
        ),
        pytest.param(
            replace(
                WELL,
                capture=CaptureFacts(
                    (EngineFacts("nft", None, holds=True, differences=("gone",)),)
                ),
            ),
            "capture",
            "FAIL",
            "nft: gone",
            id="rules missing",
        ),
        pytest.param(replace(WELL, policies=None), "policies", "warn", "none", id="no policies"),
        pytest.param(
            replace(WELL, policies=("a.yaml:1", "b")),
            "policies",
            "FAIL",
            "2 mistakes, the first: a.yaml:1",
            id="policies",
        ),
        pytest.param(replace(WELL, identity=None), "identity", "warn", "none", id="no identity"),
        pytest.param(
            replace(WELL, identity=IdentityFacts(problem="expired")),
            "identity",
            "FAIL",
            "expired",
            id="identity",
        ),
        pytest.param(
            replace(WELL, now=NOW + timedelta(minutes=41)),
            "identity",
            "warn",
            "spiffe://a/b until",
            id="late",
        ),
        pytest.param(
            replace(WELL, synchronised=False), "clock", "warn", "not synchronised", id="clock"
        ),
        pytest.param(replace(WELL, synchronised=None), "clock", "?", "does not say", id="no clock"),
        pytest.param(
            replace(WELL, descriptors=1024), "descriptors", "warn", "32768 are", id="descriptors"
        ),
        pytest.param(
            replace(WELL, memory=64 << 20), "memory", "warn", "bound to 64 MiB", id="memory"
        ),
        pytest.param(
            replace(WELL, memory=256 << 20), "memory", "ok", "bound to 256 MiB", id="enough memory"
        ),
        pytest.param(
            replace(WELL, misled=("TPROXY_ADMIN_PORT",)),
            "environment",
            "FAIL",
            "a Kubernetes service's",
            id="service",
        ),
        pytest.param(
            replace(WELL, units=(("tproxy", "disabled", "active"),)),
            "systemd",
            "warn",
            "is disabled and",
            id="unit",
        ),
        pytest.param(
            replace(WELL, units=(("tproxy", "enabled", "active"),)),
            "systemd",
            "ok",
            "enabled and active",
            id="units",
        ),
    ],
)
def test_what_is_wrong_is_named(facts: Facts, what: str, verdict: str, found: str) -> None:
    (check,) = said(facts, what)
    assert check.verdict == verdict
    assert found in check.found
    assert check.mend or verdict in ("ok", "?")


def test_who_may_not_look_into_the_kernel_is_told_who_may() -> None:
    facts = replace(WELL, sees_kernel=False, capture=CaptureFacts())
    (check,) = said(facts, "capture")
    assert (check.verdict, check.mend.partition(";")[0]) == (Verdict.UNKNOWN, "ask as root")
    assert "not checked" in check.found
    assert not said(facts, "kernel")


def test_a_key_that_others_may_read_is_told_beside_the_identity() -> None:
    assert WELL.identity is not None
    facts = replace(WELL, identity=replace(WELL.identity, told=("the key is open",)))
    assert [check.verdict for check in said(facts, "identity")] == ["warn", "ok"]


def test_the_first_engine_that_serves_is_the_one_that_would_be_used() -> None:
    names = {"iptables": "gone", "nft": None, "restore": None}
    engines = tuple(EngineFacts(name, why, holds=False) for name, why in names.items())
    (check,) = said(replace(WELL, capture=CaptureFacts(engines)), "kernel")
    assert check.found == "rules would be loaded by nft; so could restore"
