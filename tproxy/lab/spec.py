"""What someone asks of a pod, checked before anything on this machine is touched."""

import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tproxy.lab.namespaces import Identity
from tproxy.model.ports import PROXY_UID

PROXY = Identity(PROXY_UID, PROXY_UID)
ROOT = Identity(0, 0)

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
TRUST_DOMAIN = re.compile(rf"(?=.{{1,255}}$){DNS_LABEL.pattern}(\.{DNS_LABEL.pattern})*")
USER = re.compile(r"(?P<uid>\d+)(:(?P<gid>\d+))?")
PUBLISH = re.compile(r"((?P<host>\[[^\]]+\]|[^:\[\]]+):)?(?P<port>\d+):(?P<pod_port>\d+)")


class LabError(Exception):
    """Why a pod cannot be had, said for whoever asked for it."""


@dataclass(frozen=True, slots=True)
class User:
    """Who runs the applications of a pod: ids, and the account's name and home where it has one."""

    identity: Identity
    name: str
    home: str = "/"

    @classmethod
    def parse(cls, text: str) -> Self:
        """A user from `UID`, `UID:GID` or an account's name."""
        if (ids := USER.fullmatch(text)) is None:
            return cls._account(_account_named(text))
        return cls.of_ids(int(ids["uid"]), int(ids["gid"]) if ids["gid"] else None)

    @classmethod
    def of_ids(cls, uid: int, gid: int | None = None) -> Self:
        """A user from ids; whoever has no account gets the group of the same number, no home."""
        try:
            known = cls._account(pwd.getpwuid(uid))
        except KeyError:
            return cls(Identity(uid, uid if gid is None else gid), str(uid))
        if gid is None or gid == known.identity.gid:
            return known
        return cls(Identity(uid, gid), known.name, known.home)

    @classmethod
    def default(cls, environ: Mapping[str, str]) -> Self:
        """Whoever called sudo, else `nobody`: an application under test is never root unasked."""
        caller = environ.get("SUDO_UID", "0")
        if caller == "0":
            return cls.parse("nobody")
        return cls.of_ids(int(caller), int(environ["SUDO_GID"]))

    @classmethod
    def _account(cls, entry: pwd.struct_passwd) -> Self:
        groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
        return cls(Identity(entry.pw_uid, entry.pw_gid, groups), entry.pw_name, entry.pw_dir)

    def environ(self) -> dict[str, str]:
        """What a login would say about the user."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}

    def refuse_proxy(self) -> None:
        """Refuse the sidecar's own uid: its traffic is never captured."""
        if self.identity.uid == PROXY_UID:
            raise LabError(
                f"uid {PROXY_UID} is the sidecar's own: what runs under it is not captured; "
                "choose another user"
            )


def _account_named(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise LabError(
            f"no such user: {name!r}; give an account's name or numbers as UID or UID:GID"
        ) from None


@dataclass(frozen=True, slots=True)
class PodSpec:
    """One pod, as asked for."""

    name: str
    namespace: str = "default"
    service_account: str = "default"
    trust_domain: str = "cluster.local"
    """Of its SPIFFE id, beside the namespace and the service account."""
    labels: Mapping[str, str] = field(default_factory=dict)
    policies: Path | None = None
    proxy: bool = True
    """False leaves the pod without capture and without a sidecar."""
    user: User | None = None
    """Who runs the applications; None is whoever called sudo, else `nobody`."""
    env: Mapping[str, str] = field(default_factory=dict)
    init_args: tuple[str, ...] = ()
    run_args: tuple[str, ...] = ()
    """Further options of the sidecar."""

    def __post_init__(self) -> None:
        for what, word in (
            ("pod name", self.name),
            ("namespace", self.namespace),
            ("service account", self.service_account),
        ):
            if DNS_LABEL.fullmatch(word) is None:
                raise LabError(
                    f"{what} {word!r}: use up to 63 of a-z, 0-9 and -, beginning and ending "
                    "with a letter or digit"
                )
        if TRUST_DOMAIN.fullmatch(self.trust_domain) is None:
            raise LabError(f"trust domain {self.trust_domain!r}: use a name as cluster.local")
        if self.user is not None:
            self.user.refuse_proxy()


@dataclass(frozen=True, slots=True)
class Publish:
    """A port of the host that leads to a port of the pod."""

    host: str
    port: int
    pod_port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """A publication from `HOST:PORT:PODPORT`, or `PORT:PODPORT` for 127.0.0.1."""
        if (parts := PUBLISH.fullmatch(text)) is None:
            raise LabError(f"--publish {text}: expected HOST:PORT:PODPORT or PORT:PODPORT")
        port, pod_port = int(parts["port"]), int(parts["pod_port"])
        if not (0 <= port <= 65535 and 0 < pod_port <= 65535):
            raise LabError(f"--publish {text}: a port is a number up to 65535")
        return cls((parts["host"] or "127.0.0.1").strip("[]"), port, pod_port)
