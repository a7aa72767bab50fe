"""What a connection to an upstream has to prove and to be shown, if it is TLS of ours."""

from enum import StrEnum

import msgspec


class TlsMode(StrEnum):
    """What is proven by whom, in the words of Istio's DestinationRule."""

    SIMPLE = "SIMPLE"
    """The upstream proves its name."""
    MUTUAL = "MUTUAL"
    """And we show a certificate that files name."""
    ISTIO_MUTUAL = "ISTIO_MUTUAL"
    """Both show the identity of their workload."""


class UpstreamTls(msgspec.Struct, frozen=True, cache_hash=True, kw_only=True):
    """How one upstream is spoken to; equal ones can share connections."""

    mode: TlsMode
    automatic: bool = False
    """Whether no rule says so but a sidecar that answers there: a workload without an identity does without."""
    server_name: str = ""
    """What is asked for (SNI); empty to ask for nobody."""
    subject_alt_names: tuple[str, ...] = ()
    """Who it may be: SPIFFE ids, and for SIMPLE and MUTUAL DNS names too. Empty: `server_name`, or for ISTIO_MUTUAL
    anybody of our trust domain."""
    ca_certificates: str = ""
    """The file of roots for SIMPLE and MUTUAL; empty for those of the system."""
    ca_crl: str = ""
    """The file of revoked certificates."""
    client_certificate: str = ""
    private_key: str = ""
    insecure_skip_verify: bool = False
    """Whether the upstream may be anybody: what SIMPLE and MUTUAL allow and ISTIO_MUTUAL does not."""
