from collections.abc import Mapping, Sequence
from dataclasses import replace

from bench.arena import Contender
from bench.proxies import NO_PROXY
from bench.summary import Ratio, Value, ratio, summarised
from bench.tables import lines
from bench.targets import Target, judged
from bench.turns import Entry, Figures, Row, Taken


async def nothing(_: Contender) -> Figures:
    return {}


def taken(
    runs: Mapping[str, Sequence[Figures]], id_: str = "h1_c32", *, bound: bool = False
) -> Taken:
    """A row that came to `runs`."""
    entries = [Entry(label, NO_PROXY, nothing) for label in runs]
    row = Row(id_, "a title", "request", entries, bound)
    return Taken(row, {label: list(each) for label, each in runs.items()})


def test_a_ratio_is_that_of_runs_of_the_same_turn() -> None:
    assert ratio([1.0, 4.0, 9.0], [2.0, 4.0, 3.0]) == Ratio(1.0, 0.5, 3.0, 3)


def test_no_pairs_are_no_ratio() -> None:
    assert ratio([], []) is None


def test_a_row_compares_its_first_entry_with_each_other_one() -> None:
    runs = {"tproxy": [{"cpu": 3.0}], "envoy": [{"cpu": 2.0}], "haproxy": [{"cpu": 1.0}]}
    assert summarised([taken(runs)]) == {
        "h1_c32_cpu_vs_envoy": Ratio(1.5, 1.5, 1.5, 1),
        "h1_c32_cpu_vs_haproxy": Ratio(3.0, 3.0, 3.0, 1),
    }


def test_a_starved_run_says_nothing_of_the_rate_but_of_cpu_time() -> None:
    runs: dict[str, list[Figures]] = {
        "tproxy": [{"rate": 1.0, "cpu": 1.0, "busy": 0.9}, {"rate": 1.0, "cpu": 1.0, "busy": 0.9}],
        "envoy": [{"rate": 2.0, "cpu": 1.0, "busy": 0.5}, {"rate": 4.0, "cpu": 1.0, "busy": 0.9}],
    }
    assert summarised([taken(runs, bound=True)]) == {
        "h1_c32_rate_vs_envoy": Ratio(0.25, 0.25, 0.25, 1),
        "h1_c32_cpu_vs_envoy": Ratio(1.0, 1.0, 1.0, 2),
    }


def test_what_failed_is_left_out() -> None:
    runs: dict[str, list[Figures]] = {
        "tproxy": [{"cpu": 3.0}, {"cpu": 3.0}],
        "envoy": [{"cpu": 1.0}],
    }
    row = taken(runs)
    row.failures["envoy"] = "in its second turn"
    assert summarised([row]) == {}
    assert [line.split()[1:3] for line in lines(row)] == [
        ["tproxy", "CPU"],
        ["envoy", "FAILED,"],
    ]


def test_our_own_figures_stand_beside_the_ratios() -> None:
    runs = {"tproxy": [{"s": 0.4}, {"s": 0.6}], "envoy": [{"s": 0.1}, {"s": 0.2}]}
    assert summarised([taken(runs, "start")]) == {
        "start_s": Value(0.5, "s"),
        "start_s_vs_envoy": Ratio(3.5, 3.0, 4.0, 2),
    }


def test_the_figure_that_a_row_is_about_needs_no_name() -> None:
    runs: dict[str, list[Figures]] = {
        "tproxy": [{"rate": 1.0, "cpu": 2.0}],
        "envoy": [{"rate": 2.0, "cpu": 1.0}],
    }
    row = taken(runs, "mtls_handshakes")
    assert set(summarised([Taken(replace(row.row, head="rate"), row.runs)])) == {
        "mtls_handshakes_vs_envoy",
        "mtls_handshakes_cpu_vs_envoy",
    }


def test_targets_are_met_missed_or_not_measured() -> None:
    summary: dict[str, Ratio | Value] = {
        "h1_c32_cpu_vs_envoy_equal": Ratio(0.9, 0.8, 1.1, 5),
        "start_s": Value(0.53, "s"),
        "tcp_conn_rate_vs_mitmproxy": Ratio(4.9, 4.0, 6.0, 5),
        "tcp_conn_cpu_vs_mitmproxy": Ratio(0.19, 0.1, 0.3, 5),
    }
    verdicts = {each.target.id: each.verdict for each in judged(summary)}
    assert verdicts["h1_c32_cpu_vs_envoy_equal"] == "met"
    assert verdicts["start_s"] == "missed"
    assert verdicts["tcp_conn_rate_vs_mitmproxy"] == "missed"
    assert verdicts["tcp_conn_cpu_vs_mitmproxy"] == "met"
    assert verdicts["idle_pss_vs_envoy"] == "not measured"


def test_a_target_reads_as_what_it_asks() -> None:
    assert [str(Target("a", 1.2)), str(Target("b", 5, at_least=True))] == ["<= 1.2", ">= 5"]
