"""How a connection would be secured is told with its reason, and never guessed."""

import click
import pytest

from fakes.destinations import EXTERNAL, MESHED, PLAIN, POD, STORE, secured, snapshot
from tproxy.cli.account_text import account_text
from tproxy.model.flow import Direction
from tproxy.policy.account import TlsAccount, account
from tproxy.policy.explain import Examiner
from tproxy.policy.explain_tls import securing
from tproxy.policy.facts import Facts, facts_of
from tproxy.policy.schema import CaseProtocol, CaseRequest
from tproxy.policy.snapshot import Snapshot


def asked(host: str | None = None, *, to: str | None = None, tcp: bool = False) -> Facts:
    """A request, or a connection that is no HTTP."""
    protocol = CaseProtocol.TCP if tcp else CaseProtocol.HTTP
    request = CaseRequest(port=80, host=host, destination_ip=to, protocol=protocol)
    return facts_of(request, Direction.OUTBOUND)


def explained(policies: Snapshot, facts: Facts) -> list[str]:
    """What people are told of it."""
    text = click.unstyle(account_text(account(Examiner(policies).explain(facts))))
    return text.partition("not known\n")[2].splitlines()


@pytest.mark.parametrize(
    ("documents", "facts", "missing"),
    [
        pytest.param([MESHED], asked(STORE), ("destination.ip",), id="where it goes"),
        pytest.param([secured("a.example", "mode: SIMPLE")], asked(), ("request.host",), id="what it asks for"),
        pytest.param([secured("a.example", "mode: SIMPLE")], asked("a.example"), (), id="neither where nobody has an address"),
        pytest.param([secured("a.example", "mode: SIMPLE")], asked(tcp=True), (), id="nor what is no request"),
        pytest.param([MESHED, secured(STORE, "mode: SIMPLE")], asked(to=POD), (), id="nor where its address says it"),
        pytest.param([MESHED], asked(to="203.0.113.9"), (), id="nor where no rule asks"),
    ],
)  # fmt: skip
def test_what_is_not_known_leaves_it_open(
    documents: list[str], facts: Facts, missing: tuple[str, ...]
) -> None:
    found = securing(snapshot(*documents).destinations, facts)
    assert found is not None
    assert found.missing == missing
    assert (found.mode == "UNDETERMINED") is bool(missing)


def test_a_request_of_which_nothing_was_kept_is_not_known() -> None:
    facts = Facts(asked("a.example", to=POD).flow)
    found = securing(snapshot(secured("a.example", "mode: SIMPLE")).destinations, facts)
    assert found is not None
    assert found.missing == ("request",)


def test_what_comes_in_is_not_secured() -> None:
    facts = facts_of(CaseRequest(port=80))
    assert securing(snapshot(MESHED).destinations, facts) is None


STORE_LINE = f"  to: {STORE}, named by db/e (p.yaml:1)"


@pytest.mark.parametrize(
    ("documents", "lines"),
    [
        pytest.param([], ["  TLS: none of ours, no rule is about it and no sidecar is known there"], id="nothing"),
        pytest.param([MESHED], [STORE_LINE, "  TLS: ISTIO_MUTUAL, automatic: a sidecar answers there", f"    asks for: {STORE}", "    accepts: spiffe://cluster.local/ns/db/sa/till"], id="automatic"),
        pytest.param([MESHED, secured(STORE, "mode: DISABLE")], [STORE_LINE, "  TLS: none of ours, as web/r (p.yaml:9) says"], id="disabled"),
        pytest.param([PLAIN.replace("serviceAccount: till", "labels: {}"), secured(STORE, "mode: ISTIO_MUTUAL")], [STORE_LINE, "  TLS: ISTIO_MUTUAL, as web/r (p.yaml:9) says", f"    asks for: {STORE}", "    accepts: anybody of the trust domain"], id="anybody of the mesh"),
        pytest.param([PLAIN, secured(STORE, "mode: SIMPLE")], [STORE_LINE, "  TLS: SIMPLE, as web/r (p.yaml:9) says", f"    asks for: {STORE}", f"    accepts: {STORE}"], id="a name"),
        pytest.param([PLAIN, secured(STORE, "mode: SIMPLE, insecureSkipVerify: true")], [STORE_LINE, "  TLS: SIMPLE, as web/r (p.yaml:9) says", f"    asks for: {STORE}", "    accepts: anybody, as verification is skipped"], id="anybody"),
        pytest.param([secured("*", "mode: SIMPLE")], ["  TLS: SIMPLE, as web/r (p.yaml:4) says", "    asks for: nobody", "    accepts: nobody, as no name is known: write sni or subjectAltNames"], id="no name"),
    ],
)  # fmt: skip
def test_people_are_told_how_and_why(documents: list[str], lines: list[str]) -> None:
    assert explained(snapshot(*documents), asked(to=POD, tcp=True)) == lines


def test_people_are_told_on_what_it_depends() -> None:
    said = explained(snapshot(MESHED), asked(STORE))
    assert said[-1] == "  TLS: it depends on what is not known: destination.ip"


def test_a_request_to_no_known_address_has_the_name_that_it_asks_for() -> None:
    said = explained(snapshot(EXTERNAL), asked("d.example", to="203.0.113.9"))
    assert said[1:] == [
        "  to: d.example",
        "  TLS: none of ours, no rule is about it and no sidecar is known there",
    ]


def test_scripts_are_told_too() -> None:
    told = account(Examiner(snapshot(MESHED)).explain(asked(to=POD))).tls
    assert told == TlsAccount(
        "ISTIO_MUTUAL",
        (STORE,),
        "db/e (p.yaml:1)",
        None,
        STORE,
        ("spiffe://cluster.local/ns/db/sa/till",),
        insecure=False,
    )
