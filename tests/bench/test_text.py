from xml.etree import ElementTree as ET

import pytest
import yaml

from bench.chart import Panel, svg
from bench.figures import rounded, told
from bench.many import HOST, many_policies, many_routes
from bench.measure import rolled_up
from bench.options import read
from bench.proxies import HERE
from bench.report import shown


@pytest.mark.parametrize(
    ("value", "text"), [(0.05172, "0.0517"), (1.0, "1"), (51.34, "51.3"), (20012.4, "20,012")]
)
def test_a_number_is_told_with_three_digits_that_matter(value: float, text: str) -> None:
    assert rounded(value) == text


def test_a_figure_is_told_in_its_unit() -> None:
    assert told("cpu", 51.3e-6, "request") == "51.3 us/request"


def test_a_chart_has_a_bar_for_each_name_as_long_as_its_value() -> None:
    chart = ET.fromstring(svg([Panel("a < b", {"ours": 50.0, "theirs": 100.0})]))
    bars = chart.findall(".//{*}rect")
    assert [bar.get("class") for bar in bars] == ["ours", "bar"]
    short, long = (int(bar.get("width", "0")) for bar in bars)
    assert 2 * short == long
    assert "a < b" in [text.text for text in chart.findall(".//{*}text")]


def test_a_page_keeps_all_but_its_results() -> None:
    page = "before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter\n"
    once = shown(page, "new\n")
    assert once == "before\n<!-- results: begin -->\nnew\n<!-- results: end -->\nafter\n"
    assert shown(once, "new\n") == once


def test_memory_is_read_from_the_kernels_account() -> None:
    rollup = "Rss:   2048 kB\nPss:   1024 kB\nPss_Anon:  512 kB\n"
    assert [rolled_up(size, rollup) for size in ("Rss", "Pss")] == [2 << 20, 1 << 20]


def test_policies_are_as_many_as_asked_and_have_names_of_their_own() -> None:
    policies = many_policies(1000)
    assert len({policy.splitlines()[2] for policy in policies}) == 1000


@pytest.mark.parametrize("count", [1, 100])
def test_routes_are_as_many_as_asked_and_the_last_takes_what_is_asked(count: int) -> None:
    entry, service = map(yaml.safe_load, many_routes(count))
    assert entry["spec"]["hosts"] == service["spec"]["hosts"] == [HOST]
    *others, last = service["spec"]["http"]
    assert len(others) == count - 1
    assert all(not "/1k".startswith(other["match"][0]["uri"]["prefix"]) for other in others)
    assert "match" not in last


def test_options_come_from_the_environment_and_from_words() -> None:
    assert read([], {"QUICK": "1", "ONLY": "h2"}).only == "h2"
    options = read(["--quick"], {})
    assert options.takes("h1_c32")
    assert not options.takes("tcp_ping")
    assert not options.whole
    assert read([], {}).whole


@pytest.mark.parametrize("page", ["README.md", "docs/performance.md"])
def test_the_pages_that_show_results_say_where(page: str) -> None:
    text = (HERE.parent / page).read_text()
    assert shown(text, "new\n").count("\nnew\n") == 1
