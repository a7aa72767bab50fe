"""What every option does to the plan, as text that a reviewer reads.

Regenerate with: python tests/tproxy_init/test_plan_golden.py
"""

from pathlib import Path

import pytest

from tproxy_init.capture import OPTIONS, Ipv6, parse
from tproxy_init.plan import plan
from tproxy_init.render import json_text, nft_text, plain_restore_text, table_text
from tproxy_init.rules import Family, Plan

GOLDEN = Path(__file__).parent.parent / "golden" / "capture"

CASES: dict[str, dict[str, str]] = {
    "defaults": {},
    "ports": {"outbound-port": "25001", "inbound-port": "25006", "proxy-ports": "25021"},
    "no-proxy-ports": {"proxy-ports": "none"},
    "several-proxies": {"proxy-uid": "1337,2000-2010", "proxy-gid": "none"},
    "tproxy": {"inbound-mode": "tproxy", "tproxy-mark": "99", "tproxy-table": "100"},
    "tproxy-ports": {"inbound-mode": "tproxy", "include-inbound-ports": "80,443"},
    "inbound-ports": {"include-inbound-ports": "80,8000-8010", "exclude-inbound-ports": "22,8005"},
    "inbound-none": {"include-inbound-ports": ""},
    "inbound-cidrs": {"exclude-inbound-cidrs": "192.0.2.0/24,2001:db8:5::/48"},
    "outbound-ports": {"exclude-outbound-ports": "25,3306,6000-6010"},
    "outbound-only-ports": {"include-outbound-ports": "80,443"},
    "outbound-ports-and-cidrs": {
        "include-outbound-ports": "9000",
        "include-outbound-cidrs": "198.51.100.0/24,2001:db8::/32",
        "exclude-outbound-cidrs": "198.51.100.128/25",
    },
    "outbound-none": {"include-outbound-cidrs": "none"},
    "interfaces": {"exclude-interfaces": "eth1,veth+"},
    "only-interfaces": {"include-interfaces": "eth0,net+"},
    "owners": {"exclude-uids": "0,500-599", "exclude-gids": "12"},
    "only-owners": {"include-uids": "1000-1999", "include-gids": "3000"},
    "dns": {"dns": "true"},
    "dns-servers": {"dns": "true", "dns-servers": "127.0.0.53,192.0.2.53,2001:db8::53"},
    "dns-only-owners": {"dns": "true", "include-uids": "1000", "exclude-gids": "12"},
    "many-ports": {"exclude-inbound-ports": ",".join(str(port) for port in range(100, 134, 2))},
    "ipv6-block": {"ipv6": "block"},
}


def rendered(texts: dict[str, str]) -> str:
    """All four formats of one plan."""
    capture = parse(texts)
    families = (Family.V4,) if capture.ipv6 is Ipv6.BLOCK else tuple(Family)
    wanted: Plan = plan(capture, families)
    formats = {
        "table": table_text(wanted),
        "restore": plain_restore_text(wanted),
        "nft": nft_text(wanted),
        "json": json_text(wanted),
    }
    asked = " ".join(f"--{name} {text!r}" for name, text in texts.items())
    return f"{asked or 'no options'}\n" + "".join(
        f"\n===== {name}\n{text}" for name, text in formats.items()
    )


@pytest.mark.parametrize("name", CASES)
def test_plan_is_as_reviewed(name: str) -> None:
    assert rendered(CASES[name]) == (GOLDEN / f"{name}.txt").read_text()


def test_every_golden_text_has_its_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(CASES)


def test_every_option_of_the_rules_has_a_case() -> None:
    covered = {name for texts in CASES.values() for name in texts}
    assert {option.name for option in OPTIONS} - covered == {"dns-port"}


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, texts in CASES.items():
        (GOLDEN / f"{name}.txt").write_text(rendered(texts))
