"""Both spellings and the environment are one option; what is bad ends before anything starts."""

import json
import re
from pathlib import Path

import pytest

from tproxy_init.__main__ import main
from tproxy_init.capture import OPTIONS
from tproxy_init.detect import Backend
from tproxy_init.errors import BadInput, Exit
from tproxy_init.options import CONTROLS, Format, Verb, read
from tproxy_init.values import Span

PAGE = Path(__file__).parent.parent.parent / "docs" / "capture.md"

ISTIO = [
    "-p", "15001", "-z", "15006", "-u", "1337", "-g", "1337", "-m", "TPROXY", "-i", "*", "-x", "",
    "-b", "*", "-d", "15090,15021,15020", "-o", "25", "-q", "443", "-c", "eth1", "--redirect-dns",
    "--capture-all-dns", "--dry-run",
]  # fmt: skip

OURS = [
    "apply",
    "--outbound-port=15001",
    "--inbound-port=15006",
    "--proxy-uid=1337",
    "--proxy-gid=1337",
    "--inbound-mode=tproxy",
    "--include-outbound-cidrs=*",
    "--exclude-outbound-cidrs=",
    "--include-inbound-ports=*",
    "--exclude-inbound-ports=15090,15021,15020",
    "--exclude-outbound-ports=25",
    "--include-outbound-ports=443",
    "--exclude-interfaces=eth1",
    "--dns=true",
    "--dns-servers=*",
    "--dry-run",
]

ISTIO_LONG = [
    "--envoy-port=15001",
    "--inbound-capture-port=15006",
    "--istio-inbound-interception-mode=TPROXY",
    "--istio-service-cidr=*",
    "--istio-service-exclude-cidr=",
    "--istio-inbound-ports=*",
    "--istio-local-exclude-ports=15090,15021,15020",
    "--istio-local-outbound-ports-exclude=25",
    "--istio-outbound-ports=443",
    "--istio-exclude-interfaces=eth1",
    "--redirect-dns",
    "--dry-run",
]


def test_istio_s_flags_and_ours_are_one() -> None:
    assert read(ISTIO, {}) == read(OURS, {}) == read(ISTIO_LONG, {})


def test_flags_alone_mean_apply() -> None:
    assert read(["--proxy-uid", "7"], {}).verb is Verb.APPLY


def test_the_environment_fills_in_and_the_flag_wins() -> None:
    environment = {
        "TPROXY_PROXY_UID": "2000",
        "TPROXY_EXCLUDE_OUTBOUND_PORTS": "25",
        "TPROXY_INCLUDE_INBOUND_PORTS": "",
        "TPROXY_BACKEND": "nft",
        "TPROXY_DRY_RUN": "1",
    }
    request = read(["apply", "--proxy-uid=1000"], environment)
    assert request.capture.proxy_uid == (Span(1000, 1000),)
    assert request.capture.exclude_outbound_ports == (Span(25, 25),)
    assert request.capture.include_inbound_ports is None
    assert (request.backend, request.dry_run) == (Backend.NFT, True)


def test_an_empty_flag_is_an_empty_list() -> None:
    assert read(["plan", "-b", ""], {}).capture.include_inbound_ports == ()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        pytest.param(["apply", "--backend=magic"], "--backend: 'magic' is not one of", id="engine"),
        pytest.param(["plan", "--format=xml"], "--format: 'xml' is not one of", id="format"),
        pytest.param(["apply", "--force=perhaps"], "--force: 'perhaps' is neither", id="boolean"),
        pytest.param(
            ["apply", "-o", "80:70"], "--exclude-outbound-ports: '80:70' ends", id="alias"
        ),
    ],
)
def test_a_bad_value_is_refused_by_its_option_s_name(argv: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        read(argv, {})


def test_a_bad_value_of_the_environment_is_traced_to_its_variable() -> None:
    # What Kubernetes puts there for a service called tproxy-inbound.
    environment = {"TPROXY_INBOUND_PORT": "tcp://192.0.2.1:80"}
    with pytest.raises(BadInput, match=r"--inbound-port: .* \(from TPROXY_INBOUND_PORT\)$"):
        read(["plan"], environment)
    with pytest.raises(
        BadInput, match=r"is already --outbound-port; each listener needs its own port$"
    ):
        read(["plan", "--inbound-port=15001"], {})


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param([], id="nothing"),
        pytest.param(["destroy"], id="no such verb"),
        pytest.param(["apply", "--outbound", "1"], id="abbreviation"),
        pytest.param(["apply", "--kube-virt-interfaces=x"], id="no such option"),
    ],
)
def test_unknown_words_end_as_bad_input(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == Exit.BAD_INPUT
    assert "tproxy-init" in capsys.readouterr().err


def test_bad_input_ends_with_its_code_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["apply", "--outbound-port", "0"]) == Exit.BAD_INPUT
    said = capsys.readouterr()
    assert said.err == "tproxy-init: --outbound-port: '0' is outside 1 to 65535\n"
    assert said.out == ""


@pytest.mark.parametrize("format_", list(Format))
def test_plan_prints_every_format(format_: Format, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", f"--format={format_}"]) == Exit.OK
    assert "15006" in capsys.readouterr().out


def test_plan_as_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan", "--format=json", "--ipv6=block"])
    rules = json.loads(capsys.readouterr().out)["rules"]
    assert {tuple(rule["families"]) for rule in rules} == {(4,)}


def test_a_dry_run_prints_what_iptables_restore_would_be_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["apply", "--dry-run"]) == Exit.OK
    said = capsys.readouterr().out
    main(["plan", "--format=restore"])
    assert said == capsys.readouterr().out


def test_the_users_page_names_every_option_variable_alias_and_exit_code() -> None:
    page = PAGE.read_text()
    controls = {option for group in CONTROLS.values() for option in group}
    for option in (*OPTIONS, *controls):
        for spelling in (f"`--{option.name}`", f"`{option.environment}`", *option.aliases):
            assert spelling in page
    for code in Exit:
        assert f"| {code.value} | `{code.name}` |" in page
