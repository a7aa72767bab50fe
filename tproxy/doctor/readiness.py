"""Ask a sidecar on this machine whether it carries."""

import urllib.error
import urllib.request
from http.client import HTTPException

ANSWER_SECONDS = 1.0
"""How long one question may take: the sidecar is on this very machine."""


def readiness(port: int) -> int | None:
    """Return the status that its health port answers with, 200 once it is ready; None where nobody answers."""
    # Straight there, whatever http_proxy says.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        url = f"http://127.0.0.1:{port}/healthz/ready"
        with opener.open(url, timeout=ANSWER_SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError, HTTPException):
        return None
