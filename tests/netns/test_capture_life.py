"""Applying, applying again, repairing, verifying and removing, under every engine."""

import ctypes
import json
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest

from fakes.capture_pod import (
    PROXY,
    V4,
    V6,
    Pod,
    dialling,
    namespace,
    own_xtables_lock,
    pod_and_peer,
    populated,
    run_init,
)
from tproxy_init.apply import apply
from tproxy_init.capture import parse
from tproxy_init.child import in_child
from tproxy_init.detect import Backend, engines, ordered, usable
from tproxy_init.engines import EngineError, legacy
from tproxy_init.engines.nft import NftEngine
from tproxy_init.engines.restore import RestoreEngine
from tproxy_init.errors import Ipv6Uncaptured
from tproxy_init.plan import plan
from tproxy_init.rules import Family, Plan, Table

pytestmark = [pytest.mark.netns, pytest.mark.slow]

ENGINES = ["iptables", "nft", "restore"]

NET_ADMIN, NET_RAW = 12, 13
CAPABILITY_VERSION = 0x20080522
PR_CAPBSET_DROP = 24

FOREIGN = """*raw
:THEIRS - [0:0]
-A PREROUTING -p udp -m udp --dport 9 -j THEIRS
-A OUTPUT -p udp -m udp --dport 9 -j THEIRS
-A THEIRS -m comment --comment "a \\"quoted\\" reason" -j RETURN
COMMIT
*mangle
-A PREROUTING -p tcp -m tcp --dport 7 -j MARK --set-xmark 0x7/0xff
COMMIT
*nat
:THEIRS - [0:0]
:TPX-LIKE - [0:0]
-A PREROUTING -p tcp -m tcp --dport 9 -j THEIRS
-A OUTPUT -p tcp -m tcp --dport 9 -m limit --limit 5/min -j THEIRS
-A OUTPUT -p udp -m udp --dport 5999 -j REDIRECT --to-ports 5998
-A POSTROUTING -p tcp -m tcp --dport 11 -j MASQUERADE
-A THEIRS -m string --string "TPX_OUT" --algo bm -j RETURN
-A THEIRS -p tcp -m comment --comment TPX_IN -j REDIRECT --to-ports 99
COMMIT
"""

AHEAD = "*nat\n-I OUTPUT -d 192.0.2.1 -j ACCEPT\nCOMMIT\n"

NFT_FOREIGN = """table inet theirs {
  chain out {
    type filter hook output priority 0; policy accept;
    tcp dport 9 counter comment "theirs"
  }
}
"""

