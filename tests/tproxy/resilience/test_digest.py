"""BLAKE2b is there whatever the interpreter was built with."""

import hashlib
import importlib
import sys

import pytest

from tproxy.resilience import digest


def test_the_interpreters_own_sums_are_hashlibs() -> None:
    assert digest.blake2b(b"a", digest_size=8).digest() == hashlib.blake2b(b"a", digest_size=8).digest()  # fmt: skip


def test_an_interpreter_without_its_own_has_hashlibs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_blake2", None)
    try:
        assert importlib.reload(digest).blake2b is hashlib.blake2b
    finally:
        monkeypatch.undo()
        importlib.reload(digest)
