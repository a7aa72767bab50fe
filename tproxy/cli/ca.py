"""`tproxy ca`: a certificate authority of one's own, for labs and for machines without one."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from tproxy.model.identity import Peer
from tproxy.stores.authority_files import AuthorityFiles, BadAuthority, hand_out
from tproxy.stores.identity_files import IdentityFiles
from tproxy.stores.identity_store import BadIdentity
from tproxy.tls.authority import Authority, Phase, TooEarly
from tproxy.tls.documents import named
from tproxy.tls.root import MOST_TTL, ROOT_LIFETIME, TTL

MOST_ROOT_DAYS = 36500
_DURATION = re.compile(r"(?P<number>\d{1,9})(?P<unit>[smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_OWNER = re.compile(r"(?P<uid>\d+)(:(?P<gid>\d+))?")

DIRECTORY = click.Path(file_okay=False, path_type=Path)


def _duration(_ctx: click.Context, _param: click.Parameter, value: str) -> timedelta:
    if (found := _DURATION.fullmatch(value)) is None:
        raise click.BadParameter(f"{value!r} is no duration, write `30m`, `1h` or `7d`")
    return timedelta(**{_UNITS[found["unit"]]: int(found["number"])})


def _owner(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    if value is None:
        return None
    if (found := _OWNER.fullmatch(value)) is None:
        raise click.BadParameter(f"{value!r} is not UID or UID:GID in numbers")
    return int(found["uid"]), int(found["gid"] or found["uid"])


DAYS = click.option(
    "--days",
    type=click.IntRange(1, MOST_ROOT_DAYS),
    default=ROOT_LIFETIME.days,
    show_default=True,
    help="How long the root is valid.",
)


@click.group()
def ca() -> None:
    """A certificate authority for labs and for machines without one: it is a directory, its owner's alone."""


@ca.command()
@click.argument("directory", type=DIRECTORY)
@click.option(
    "--trust-domain",
    required=True,
    metavar="NAME",
    help="Whose workloads it signs for, as cluster.local.",
)
@DAYS
def init(directory: Path, trust_domain: str, days: int) -> None:
    """Found an authority in DIRECTORY, which must be empty or not exist."""
    lifetime = timedelta(days=days)
    with _refusing():
        authority = AuthorityFiles(directory).create(trust_domain, lifetime=lifetime, now=_now())
    click.echo(f"{directory} signs for the trust domain {trust_domain}")
    _tell_roots(authority)
    click.echo("Its key is in there in plain: who reads it can be anybody. Keep a copy as safe.")


@ca.command()
@click.argument("directory", type=DIRECTORY)
@click.argument("spiffe_id", required=False)
@click.option("--namespace", help="The workload's namespace, in the place of SPIFFE_ID.")
@click.option("--service-account", help="The workload's service account, with --namespace.")
@click.option(
    "--out",
    type=DIRECTORY,
    required=True,
    metavar="DIRECTORY",
    help="Where tls.crt, tls.key and ca.crt are put; what was issued there before is replaced, all files at once.",
)
@click.option(
    "--ttl",
    callback=_duration,
    default=f"{int(TTL.total_seconds() // 3600)}h",
    show_default=True,
    metavar="DURATION",
    help=f"How long it is valid, up to {MOST_TTL.days}d.",
)
@click.option(
    "--owner",
    callback=_owner,
    metavar="UID[:GID]",
    help="Whom the files belong to: the sidecar's user, who alone may read them. [the directory's]",
)
def issue(
    directory: Path,
    out: Path,
    ttl: timedelta,
    owner: tuple[int, int] | None,
    **who: str | None,
) -> None:
    """Issue an identity for SPIFFE_ID, or for a namespace's service account; call it again to renew it."""
    files = AuthorityFiles(directory)
    with _refusing():
        own = _workload(files.read().trust_domain, **who)
        svid, bundle = files.issue(own, ttl=ttl, now=_now())
        hand_out(svid, bundle, out, owner)
    click.echo(f"{own.spiffe_id} serial {svid.serial} until {_moment(svid.not_after)} in {out}")


def _workload(
    trust_domain: str,
    spiffe_id: str | None,
    namespace: str | None,
    service_account: str | None,
) -> Peer:
    if (spiffe_id is None) == (namespace is None) or (namespace is None) != (
        service_account is None
    ):
        raise click.UsageError("say who it is for: SPIFFE_ID, or --namespace and --service-account")
    if spiffe_id is None:
        spiffe_id = f"spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"
    return Peer.of_uri(spiffe_id)


