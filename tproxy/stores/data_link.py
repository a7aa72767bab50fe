"""Files that change all at once: the kubelet's `..data` link, which leads to the version of a directory that counts.

Each file of such a directory is a link to `..data/NAME`. Whoever follows `..data` once reads files of one version,
though the link is turned meanwhile.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

DATA = "..data"
_VERSION = "..version-"
PRIVATE_FILE, PRIVATE_DIRECTORY = 0o600, 0o700


def pinned_version(directory: Path) -> Path:
    """Follow the link, where there is one, for all files that are read next."""
    return (directory / DATA).resolve()


def place_in(version: Path, path: Path) -> Path:
    """Say where a file of the directory lies in its pinned version; elsewhere only where it is no link into one."""
    if path.is_symlink() and path.readlink().parts[0] == DATA:
        return version.joinpath(*path.readlink().parts[1:])
    return path


def publish(
    directory: Path, files: Mapping[str, bytes], owner: tuple[int, int] | None = None
) -> None:
    """Put `files` in the place of those of before, readable by their owner alone: the directory's, if none is given.

    FileExistsError when something in there is not from here: it stays.
    """
    directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    with locked(directory):
        _refuse_others(directory, files)
        version = Path(mkdtemp(prefix=_VERSION, dir=directory))
        for name, content in files.items():
            write_whole(version / name, content)
        found = directory.stat()
        for path in (directory, version, *version.iterdir()):
            os.chown(path, *(owner or (found.st_uid, found.st_gid)))
        _link(directory / DATA, version.name)
        _link_files(directory, files)
        for old in directory.glob(f"{_VERSION}*"):
            if old != version:
                shutil.rmtree(old)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory against others who lock it; ends with the process, so that a crash blocks nobody."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that its owner alone may read, whole or not at all, whatever crashes."""
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _refuse_others(directory: Path, files: Mapping[str, bytes]) -> None:
    for name in (DATA, *files):
        path = directory / name
        if os.path.lexists(path) and not _is_ours(path):
            raise FileExistsError(
                f"{path} is there already and not from here: take another directory"
            )


def _is_ours(path: Path) -> bool:
    to = path.readlink() if path.is_symlink() else Path()
    return to == Path(DATA, path.name) or to.name.startswith(_VERSION)


def _link_files(directory: Path, files: Mapping[str, bytes]) -> None:
    for path in directory.iterdir():
        if path.name != DATA and path.is_symlink() and path.name not in files and _is_ours(path):
            path.unlink()
    for name in files:
        if not (directory / name).is_symlink():
            _link(directory / name, f"{DATA}/{name}")


def _link(path: Path, target: str) -> None:
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(path)