FLAGS = {
    "plain": (),
    "everything": (
        "--dns",
        "--inbound-mode=tproxy",
        "--exclude-uids=7-9",
        "--include-gids=0-2000",
        "--include-interfaces=net+,eth0",
        "--exclude-interfaces=side+",
        "--exclude-outbound-ports=" + ",".join(str(port) for port in range(101, 141, 2)),
        "--exclude-inbound-cidrs=192.0.2.0/24,2001:db8:f::/48",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def lock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with own_xtables_lock(tmp_path_factory.mktemp("lock")):
        yield


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def made() -> Iterator[Pod]:
    """A pod with foreign rules of every kind of table."""
    with pod_and_peer() as made:
        for variant in ("legacy", "nft"):
            made.pod.run(f"iptables-{variant}-restore", text=FOREIGN)
            made.pod.run(f"ip6tables-{variant}-restore", text=FOREIGN)
        made.pod.run("nft", "-f", "-", text=NFT_FOREIGN)
        yield made


def foreign(saves: str) -> list[str]:
    """What is not ours in the saves: theirs may speak of our names."""
    return [line for line in saves.splitlines() if "TPX_" not in line or "THEIRS" in line]


def applied(made: Pod, engine: str, *flags: str) -> str:
    """Apply, and what the kernel holds then."""
    ran = made.pod.init("apply", f"--backend={engine}", *flags)
    assert (ran.code, ran.err) == (0, "")
    return made.kernel()


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_apply_is_idempotent_and_cleanup_leaves_exactly_the_foreign_state(
    made: Pod, engine: str, flags: tuple[str, ...]
) -> None:
    before = made.kernel()
    dumps = {applied(made, engine, *flags) for _ in range(3)}
    assert len(dumps) == 1
    assert before not in dumps
    for _ in range(2):
        assert made.pod.init("cleanup").code == 0
        assert made.kernel() == before


def test_foreign_rules_stand_byte_for_byte_and_before_ours(made: Pod, engine: str) -> None:
    before = made.saves()
    applied(made, engine, "--dns")
    after = made.saves()
    assert foreign(after) == foreign(before)
    ours = "-A OUTPUT -j TPX_OUT"
    assert after.count(f"{ours}\n") == (0 if engine == "nft" else 2)
    assert f"{ours}\n-A OUTPUT" not in after


def test_a_smaller_plan_leaves_nothing_of_a_larger_one(made: Pod, engine: str) -> None:
    # Sorted, because nft lists chains in the order they came to be.
    wanted = sorted(applied(made, engine).splitlines())
    applied(made, engine, *FLAGS["everything"])
    assert sorted(applied(made, engine).splitlines()) == wanted


DRIFT = {
    "legacy": {
        "duplicate jump": "iptables-legacy -t nat -A OUTPUT -j TPX_OUT",
        "missing jump": "iptables-legacy -t nat -D OUTPUT -j TPX_OUT",
        "missing jump, IPv6": "ip6tables-legacy -t nat -D PREROUTING -p tcp -j TPX_IN",
        "flushed chain": "iptables-legacy -t nat -F TPX_REDIR",
        "stray return": "ip6tables-legacy -t nat -I TPX_OUT -j RETURN",
        "another jump": "iptables-legacy -t nat -A THEIRS -p tcp -j TPX_IN_REDIR",
    },
    "nft": {
        "duplicate jump": "nft add rule inet tpx nat_output jump TPX_OUT",
        "missing jump": "nft flush chain inet tpx nat_output",
        "flushed chain": "nft flush chain inet tpx TPX_REDIR",
        "stray return": "nft insert rule inet tpx TPX_OUT return",
        "strange rule": "nft add rule inet tpx TPX_OUT counter",
    },
    "xtables over nft": {
        "duplicate jump": "iptables-nft -t nat -A OUTPUT -j TPX_OUT",
        "missing jump": "ip6tables-nft -t nat -D OUTPUT -j TPX_OUT",
        "flushed chain": "iptables-nft -t nat -F TPX_REDIR",
        "stray return": "ip6tables-nft -t nat -I TPX_OUT -j RETURN",
    },
}
HOMES = {"iptables": "legacy", "nft": "nft", "restore": "xtables over nft"}


def test_drift_is_found_by_verify_and_repaired_by_apply(made: Pod, engine: str) -> None:
    wanted = applied(made, engine)
    for name, command in DRIFT[HOMES[engine]].items():
        made.pod.run(*command.split())
        found = made.pod.init("verify")
        assert (found.code, "holds something else than the plan" in found.err) == (6, True), name
        assert applied(made, engine) == wanted, name


def test_python_iptables_writes_the_bytes_that_iptables_restore_writes() -> None:
    flags = FLAGS["everything"]
    texts = dict(flag.removeprefix("--").split("=") for flag in flags if "=" in flag)
    wanted = plan(parse(texts | {"dns": "true"}), tuple(Family))
    # Alone, so that no packet counts.
    with namespace() as alone:
        ran = alone.init("apply", "--backend=iptables", "--ipv6=capture", *flags)
        assert (ran.code, ran.err) == (0, "")
        by_library = alone.inside(held)
        alone.inside(partial(RestoreEngine("legacy").apply, wanted))
        assert alone.inside(held) == by_library


def held() -> list[str]:
    """The legacy tables as the kernel keeps them."""
    return [legacy.table_bytes(family, table).hex() for family in Family for table in Table]


def test_nothing_passes_by_and_nothing_fails_while_rules_are_applied_again(engine: str) -> None:
    with populated() as made:
        applied(made, engine, "--force")
        with dialling(made.pod, (V4.far, V6.far), 8080) as met:
            for _ in range(6):
                applied(made, engine, "--force")
        assert set(met) == {"outbound"}
        assert met["outbound"] > 200


def test_an_open_connection_outlives_applying_again(engine: str) -> None:
    with populated() as made:
        applied(made, engine)
        assert made.pod.inside(partial(slow_dial, engine)) == "outbound"


def slow_dial(engine: str) -> str:
    """Connect, apply again meanwhile, and only then ask who is there."""
    with socket.create_connection((V4.far, 8080), timeout=2) as dialled:
        in_child(partial(_again, engine))
        dialled.send(b"?")
        return str(json.loads(dialled.recv(500))[0])


def _again(engine: str) -> str:
    code, _, err = run_init(["apply", f"--backend={engine}"])
    assert (code, err) == (0, "")
    return ""


def test_the_legacy_variant_of_restore_serves_too() -> None:
    def load() -> list[object]:
        done = apply(parse({"dns": "true"}), candidates=[RestoreEngine("legacy")], force=False)
        return [done.engine, RestoreEngine("legacy").differences(done.plan)]

    with pod_and_peer() as made:
        before = made.kernel()
        assert made.pod.inside(load) == ["restore (legacy)", []]
        wanted = made.kernel()
        assert made.pod.inside(load) == ["restore (legacy)", []]
        assert made.kernel() == wanted != before
        assert made.pod.init("cleanup").code == 0
        assert "TPX_" not in made.saves()


def test_auto_takes_python_iptables_where_the_kernel_can_and_asking_changes_nothing() -> None:
    with pod_and_peer() as made:
        before = made.kernel()
        assert made.pod.inside(lambda: [usable_names(), legacy_tables()]) == [
            ["iptables", "nft", "restore (nft)", "restore (legacy)"],
            [],
        ]
        assert made.kernel() == before
        assert "by iptables:" in made.pod.init("apply").out


def usable_names() -> list[str]:
    """The engines that would take the default plan here."""
    wanted = plan(parse({}), tuple(Family))
    return [engine.name for engine in usable(ordered(engines(Backend.AUTO)), wanted, [])]


def legacy_tables() -> list[str]:
    """The legacy tables that exist here."""
    return sorted(table for family in Family for table in legacy.instantiated(family))


def test_auto_stays_with_the_engine_that_holds_our_chains(made: Pod, engine: str) -> None:
    wanted = applied(made, engine)
    ran = made.pod.init("apply")
    name = "restore (nft)" if engine == "restore" else engine
    assert (ran.code, f"by {name}:" in ran.out) == (0, True)
    assert made.kernel() == wanted


def test_forcing_another_engine_moves_the_rules(made: Pod, engine: str) -> None:
    wanted = applied(made, engine)
    for other in [other for other in ENGINES if other != engine]:
        applied(made, other)
    assert applied(made, engine) == wanted


def test_without_raw_sockets_auto_falls_to_nft() -> None:
    with pod_and_peer() as made:
        code, out, _ = made.pod.inside(partial(limited, ["apply"], keep_tools=True))
        assert (code, out) == (0, "capturing IPv4 and IPv6 by nft: 16 rules\n")


def test_when_nothing_can_capture_every_reason_is_told_and_nothing_is_left() -> None:
    with pod_and_peer() as made:
        before = made.kernel()
        code, _, err = made.pod.inside(partial(limited, ["apply"], keep_tools=False))
        assert code == 3
        for reason in (
            "CAP_NET_RAW is needed",
            "nft: nft is not installed",
            "restore (nft): iptables-nft-",
        ):
            assert reason in err
        assert made.kernel() == before


def test_without_privileges_the_refusal_says_what_is_missing() -> None:
    def powerless(verb: str) -> tuple[int, str, str]:
        drop(NET_ADMIN, NET_RAW)
        return run_init([verb])

    with pod_and_peer() as made:
        before = made.kernel()
        code, _, err = made.pod.inside(partial(powerless, "apply"))
        assert (code, "Operation not permitted; CAP_NET_ADMIN is needed" in err) == (3, True)
        code, _, err = made.pod.inside(partial(powerless, "cleanup"))
        assert (code, "routes and addresses: netlink:" in err) == (7, True)
        assert made.kernel() == before


def limited(argv: list[str], *, keep_tools: bool) -> tuple[int, str, str]:
    """Run as if the container had NET_ADMIN only, or no netfilter programs either."""
    if not keep_tools:
        os.environ["PATH"] = "/nowhere"
    drop(NET_RAW)
    return run_init(argv)


def drop(*capabilities: int) -> None:
    """Give up some capabilities for this process and what it runs, keeping the rest."""
    header = struct.pack("Ii", CAPABILITY_VERSION, 0)
    held = ctypes.create_string_buffer(24)
    libc = ctypes.CDLL(None)
    assert libc.capget(header, held) == 0
    words = list(struct.unpack("6I", held.raw))
    for capability in capabilities:
        assert libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0
    lost = sum(1 << capability for capability in capabilities)
    words[:3] = [word & ~lost for word in words[:3]]
    assert libc.capset(header, struct.pack("6I", *words)) == 0


@dataclass(slots=True)
class HalfEngine:
    """An engine that the kernel fails: whatever it is given, or IPv6 only."""

    given: list[Plan] = field(default_factory=list)
    removed: int = 0
    name: str = "half"
    home: str = "nowhere"
    fails_late: bool = True

    def refusal(self, plan: Plan) -> str | None:
        return None if self.fails_late or Family.V6 not in plan.families else "no IPv6"

    def holds(self) -> bool:
        return False

    def apply(self, plan: Plan) -> None:
        self.given.append(plan)
        if self.fails_late:
            raise EngineError("the kernel said no")

    def remove(self) -> None:
        self.removed += 1

    def differences(self, plan: Plan) -> list[str]:
        return [] if plan in self.given else ["everything is missing"]


def test_a_commit_that_fails_is_removed_and_the_next_engine_serves() -> None:
    def fall_through() -> list[object]:
        half = HalfEngine()
        done = apply(parse({}), candidates=[half, NftEngine()], force=False)
        return [half.removed, done.engine, [str(refused) for refused in done.refused]]

    with pod_and_peer() as made:
        told = made.pod.inside(fall_through)
    assert told == [1, "nft", ["half: the kernel said no"]]


def test_a_usable_ipv6_address_that_cannot_be_captured_ends_everything() -> None:
    def v4_only(ipv6: str) -> str:
        try:
            apply(parse({"ipv6": ipv6}), candidates=[HalfEngine(fails_late=False)], force=False)
        except Ipv6Uncaptured as refused:
            return str(refused)
        return "applied"

    with pod_and_peer() as made:
        before = made.kernel()
        assert "Use --ipv6 block" in made.pod.inside(partial(v4_only, "auto"))
        assert made.kernel() == before
        assert made.pod.inside(partial(v4_only, "block")) == "applied"
    with namespace() as alone:
        assert alone.inside(partial(v4_only, "auto")) == "applied"
        assert "Use --ipv6 block" in alone.inside(partial(v4_only, "capture"))


def test_blocked_ipv6_goes_nowhere_and_comes_back_with_cleanup() -> None:
    with populated() as made:
        before = made.kernel()
        for _ in range(2):
            assert made.pod.init("apply", "--ipv6=block").code == 0
        assert made.pod.dial(V6.far, 8080, uid=PROXY).who == "OSError"
        assert made.peer.dial(V6.pod, 8080).who == "TimeoutError"
        assert made.pod.dial(V6.loopback, 8080).who == "app"
        assert made.pod.dial(V4.far, 8080).who == "outbound"
        assert made.pod.init("cleanup").code == 0
        assert made.pod.dial(V6.far, 8080).who == "peer"
        assert made.kernel().count("lookup") == before.count("lookup")


SIGNS = {
    "link": "ip link add cni0 type bridge",
    "legacy chain": "iptables-legacy -t nat -N KUBE-SERVICES",
    "nft chain": "iptables-nft -t nat -N KUBE-SERVICES",
}


@pytest.mark.parametrize("sign", SIGNS)
def test_a_host_s_own_namespace_is_refused_without_force(sign: str) -> None:
    with pod_and_peer() as made:
        made.pod.run(*SIGNS[sign].split())
        before = made.kernel()
        ran = made.pod.init("apply")
        assert (ran.code, "looks like a host's own" in ran.err) == (4, True)
        assert made.kernel() == before
        assert made.pod.init("apply", "--force").code == 0


VERIFIED = {
    "plain": (),
    "others": ("--exclude-uids=0", "--exclude-gids=0", "--exclude-outbound-ports=80-99"),
    "included": ("--include-gids=4000", "--include-outbound-cidrs=203.0.113.0/24,2001:db8:d::/64"),
    "one port": ("--include-outbound-ports=9,10",),
    "nothing outbound": ("--include-outbound-cidrs=none",),
    "tproxy": ("--inbound-mode=tproxy", "--dns"),
    "blocked": ("--ipv6=block",),
}


@pytest.mark.parametrize("flags", VERIFIED.values(), ids=VERIFIED)
def test_verify_dials_both_ways_in_both_families(flags: tuple[str, ...]) -> None:
    with pod_and_peer() as made:
        ran = made.pod.init("apply", "--verify", *flags)
    assert (ran.code, ran.err) == (0, "")
    families = ("IPv4",) if "--ipv6=block" in flags else ("IPv4", "IPv6")
    for family in families:
        assert f"ok: {family} inbound reaches the proxy" in ran.out
        assert f"ok: {family} loopback is left alone" in ran.out
        outbound = f"ok: {family} outbound reaches the proxy" in ran.out
        assert outbound == ("--include-outbound-cidrs=none" not in flags)
    assert ("ok: IPv6 is blocked" in ran.out) == ("--ipv6=block" in flags)


def test_verify_passes_on_every_engine(engine: str) -> None:
    with pod_and_peer() as made:
        applied(made, engine)
        assert made.pod.init("verify").code == 0


def test_verify_dials_what_reading_back_cannot_see() -> None:
    with pod_and_peer() as made:
        applied(made, "iptables")
        # Somebody else's rule ahead of ours keeps a connection from us.
        made.pod.run("iptables-legacy-restore", "-n", text=AHEAD)
        ran = made.pod.init("verify")
        assert (ran.code, "IPv4 outbound reaches the proxy: 192.0.2.1" in ran.err) == (6, True)


def test_verify_before_apply_says_so() -> None:
    with pod_and_peer() as made:
        ran = made.pod.init("verify")
        assert (ran.code, "run apply first" in ran.err) == (6, True)


def test_a_pod_without_ipv6_is_captured_in_ipv4() -> None:
    with namespace() as alone:
        alone.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        assert alone.init("apply").out.startswith("capturing IPv4 by")
        assert alone.init("verify").code == 0
