import pytest

from bench.loads import LoadFailed, read_h2load, read_own, read_wrk, read_wrk_mebibytes, seconds_of

WRK = """Running 1s test @ http://192.0.2.3:8080/1k
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.78ms    2.51ms  30.47ms   96.04%
    Req/Sec    20.11k     1.71k   21.68k    90.00%
  Latency Distribution
     50%    1.40ms
     75%    1.62ms
     90%    2.10ms
     99%   14.66ms
  20012 requests in 1.01s, 24.62MB read
Requests/sec:  19892.10
Transfer/sec:     24.47MB
"""
H2LOAD = """starting benchmark...
finished in 700.21ms, 166640.00 req/s, 167.34MB/s
requests: 200 total, 232 started, 200 done, 200 succeeded, 0 failed, 0 errored, 0 timeout
"""


def test_a_duration_is_read_in_every_unit() -> None:
    texts = ("533us", "1.40ms", "1.01s", "2.00m", "0.5")
    assert [seconds_of(text) for text in texts] == pytest.approx([533e-6, 1.4e-3, 1.01, 120, 0.5])


def test_what_is_no_duration_is_refused() -> None:
    with pytest.raises(LoadFailed, match="'soon' is no duration"):
        seconds_of("soon")


def test_wrk_tells_requests_and_latencies() -> None:
    outcome = read_wrk(WRK)
    assert (outcome.units, outcome.seconds) == (20012, 1.01)
    assert outcome.latencies == pytest.approx({"p50": 1.4e-3, "p99": 14.66e-3})


def test_wrk_tells_mebibytes() -> None:
    assert read_wrk_mebibytes(WRK).units == pytest.approx(24.62)


@pytest.mark.parametrize(
    "trouble",
    [
        "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
        "  Non-2xx or 3xx responses: 20012\n",
    ],
)
def test_a_run_of_wrk_with_errors_is_no_measurement(trouble: str) -> None:
    with pytest.raises(LoadFailed, match=trouble.strip()):
        read_wrk(WRK + trouble)


def test_a_run_without_one_answer_is_no_measurement() -> None:
    with pytest.raises(LoadFailed, match="no request was answered"):
        read_wrk(WRK.replace("20012 requests", "0 requests"))


def test_h2load_tells_requests_and_its_log_the_latencies() -> None:
    log = "".join(f"1795703762689544\t200\t{microseconds}\n" for microseconds in range(1, 201))
    outcome = read_h2load(H2LOAD + log)
    assert [outcome.units, outcome.seconds] == pytest.approx([200, 0.70021])
    assert outcome.latencies == pytest.approx({"p50": 101e-6, "p99": 199e-6})


@pytest.mark.parametrize("wrong", ["1 failed", "1 errored", "1 timeout"])
def test_a_run_of_h2load_with_errors_is_no_measurement(wrong: str) -> None:
    with pytest.raises(LoadFailed):
        read_h2load(H2LOAD.replace(f"0 {wrong[2:]}", wrong))


def test_an_output_that_is_not_understood_is_no_measurement() -> None:
    with pytest.raises(LoadFailed, match="connection refused"):
        read_wrk("unable to connect: connection refused")


def test_a_client_of_our_own_says_how_many_failed() -> None:
    assert read_own('{"units": 8, "seconds": 2.0}').units == 8
    with pytest.raises(LoadFailed, match="1 of 8 failed"):
        read_own('{"units": 8, "seconds": 2.0, "failed": 1}')
