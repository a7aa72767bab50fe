"""The demonstration's account is what the logs say, and nothing else."""

import json
from pathlib import Path

from tproxy.lab.demo import Log, Passage, Sum, account, facts

LINE = {
    "response_code": 200,
    "response_flags": "-",
    "bytes_received": 1,
    "bytes_sent": 10,
    "upstream_host": "127.0.0.1:80",
    "tproxy": {
        "direction": "inbound",
        "detected_protocol": "http1",
        "original_dst": "[2001:db8:0:1::2]:80",
    },
}
REFUSED = {**LINE, "response_code": 503, "response_flags": "UF", "upstream_host": None}


def test_a_line_is_read_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text(json.dumps(LINE) + "\n" + '{"half')
    log = Log(path)
    assert (log.more(), log.more()) == ([LINE], [])
    path.write_text(json.dumps(LINE) + "\n" + '{"half": 1}\n')
    assert log.more() == [{"half": 1}]


def test_a_lines_port_is_found_behind_a_v6_address() -> None:
    assert facts(LINE) == ("inbound", "http1", "80")


def test_the_account_sums_what_took_the_same_way() -> None:
    way = Passage("web", "inbound", "http1", "[2001:db8:0:1::2]:80", "127.0.0.1:80", "200")
    refused = Passage("web", "inbound", "http1", "[2001:db8:0:1::2]:80", "-", "503 UF")
    assert account({"web": Log(Path(), [LINE, REFUSED, LINE])}) == {
        way: Sum(count=2, received=2, sent=20),
        refused: Sum(count=1, received=1, sent=10),
    }
