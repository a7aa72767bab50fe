"""A job: one request, then it tells its sidecar that there is no more to carry."""

import sys
import urllib.error
import urllib.request


def main(url: str) -> None:
    """Work, and leave."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            print(answer.status, flush=True)
    except urllib.error.HTTPError as refused:
        print(refused.code, flush=True)
    last = urllib.request.Request("http://127.0.0.1:15000/quitquitquit", method="POST")
    urllib.request.urlopen(last, timeout=10).close()


main(*sys.argv[1:])
