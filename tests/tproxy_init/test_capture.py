"""A capture is what was asked, or a refusal that names the option."""

from dataclasses import fields

import pytest

from tproxy_init.capture import OPTIONS, Capture, parse
from tproxy_init.errors import BadInput, Exit
from tproxy_init.values import Span


def test_defaults_are_the_mesh_s_usual_numbers() -> None:
    capture = parse({})
    assert (capture.outbound_port, capture.inbound_port, capture.dns_port) == (15001, 15006, 15053)
    assert capture.proxy_uid == capture.proxy_gid == (Span(1337, 1337),)
    assert [span.first for span in capture.proxy_ports] == [15000, 15020, 15021, 15090]


def test_every_field_has_its_option() -> None:
    assert [option.field for option in OPTIONS] == [field.name for field in fields(Capture)]


def test_spellings_are_unique() -> None:
    names = [name for option in OPTIONS for name in (f"--{option.name}", *option.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        pytest.param(
            {"exclude-outbound-ports": "80:70"},
            "--exclude-outbound-ports: '80:70' ends before it begins",
            id="a bad value names its option",
        ),
        pytest.param({"outbound-port": "0"}, "--outbound-port: '0' is outside", id="port 0"),
        pytest.param({"proxy-uid": "envoy"}, "--proxy-uid: 'envoy' is not numeric", id="user name"),
        pytest.param(
            {"inbound-port": "15001"}, "--inbound-port: 15001 is already", id="one port twice"
        ),
        pytest.param(
            {"dns-port": "15006"}, "--dns-port: 15006 is already", id="DNS on a taken port"
        ),
        pytest.param(
            {"proxy-uid": "none", "proxy-gid": ""}, "captured again, for ever", id="no proxy at all"
        ),
        pytest.param({"include-uids": ""}, "--include-uids: is empty", id="nobody included"),
        pytest.param(
            {"ipv6": "off"}, "--ipv6: 'off' is not one of auto, capture, block", id="mode"
        ),
        pytest.param(
            {"tproxy-table": "254"}, "--tproxy-table: '254' is outside", id="the main table"
        ),
    ],
)
def test_bad_input_is_refused(texts: dict[str, str], message: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse(texts)
    assert message in str(refused.value)
    assert refused.value.exit_code is Exit.BAD_INPUT


def test_naming_outbound_ports_alone_captures_those_ports_alone() -> None:
    assert parse({"include-outbound-ports": "80"}).include_outbound_cidrs == ()
    both = parse({"include-outbound-ports": "80", "include-outbound-cidrs": "*"})
    assert both.include_outbound_cidrs is None
    assert parse({"include-outbound-ports": " "}).include_outbound_cidrs is None
