"""Values of the init step's options, read as the init step reads them."""

import pytest

from tproxy.inject.containers import DNS_PORT
from tproxy.inject.values import CAPTURE, size, switch
from tproxy_init.capture import OPTIONS, parse
from tproxy_init.errors import BadInput

TEXTS = [
    "",
    "*",
    "80",
    "80,443",
    "8000-8010",
    "8000:8010",
    "0",
    "65536",
    "90-80",
    "http",
    "80,,443",
    "10.0.0.0/8",
    "10.0.0.1/8",
    "2001:db8::/32",
    "10.0.0.0/33",
    "eth0",
    "eth0,net1",
    "eth 0",
    "redirect",
    "tproxy",
    "auto",
    "block",
    "1000",
    "1000-2000",
    "80, 443",
    " * ",
    " ",
]


def refused(option: str, text: str) -> bool:
    """Whether the init step refuses a value."""
    try:
        parse({option: text})
    except BadInput:
        return True
    return False


@pytest.mark.parametrize("option", CAPTURE)
@pytest.mark.parametrize("text", TEXTS)
def test_injection_refuses_what_the_init_step_would(option: str, text: str) -> None:
    try:
        CAPTURE[option](text)
    except ValueError:
        assert refused(option, text)
    else:
        assert not refused(option, text)


def test_the_dns_port_is_the_init_steps() -> None:
    (default,) = [option.default for option in OPTIONS if option.name == "dns-port"]
    assert str(DNS_PORT) == default


def test_every_option_is_one_of_the_init_steps() -> None:
    assert set(CAPTURE) <= {option.name for option in OPTIONS}


@pytest.mark.parametrize(("text", "on"), [("true", True), ("false", False)])
def test_a_switch_is_true_or_false(text: str, on: bool) -> None:
    assert switch(text) is on


def test_a_switch_is_nothing_else() -> None:
    with pytest.raises(ValueError, match="'yes' is neither"):
        switch("yes")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2", 2),
        ("0.5", 0.5),
        (".5", 0.5),
        ("500m", 0.5),
        ("1k", 1000),
        ("1Ki", 1024),
        ("1Gi", 1024**3),
        ("1E", 10**18),
        ("1e3", 1000),
        ("1E-1", 0.1),
    ],
)
def test_an_amount_is_the_number_that_kubernetes_reads(text: str, number: float) -> None:
    assert float(size(text)) == number


@pytest.mark.parametrize("text", ["", "much", "1KB", "-1", "1 Gi", "1e999"])
def test_an_amount_is_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="is no amount"):
        size(text)
