"""What operators see of the proxy's own identity, and of the handshakes in which it is shown."""

from collections.abc import Mapping

from tproxy.model.flow import Direction
from tproxy.model.identity import Peer
from tproxy.telemetry.registry import Registry

OK = "ok"
HANDSHAKE_RESULTS = frozenset(
    {
        OK,
        "bad_certificate",
        "closed",
        "expired",
        "no_certificate",
        "no_identity",
        "not_yet_valid",
        "overload",
        "protocol",
        "rejected",
        "revoked",
        "timeout",
        "untrusted",
        "wrong_identity",
    }
)
"""What a handshake can come to: the values of `tproxy_tls_handshakes_total{result}`."""


class IdentityMetrics:
    """What there is to say of identities. What changes: whether there was one to be taken, and the counts."""

    def __init__(self, registry: Registry) -> None:
        self._handshakes = registry.counter(
            "tproxy_tls_handshakes",
            "TLS handshakes by what they came to.",
            ["direction", "result"],
        )
        self._over: dict[tuple[Direction, str], int] = {}
        """Handshakes since the counter was last fed."""
        self._expiration = registry.gauge(
            "tproxy_cert_expiration_timestamp_seconds",
            "When our certificate, or the first root of a trust domain, ends.",
            ["kind", "trust_domain"],
        )
        self._reload_successful = registry.gauge(
            "tproxy_cert_last_reload_successful",
            "Whether the last identity was taken.",
        )
        self._reload_timestamp = registry.gauge(
            "tproxy_cert_last_reload_timestamp_seconds",
            "When an identity was last taken.",
        )

    def handshake(self, direction: Direction, result: str) -> None:
        """Count a handshake that is over."""
        assert result in HANDSHAKE_RESULTS, f"{result!r} is no result of a handshake"
        key = (direction, result)
        self._over[key] = self._over.get(key, 0) + 1

    def settle(self) -> None:
        """Feed the counter with what was noted in passing."""
        over, self._over = self._over, {}
        for key, times in over.items():
            self._handshakes.labels(*key).inc(times)

    def taken(self, own: Peer, until: float, roots: Mapping[str, float], *, now: float) -> None:
        """Say that `own` is shown from `now` on; all times are seconds since the epoch."""
        self._expect()
        self._expiration.clear()
        self._expiration.labels("svid", own.trust_domain).set(until)
        for trust_domain, ends in roots.items():
            self._expiration.labels("root", trust_domain).set(ends)
        self._reload_successful.labels().set(1)
        self._reload_timestamp.labels().set(now)

    def refused(self) -> None:
        """Say that an identity was not taken."""
        self._expect()
        self._reload_successful.labels().set(0)

    def _expect(self) -> None:
        """Show from now on how taking an identity went: a sidecar that has none must not look like one that failed."""
        self._reload_successful.labels()
        self._reload_timestamp.labels()
