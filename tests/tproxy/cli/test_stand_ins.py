"""What nobody calls is not loaded, and who calls it after all gets the real one."""

import subprocess
import sys

import pytest

from tproxy.cli.stand_ins import uncalled

UNHURRIED = "colorsys"
"""A module of Python's that nothing here imports."""


@pytest.fixture(autouse=True)
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, UNHURRIED, raising=False)


def test_a_module_that_is_named_is_not_loaded() -> None:
    with uncalled(UNHURRIED):
        import colorsys  # noqa: PLC0415
    assert not vars(colorsys).get("__file__")
    assert UNHURRIED not in sys.modules


def test_who_looks_into_it_gets_the_real_one() -> None:
    with uncalled(UNHURRIED):
        import colorsys  # noqa: PLC0415
    assert colorsys.rgb_to_hsv(1, 1, 1) == (0, 0, 1)
    assert colorsys.rgb_to_hsv is sys.modules[UNHURRIED].rgb_to_hsv


def test_who_looks_into_it_meanwhile_gets_the_real_one_too() -> None:
    with uncalled(UNHURRIED):
        from colorsys import rgb_to_hsv  # noqa: PLC0415
    assert rgb_to_hsv is sys.modules[UNHURRIED].rgb_to_hsv


def test_who_imports_it_afterwards_gets_the_real_one() -> None:
    with uncalled(UNHURRIED):
        import colorsys as before  # noqa: PLC0415
    import colorsys as after  # noqa: PLC0415

    assert before is not after
    assert after.__file__


def test_what_is_loaded_already_stays() -> None:
    import colorsys  # noqa: PLC0415

    with uncalled(UNHURRIED):
        assert sys.modules[UNHURRIED] is colorsys
    assert sys.modules[UNHURRIED] is colorsys


TLS_AFTER_ALL = """
import sys
from tproxy.cli import main
main(["run", "--help"], standalone_mode=False)
assert {"ssl", "_ssl", "hmac", "idna"}.isdisjoint(sys.modules)
import trio, trustme
async def secured():
    import ssl
    authority = trustme.CA()
    server, client = (ssl.SSLContext(each) for each in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT))
    authority.issue_cert("b\\u00fccher.example").configure_cert(server)
    authority.configure_trust(client)
    one, other = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        there = trio.SSLStream(other, server, server_side=True)
        nursery.start_soon(there.do_handshake)
        here = trio.SSLStream(one, client, server_hostname="b\\u00fccher.example")
        await here.do_handshake()
import trio.testing
trio.run(secured)
"""


def test_trio_speaks_tls_after_all_when_somebody_asks_it_to() -> None:
    subprocess.run([sys.executable, "-c", TLS_AFTER_ALL], check=True, capture_output=True)