@ca.command()
@click.argument("directory", type=DIRECTORY)
def bundle(directory: Path) -> None:
    """Print the roots of the authority in DIRECTORY, for those who do not get them with a certificate."""
    with _refusing():
        click.echo(AuthorityFiles(directory).read().bundle, nl=False)


@ca.command()
@click.argument("directory", type=DIRECTORY)
def check(directory: Path) -> None:
    """Say whether the certificate, the key and the bundles in DIRECTORY, from whomever, are an identity for a sidecar."""
    logging.basicConfig(format="%(levelname)s %(message)s")
    with _refusing():
        identity = IdentityFiles(directory).load(_now())
    leaf, *chain = identity.certificates
    click.echo(
        f"{identity.own.spiffe_id} serial {leaf.serial_number:x} until {_moment(identity.not_after)}"
    )
    for each in chain:
        click.echo(f"  signed by {named(each)} until {_moment(each.not_valid_after_utc)}")
    for trust_domain, roots in identity.bundles.items():
        for root in roots:
            until = _moment(root.not_valid_after_utc)
            click.echo(f"  trusts for {trust_domain}: {named(root)} until {until}")


@ca.command()
@click.argument("directory", type=DIRECTORY)
def status(directory: Path) -> None:
    """Tell the roots of the authority in DIRECTORY, and how far a replacement is."""
    with _refusing():
        authority = AuthorityFiles(directory).read()
    click.echo(f"{directory} signs for the trust domain {authority.trust_domain}")
    _tell_roots(authority)
    click.echo(f"The last of what it has issued ends at {_moment(authority.last_expiry)}.")
    if authority.phase is not Phase.STEADY:
        _tell_phase(authority)


@ca.command()
@click.argument("directory", type=DIRECTORY)
@click.option("--early", is_flag=True, help="Do not wait; who holds what is old may be cut off.")
@DAYS
def rotate(directory: Path, days: int, *, early: bool) -> None:
    """Take the next step of replacing the root of the authority in DIRECTORY.

    There are three, and no workload loses trust where each is taken in its time:

    \b
    1. A second root comes into the bundle of whatever is issued from here on.
       The first one still signs.
    2. The second root signs. The first one stays in the bundle, and its key is
       deleted.
    3. The first root leaves the bundle.

    Before 2 and 3 all that was issued before must have ended, so that everybody
    has been given a new certificate and a new bundle: sooner, the step is refused.
    """
    files, lifetime = AuthorityFiles(directory), timedelta(days=days)
    with _refusing():
        try:
            authority = files.rotate(lifetime=lifetime, now=_now(), early=early)
        except TooEarly as refused:
            raise click.ClickException(
                f"{refused}: until then somebody may have a bundle, or a certificate, of before;"
                " --early does not wait"
            ) from refused
    _tell_roots(authority)
    _tell_phase(authority)


def _tell_roots(authority: Authority) -> None:
    signing, *others = authority.roots
    for certificate in (signing, *others):
        role = "signs" if certificate is signing else "is trusted"
        click.echo(
            f"  {role}: {named(certificate)} until {_moment(certificate.not_valid_after_utc)}"
        )


_PHASES = {
    Phase.SPREADING: (
        "Step 1 of 3: what is issued from here on brings both roots with it. Give `tproxy ca bundle`"
        " to whoever has a copy of the bundle from elsewhere. Step 2, `tproxy ca rotate` again,"
        " lets the new root sign: not before {}."
    ),
    Phase.SIGNING: (
        "Step 2 of 3: the new root signs, the key of the old one is deleted. Step 3, `tproxy ca rotate`"
        " again, takes the old root out of the bundle: not before {}."
    ),
    Phase.STEADY: "Step 3 of 3: the old root is trusted no more in what is issued from here on.",
}


def _tell_phase(authority: Authority) -> None:
    click.echo(_PHASES[authority.phase].format(_moment(authority.settled)))


@contextmanager
def _refusing() -> Iterator[None]:
    """Say in one line why something is not done."""
    try:
        yield
    except (BadAuthority, BadIdentity, ValueError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise click.ClickException(f"{where}{error.strerror or error}") from error


def _moment(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _now() -> datetime:
    return datetime.now(UTC)
