"""Published files change all at once, whoever reads meanwhile, and nothing that is not ours is touched."""

import os
import stat
from pathlib import Path

import pytest

from tproxy.stores.data_link import pinned_version, place_in, publish, write_whole


def visible(directory: Path) -> dict[str, bytes]:
    """Read what is to be seen of a directory."""
    return {
        path.name: path.read_bytes()
        for path in directory.iterdir()
        if not path.name.startswith("..")
    }


def test_files_are_published_and_their_owner_alone_may_read_them(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "identity"
    publish(directory, {"a": b"1", "b": b"2"})
    assert visible(directory) == {"a": b"1", "b": b"2"}
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (directory / "..data").iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_reader_that_has_pinned_a_version_never_sees_a_mixture(tmp_path: Path) -> None:
    publish(tmp_path, {"a": b"1", "b": b"1"})
    version = pinned_version(tmp_path)
    first = place_in(version, tmp_path / "a").read_bytes()
    publish(tmp_path, {"a": b"2", "b": b"2"})
    with pytest.raises(FileNotFoundError):
        place_in(version, tmp_path / "b").read_bytes()
    assert (first, visible(tmp_path)) == (b"1", {"a": b"2", "b": b"2"})


def test_what_is_no_longer_published_goes_and_old_versions_too(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    publish(tmp_path, {"a": b"1", "b": b"1"})
    publish(tmp_path, {"b": b"2"})
    assert visible(tmp_path) == {"b": b"2", "notes.txt": b"mine"}
    assert len([path for path in tmp_path.iterdir() if path.name.startswith("..version-")]) == 1


@pytest.mark.parametrize("name", ["a", "..data"])
def test_what_somebody_else_has_put_there_is_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match="is there already"):
        publish(tmp_path, {"a": b"1"})
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_a_crash_has_left_is_overwritten(tmp_path: Path) -> None:
    for name in ("a.draft", "..data.draft"):
        (tmp_path / name).symlink_to("nowhere")
    publish(tmp_path, {"a": b"1"})
    (tmp_path / "own.draft").write_text("half")
    write_whole(tmp_path / "own", b"whole")
    assert (tmp_path / "own").read_bytes() == b"whole"
    assert visible(tmp_path)["a"] == b"1"


def test_files_are_given_to_their_owner(tmp_path: Path) -> None:
    owner = (os.geteuid(), os.getegid())
    publish(tmp_path / "identity", {"a": b"1"}, owner)
    paths = (tmp_path / "identity", tmp_path / "identity" / "a")
    assert {(path.stat().st_uid, path.stat().st_gid) for path in paths} == {owner}
