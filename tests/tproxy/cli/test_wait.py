"""A hook that holds an application back, and lets it go with a word."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from tproxy.cli import main


class Sidecar(BaseHTTPRequestHandler):
    """Not ready when it is asked first, ready from then on."""

    answers: list[int]

    def do_GET(self) -> None:
        status = self.answers.pop(0) if self.path == "/healthz/ready" else 404
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_it_returns_once_the_sidecar_is_ready() -> None:
    Sidecar.answers = [503, 503, 200]
    with HTTPServer(("127.0.0.1", 0), Sidecar) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = CliRunner().invoke(main, ["wait", "--health-port", str(server.server_port)])
        server.shutdown()
    assert (done.exit_code, Sidecar.answers) == (0, [])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(["--timeout", "0.2"], 1, "was not ready within 0.2 s", id="nobody there"),
        pytest.param(["--pid", "4194305"], 1, "process 4194305, has ended", id="no such process"),
        pytest.param(
            ["--pid", "1", "--timeout", "0.2"],
            1,
            "not ready within 0.2 s",
            id="a process of root's",
        ),
        pytest.param(["--pid", "0"], 2, "Invalid value for '--pid'", id="no process"),
        pytest.param(["--timeout", "0"], 2, "Invalid value for '--timeout'", id="no time"),
        pytest.param(["--health-port", "0"], 2, "Invalid value for '--health-port'", id="no port"),
    ],
)
def test_what_went_wrong_is_said(words: list[str], code: int, said: str) -> None:
    done = CliRunner().invoke(main, ["wait", *words], env={"TPROXY_WAIT_HEALTH_PORT": "9"})
    assert done.exit_code == code
    assert said in done.output
