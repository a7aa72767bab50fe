"""Laws that hold for every plan, whatever is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tproxy_init.capture import parse
from tproxy_init.plan import MULTIPORT_SLOTS, multiports, plan
from tproxy_init.rules import PREFIX, Family, Goto, Jump, Plan, Table, chains
from tproxy_init.values import Span

EVERYTHING = {
    "dns": "true",
    "include-uids": "1000",
    "include-interfaces": "eth0",
    "exclude-interfaces": "eth1",
    "exclude-inbound-cidrs": "192.0.2.0/24,2001:db8::/32",
}


@pytest.fixture(
    params=[parse({}), parse(EVERYTHING), parse(EVERYTHING | {"inbound-mode": "tproxy"})]
)
def whole(request: pytest.FixtureRequest) -> Plan:
    return plan(request.param, tuple(Family))


def test_every_chain_led_to_has_rules(whole: Plan) -> None:
    led_to = {rule.target.chain for rule in whole.rules if isinstance(rule.target, Jump | Goto)}
    assert led_to == {rule.chain for rule in whole.rules if not rule.hook}


def test_each_of_the_kernel_s_chains_leads_in_once(whole: Plan) -> None:
    hooks = [(rule.table, rule.chain) for rule in whole.rules if rule.hook]
    assert len(hooks) == len(set(hooks))


def test_no_chain_stands_in_two_tables(whole: Plan) -> None:
    homes = {(rule.table, rule.chain) for rule in whole.rules if not rule.hook}
    assert len(homes) == len({chain for _, chain in homes})


def test_chain_names_fit_the_kernel(whole: Plan) -> None:
    assert all(name.startswith(PREFIX) and len(name) <= 28 for name in chains(whole.rules))


def test_reasons_fit_nft_s_comments_and_need_no_quoting(whole: Plan) -> None:
    assert all(0 < len(rule.why) < 128 and '"' not in rule.why for rule in whole.rules)


def test_the_proxy_is_let_go_before_anything_is_redirected(whole: Plan) -> None:
    order = [
        rule.target for rule in whole.rules if (rule.table, rule.chain) == (Table.NAT, "TPX_OUT")
    ]
    first = order.index(Goto("TPX_PROXY"))
    assert all(not isinstance(target, Jump) for target in order[:first])


def test_a_plan_for_one_family_has_none_of_the_other_s_rules() -> None:
    only = plan(parse(EVERYTHING), (Family.V4,))
    assert all(rule.fits(Family.V4) for rule in only.rules)
    assert only.tables() == [Table.RAW, Table.NAT]


@given(st.lists(st.booleans(), max_size=60))
def test_multiport_groups_keep_every_port_and_fit_the_kernel(ranges: list[bool]) -> None:
    spans = [Span(10 * n + 1, 10 * n + 1 + wide) for n, wide in enumerate(ranges)]
    groups = list(multiports(spans))
    assert [span for group in groups for span in group] == spans
    assert all(sum(span.slots for span in group) <= MULTIPORT_SLOTS for group in groups)
