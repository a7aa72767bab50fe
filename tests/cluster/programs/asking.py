"""A client that asks for a URL, each time by a connection of its own, until a file says that it is enough; prints each status."""

import sys
import urllib.error
import urllib.request
from pathlib import Path
from threading import Event

PACE = Event()
while not Path("/dev/shm/enough").exists():
    try:
        with urllib.request.urlopen(sys.argv[1], timeout=60) as answer:
            print(answer.status, flush=True)
    except urllib.error.HTTPError as refused:
        print(refused.code, flush=True)
    except OSError as failure:
        print(repr(failure).replace(" ", "_"), flush=True)
    PACE.wait(0.02)
