"""A certificate authority in a directory that its owner alone may enter, and the identities that it hands out."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from tproxy.model.identity import Peer
from tproxy.stores.data_link import PRIVATE_DIRECTORY, locked, publish, write_whole
from tproxy.stores.identity_files import LAYOUTS
from tproxy.tls.authority import Authority
from tproxy.tls.root import Svid

STATE = "authority.json"
"""One file, so that no crash leaves a root without its key."""


class BadAuthority(Exception):
    """Why a directory is no authority, or can not become one."""


class AuthorityFiles:
    """One directory; whoever changes it holds its lock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._state = directory / STATE

    def create(self, trust_domain: str, *, lifetime: timedelta, now: datetime) -> Authority:
        """Found an authority there; BadAuthority when there is one, which stays."""
        authority = Authority.create(trust_domain, lifetime=lifetime, now=now)
        self.directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        with locked(self.directory):
            if any(self.directory.iterdir()):
                raise BadAuthority(
                    f"{self.directory} is not empty: nothing in it is overwritten, take another"
                )
            self.directory.chmod(PRIVATE_DIRECTORY)
            write_whole(self._state, authority.written())
        return authority

    def exists(self) -> bool:
        """Whether there is an authority."""
        return self._state.exists()

    def read(self) -> Authority:
        """Read it as it is; BadAuthority when it is none."""
        try:
            return Authority.read(self._state.read_bytes())
        except OSError as error:
            raise BadAuthority(
                f"{self._state} cannot be read ({error.strerror}): found one with `tproxy ca init`"
            ) from error
        except (ValueError, TypeError):
            # What it says may be part of a key.
            raise BadAuthority(f"{self._state} is no authority of ours: restore it") from None

    def issue(self, own: Peer, *, ttl: timedelta, now: datetime) -> tuple[Svid, bytes]:
        """Sign for a workload, and hand back the bundle that goes with it."""
        with self._changing() as authority:
            svid, after = authority.issue(own, ttl=ttl, now=now)
            write_whole(self._state, after.written())
        return svid, after.bundle

    def rotate(self, *, lifetime: timedelta, now: datetime, early: bool = False) -> Authority:
        """Take the next step of a replacement of the root."""
        with self._changing() as authority:
            after = authority.rotated(lifetime=lifetime, now=now, early=early)
            write_whole(self._state, after.written())
        return after

    @contextmanager
    def _changing(self) -> Iterator[Authority]:
        self.read()
        with locked(self.directory):
            yield self.read()


def hand_out(
    svid: Svid, bundle: bytes, directory: Path, owner: tuple[int, int] | None = None
) -> None:
    """Write an identity in the place of the one before, all at once; FileExistsError where something else is."""
    contents = (svid.certificate, svid.key, bundle)
    publish(directory, dict(zip(LAYOUTS[0], contents, strict=True)), owner)
