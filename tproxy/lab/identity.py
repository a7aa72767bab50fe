"""The identities of pods: the lab is the authority of their trust domains, and whoever supervises a pod renews its own."""

from collections.abc import Callable
from datetime import UTC, datetime

import trio

from tproxy.lab.records import Lab
from tproxy.lab.spec import PROXY, LabError, PodSpec
from tproxy.model.identity import Peer
from tproxy.stores.authority_files import AuthorityFiles, BadAuthority, hand_out
from tproxy.tls.root import ROOT_LIFETIME, TTL, CannotSign

CHECK_SECONDS = 30.0
"""How often to look whether it is time to renew: a machine that slept has missed no timer that way."""


def issue_identity(lab: Lab, spec: PodSpec, now: datetime) -> datetime:
    """Put a new identity in the place of a pod's, for its sidecar's eyes alone; says when to renew it."""
    authority = AuthorityFiles(lab.authority(spec.trust_domain))
    own = Peer(spec.trust_domain, spec.namespace, spec.service_account)
    try:
        with lab.locked():
            if not authority.exists():
                authority.create(spec.trust_domain, lifetime=ROOT_LIFETIME, now=now)
        svid, bundle = authority.issue(own, ttl=TTL, now=now)
        hand_out(svid, bundle, lab.identity(spec.name), (PROXY.uid, PROXY.gid))
    except (OSError, BadAuthority, CannotSign) as error:
        raise LabError(f"pod {spec.name}: no identity could be issued: {error}") from error
    return now + TTL / 2


async def renew_identity(
    issue: Callable[[datetime], datetime], due: datetime, clock: Callable[[], datetime]
) -> None:
    """Issue anew whenever it is due, until cancelled; the sidecar tells when that fails for too long."""
    while True:
        await trio.sleep(CHECK_SECONDS)
        if (now := clock()) >= due:
            due = await trio.to_thread.run_sync(_renewed, issue, now, due)


def _renewed(issue: Callable[[datetime], datetime], now: datetime, due: datetime) -> datetime:
    """Say when the next one is due: at once, should this one fail, as where no disk is left."""
    try:
        return issue(now)
    except LabError:
        return due


def utc_now() -> datetime:
    """The time, as certificates have it."""
    return datetime.now(UTC)
