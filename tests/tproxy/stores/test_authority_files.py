"""An authority's directory is its owner's alone, and is never overwritten nor half written."""

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tproxy.model.identity import Peer
from tproxy.stores.authority_files import STATE, AuthorityFiles, BadAuthority, hand_out
from tproxy.stores.identity_files import IdentityFiles
from tproxy.tls.authority import Phase
from tproxy.tls.root import CannotSign

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR, YEAR = timedelta(hours=1), timedelta(days=365)
WEB = Peer("cluster.local", "default", "web")


@pytest.fixture
def files(tmp_path: Path) -> AuthorityFiles:
    files = AuthorityFiles(tmp_path / "ca")
    files.create("cluster.local", lifetime=YEAR, now=NOW)
    return files


def test_nobody_else_may_read_it(files: AuthorityFiles) -> None:
    modes = [path.stat().st_mode for path in (files.directory, files.directory / STATE)]
    assert [stat.S_IMODE(mode) for mode in modes] == [0o700, 0o600]


def test_there_is_none_where_none_was_founded(tmp_path: Path, files: AuthorityFiles) -> None:
    assert files.exists()
    assert not AuthorityFiles(tmp_path / "none").exists()
    with pytest.raises(BadAuthority, match="tproxy ca init"):
        AuthorityFiles(tmp_path / "none").read()


def test_it_is_never_overwritten(files: AuthorityFiles) -> None:
    before = files.read().bundle
    with pytest.raises(BadAuthority, match="is not empty"):
        files.create("other.example", lifetime=YEAR, now=NOW)
    assert files.read().bundle == before


@pytest.mark.parametrize("content", ["", "{}", '{"key": "-----BEGIN EC PRIVATE KEY-----"}'])
def test_what_is_no_authority_is_refused_and_not_repeated(
    files: AuthorityFiles, content: str
) -> None:
    (files.directory / STATE).write_text(content)
    with pytest.raises(BadAuthority) as caught:
        files.issue(WEB, ttl=HOUR, now=NOW)
    assert str(caught.value) == f"{files.directory / STATE} is no authority of ours: restore it"


def test_what_it_hands_out_is_an_identity_and_so_is_what_replaces_it(
    tmp_path: Path, files: AuthorityFiles
) -> None:
    serials = set()
    for _ in range(2):
        svid, bundle = files.issue(WEB, ttl=HOUR, now=NOW)
        hand_out(svid, bundle, tmp_path / "identity")
        assert IdentityFiles(tmp_path / "identity").load(NOW).own == WEB
        serials.add(svid.serial)
    assert len(serials) == 2


def test_what_was_issued_is_remembered_for_the_next_step(files: AuthorityFiles) -> None:
    files.issue(WEB, ttl=5 * HOUR, now=NOW)
    files.issue(WEB, ttl=HOUR, now=NOW)
    rotated = files.rotate(lifetime=YEAR, now=NOW)
    assert (rotated.phase, rotated.settled) == (Phase.SPREADING, NOW + 5 * HOUR)
    assert files.read().phase is Phase.SPREADING


def test_a_refusal_changes_nothing(files: AuthorityFiles) -> None:
    before = (files.directory / STATE).read_bytes()
    with pytest.raises(CannotSign):
        files.issue(Peer("other", "a", "b"), ttl=HOUR, now=NOW)
    assert (files.directory / STATE).read_bytes() == before


def test_several_at_once_each_leave_their_trace(files: AuthorityFiles) -> None:
    def issue(hours: int) -> None:
        files.issue(WEB, ttl=hours * HOUR, now=NOW)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(issue, range(1, 9)))
    assert files.read().last_expiry == NOW + 8 * HOUR
