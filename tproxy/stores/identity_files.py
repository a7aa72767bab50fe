"""Read a workload's identity from a directory, in whichever layout it was put there."""

import logging
import os
import re
import stat
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from tproxy.stores.data_link import pinned_version, place_in
from tproxy.stores.identity_store import BadIdentity
from tproxy.stores.watch import watch
from tproxy.tls.documents import MAX_BYTES, BadCertificate, read_identity
from tproxy.tls.identity import Identity

LOG = logging.getLogger(__name__)

_FEDERATED = re.compile(r"ca\.(?P<trust_domain>.+)\.crt")

MOST_TURNS = 8
"""Of the link to a version, while one identity is read: who turns it removes the version before."""


class Layout(NamedTuple):
    """What the files of an identity are called."""

    certificate: str
    key: str
    bundle: str

    def __str__(self) -> str:
        return ", ".join(self)


LAYOUTS = (
    Layout("tls.crt", "tls.key", "ca.crt"),
    Layout("cert-chain.pem", "key.pem", "root-cert.pem"),
    Layout("svid.pem", "svid_key.pem", "svid_bundle.pem"),
)
"""Those of a Kubernetes TLS secret, which is cert-manager's and ours; of Istio; of spiffe-helper."""


class IdentityFiles:
    """The files of one directory. Nothing of it changes; they do."""

    def __init__(self, directory: Path, tell: Callable[[str], object] = LOG.warning) -> None:
        self.directory = directory
        self._tell = tell
        """Who hears of what hardly is as it should be."""

    def __str__(self) -> str:
        return str(self.directory)

    def load(self, now: datetime) -> Identity:
        """Read them all, of one version; BadIdentity when they do not prove one at `now`. It waits for the disk."""
        version = pinned_version(self.directory)
        for _ in range(MOST_TURNS):
            try:
                return self._load(version, now)
            except BadIdentity:
                turned = pinned_version(self.directory)
                if turned == version:
                    raise
                version = turned
        return self._load(version, now)

    def _load(self, version: Path, now: datetime) -> Identity:
        names = self._names()
        layout = self._layout(names)
        bundles = {
            found["trust_domain"]: name for name in names if (found := _FEDERATED.fullmatch(name))
        }
        certificate, bundle = (
            self._read(name, version) for name in (layout.certificate, layout.bundle)
        )
        key = self._read(layout.key, version, private=True)
        try:
            return read_identity(
                certificate,
                key,
                bundle,
                federated={each: self._read(name, version) for each, name in bundles.items()},
                now=now,
            )
        except BadCertificate as bad:
            raise BadIdentity(f"{self._named(bad, layout)}: {bad}") from bad

    async def watch(self, changed: Callable[[], Awaitable[object]]) -> None:
        """Call `changed` whenever they have, until cancelled."""
        await watch(self.directory, changed)

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.directory))
        except OSError as error:
            raise BadIdentity(f"{self.directory} cannot be read: {error.strerror}") from error

    def _layout(self, names: list[str]) -> Layout:
        """Find the one layout that the directory has, whole."""
        found = [layout for layout in LAYOUTS if not set(layout).isdisjoint(names)]
        match found:
            case []:
                known = "; ".join(map(str, LAYOUTS))
                raise BadIdentity(f"{self.directory} holds no certificate: put there {known}")
            case [layout]:
                missing = [name for name in layout if name not in names]
                if missing:
                    raise BadIdentity(f"{self.directory} lacks {', '.join(missing)} of {layout}")
                return layout
            case _:
                mixed = ", ".join(sorted(set().union(*found).intersection(names)))
                raise BadIdentity(
                    f"{self.directory} holds files of several layouts ({mixed}): leave those of one"
                )

    def _read(self, name: str, version: Path, *, private: bool = False) -> bytes:
        """Read a file, and no more of it than shows that it is too large."""
        path = self.directory / name
        content, exposed = None, None
        try:
            place = place_in(version, path)
            if place.is_file():
                with place.open("rb") as file:
                    content = file.read(MAX_BYTES + 1)
                    exposed = _exposed(file.fileno()) if private else None
        except OSError as error:
            raise BadIdentity(f"{path} cannot be read: {error.strerror}") from error
        if content is None:
            raise BadIdentity(f"{path} is no regular file, or a link to none")
        if exposed is not None:
            self._tell(
                f"the key {path} is open to its group or to others (mode {exposed:04o}):"
                " chmod 600 it, its owner being the proxy's user"
            )
        return content

    def _named(self, bad: BadCertificate, layout: Layout) -> Path:
        """Find the file that a document was read from."""
        names = dict(zip(Layout._fields, layout, strict=True))
        federated = f"ca.{bad.document.rpartition(' ')[2]}.crt"
        return self.directory / names.get(bad.document, federated)


def _exposed(descriptor: int) -> int | None:
    """Tell the mode of a file that others may read, where its owner could keep them from it."""
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    # The kubelet mounts a secret read-only into the containers that ask for it, and gives it to root.
    mounted = os.fstatvfs(descriptor).f_flag & os.ST_RDONLY
    return mode if mode & (stat.S_IRWXG | stat.S_IRWXO) and not mounted else None
