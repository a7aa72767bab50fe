"""Find limits that are sound and hardly limit what their author thinks."""

from collections.abc import Iterator, Sequence

from tproxy.model.flow import Direction, Protocol
from tproxy.policy.authentication import Authentication, authentication
from tproxy.policy.findings import Code, Finding, Path, Severity
from tproxy.policy.lint_values import value_findings
from tproxy.policy.load import Document
from tproxy.policy.reading import Said
from tproxy.policy.schema import (
    LimitPer,
    MutualTlsMode,
    PeerAuthentication,
    ProxyConfigSpec,
    RateLimit,
    RateLimitPolicy,
)
from tproxy.policy.scope import Scope

PRINCIPAL = "source.principal"
SOURCE_IP = "source.ip"

_Told = tuple[Code, Path, str]


def limit_findings(
    documents: Sequence[Document], scope: Scope, config: ProxyConfigSpec
) -> Iterator[Finding]:
    """Look at the limits about this workload."""
    authentications = [each for each in documents if isinstance(each.config, PeerAuthentication)]
    linter = _Linter(config, authentication(authentications, scope))
    for document in documents:
        if isinstance(document.config, RateLimitPolicy) and scope.selects(document.config):
            for code, path, message in linter.policy(document.config):
                yield document.finding(code, path, message, severity=Severity.WARNING)


class _Linter:
    """Knows the workload's ports and whether its connections must prove who dials."""

    def __init__(self, config: ProxyConfigSpec, modes: Authentication) -> None:
        self._normalization = config.path_normalization
        self._modes = modes
        self._bytes = {
            (direction, spec.port): spec.protocol
            for spec in config.ports
            for direction in Direction
            if spec.direction is None or spec.direction.direction is direction
            if spec.protocol.carried_as in (Protocol.OPAQUE, Protocol.TLS)
        }

    def policy(self, policy: RateLimitPolicy) -> Iterator[_Told]:
        """Look at one policy."""
        direction = policy.spec.direction.direction
        first: dict[str, int] = {}
        for index, limit in enumerate(policy.spec.limits):
            path: Path = ("spec", "limits", index)
            about = repr((limit.match, limit.per, limit.key, limit.algorithm))
            if (other := first.setdefault(about, index)) != index:
                message = f"counts the same as $.spec.limits[{other}] in the same way: the lower one decides"
                yield Code.REPEATED, path, message
            yield from self._key(path, limit, direction)
            yield from self._ports(path, limit, direction)
            yield from self._values(path, limit)
            yield from _numbers(path, limit)

    def _key(self, path: Path, limit: RateLimit, direction: Direction) -> Iterator[_Told]:
        parts = (limit.key,) if isinstance(limit.key, str) else limit.key
        path = (*path, "key")
        if direction is Direction.OUTBOUND:
            for each in {PRINCIPAL, SOURCE_IP} & {*parts}:
                message = (
                    f"{each} is the same for all that leaves the application: it tells nobody apart"
                )
                yield Code.NO_EFFECT, path, message
        elif PRINCIPAL in parts and not self._strict(limit):
            message = (
                "callers on plaintext prove nothing, so all of them share one count:"
                " set PeerAuthentication to STRICT"
            )
            yield Code.IDENTITY_WITHOUT_STRICT, path, message

    def _strict(self, limit: RateLimit) -> bool:
        """Whether every connection that a limit is about must prove who dials."""
        ports = limit.match.ports if limit.match else None
        modes = [self._modes.mode, *self._modes.ports.values()]
        if ports is not None:
            modes = [self._modes.of(port) for port in ports]
        return all(each is MutualTlsMode.STRICT for each in modes)

    def _ports(self, path: Path, limit: RateLimit, direction: Direction) -> Iterator[_Told]:
        ports = limit.match.ports if limit.match else None
        where = (*path, "match", "ports")
        for index, port in enumerate(ports or ()):
            protocol = self._bytes.get((direction, port))
            if limit.per is LimitPer.REQUEST and protocol is not None:
                message = f"port {port} is declared {protocol}, where there are no requests: write per: CONNECTION"
                yield Code.HTTP_FIELD_ON_TCP_PORT, (*where, index), message

    def _values(self, path: Path, limit: RateLimit) -> Iterator[_Told]:
        for name in ("methods", "paths", "hosts"):
            values = getattr(limit.match, name, None)
            if values is not None:
                where = (*path, "match", name)
                said = Said(where, name, negative=False, values=values)
                for code, index, message in value_findings(said, self._normalization):
                    yield code, (*where, index), message


def _numbers(path: Path, limit: RateLimit) -> Iterator[_Told]:
    fill, most = limit.tokens_per_fill, limit.max_tokens
    if fill is not None and most is not None and fill > most:
        message = f"only maxTokens, {most}, are kept: the rest of each fill is lost"
        yield Code.NO_EFFECT, (*path, "tokensPerFill"), message
    if limit.key == "all":
        for name, value in (("keys", limit.keys), ("overflow", limit.overflow)):
            if value is not None:
                message = "all share one count, so there are no keys: leave it out, or name a key"
                yield Code.NO_EFFECT, (*path, name), message
