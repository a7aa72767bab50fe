"""Settle what OpenSSL reads as it is loaded, for which pyOpenSSL has no words."""

import os
from importlib.util import find_spec
from pathlib import Path

SETTINGS = Path(__file__).with_name("openssl.cnf")
WHEELS = ("manylinux", "musllinux")
"""What the tags of wheels begin with that bring an OpenSSL along."""


def settle_openssl() -> None:
    """Have OpenSSL read our settings, unless an operator has some of his own, or the system whose OpenSSL it is."""
    if _brought_along():
        os.environ.setdefault("OPENSSL_CONF", str(SETTINGS))


def _brought_along() -> bool:
    """Whether cryptography has an OpenSSL inside, to which no settings of the system apply."""
    found = find_spec("cryptography")
    if found is None or found.origin is None:
        return False
    described = Path(found.origin).parents[1].glob("cryptography-*.dist-info/WHEEL")
    return any(f"-{kind}" in each.read_text() for each in described for kind in WHEELS)
