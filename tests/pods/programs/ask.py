"""An application's client: asks for a URL some times, one after another, and prints each outcome as a line of JSON."""

import http.client
import json
import sys
import urllib.error
import urllib.request
from itertools import repeat


def ask(url: str) -> dict[str, object]:
    """One request; says when its response begins."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            print("begun", flush=True)
            return {"status": answer.status, "body": answer.read().decode()}
    except urllib.error.HTTPError as refused:
        return {"status": refused.code, "body": refused.read().decode()}
    except (OSError, http.client.HTTPException) as failure:
        return {"failed": repr(failure)}


def main(url: str, times: str = "1") -> None:
    """Ask, and tell."""
    for each in repeat(url, int(times)):
        print(json.dumps(ask(each)), flush=True)


main(*sys.argv[1:])
