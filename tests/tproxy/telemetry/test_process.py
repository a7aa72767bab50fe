"""The process tells what Prometheus' own client would tell of it."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.parser import text_string_to_metric_families as parsed

from tproxy.telemetry.process import process_lines


def test_every_figure_is_what_another_client_reads() -> None:
    theirs = {
        sample.name: sample.value
        for family in ProcessCollector(registry=CollectorRegistry()).collect()
        for sample in family.samples
    }
    ours = {
        sample.name: sample.value
        for family in parsed("".join(process_lines()))
        for sample in family.samples
    }
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=0.1, abs=2), name


def test_nothing_is_told_where_the_kernel_tells_nothing(tmp_path: Path) -> None:
    assert list(process_lines(proc=tmp_path)) == []
