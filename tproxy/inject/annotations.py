"""What a pod's own annotations and labels change of its sidecar: our words, and Istio's for the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from tproxy.inject.findings import Refused, Remark
from tproxy.inject.sidecar import Sidecar
from tproxy.inject.values import (
    every_network,
    every_port,
    interfaces,
    networks,
    one_of,
    ports,
    switch,
)
from tproxy.inject.workload import Found

OWN = "tproxy.io/"
INJECT = f"{OWN}inject"
STATUS = f"{OWN}status"
"""What injection has done to a pod: uninject reads it."""
STATUS_VARIABLE = "TPROXY_INJECTION"
"""The same, where annotations are too short for it: of the init step."""
ISTIO_SIDECAR = "sidecar.istio.io/"
ISTIO_TRAFFIC = "traffic.sidecar.istio.io/"

Change = Callable[[Sidecar, str], Sidecar]


def _captured(option: str, read: Callable[[str], str]) -> Change:
    def change(sidecar: Sidecar, text: str) -> Sidecar:
        return msgspec.structs.replace(sidecar, capture={**sidecar.capture, option: read(text)})

    return change


def _switched(field: str) -> Change:
    return lambda sidecar, text: msgspec.structs.replace(sidecar, **{field: switch(text)})


def _named(field: str) -> Change:
    def change(sidecar: Sidecar, text: str) -> Sidecar:
        if not text:
            raise ValueError("is empty, so it names nothing")
        return msgspec.structs.replace(sidecar, **{field: text})

    return change


def _amount(side: str, resource: str) -> Change:
    def change(sidecar: Sidecar, text: str) -> Sidecar:
        resources = sidecar.resources
        amounts = {**getattr(resources, side), resource: text}
        return msgspec.structs.replace(
            sidecar, resources=msgspec.structs.replace(resources, **{side: amounts})
        )

    return change


def _workers(sidecar: Sidecar, text: str) -> Sidecar:
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{text!r} is no number of workers")
    return msgspec.structs.replace(sidecar, workers=int(text))


def _log_level(sidecar: Sidecar, text: str) -> Sidecar:
    level = one_of("debug", "info", "warning", "error")(text)
    return msgspec.structs.replace(sidecar, log_level=level)


def _interception(sidecar: Sidecar, text: str) -> Sidecar:
    mode = one_of("REDIRECT", "TPROXY")(text)
    return msgspec.structs.replace(
        sidecar, capture={**sidecar.capture, "inbound-mode": mode.lower()}
    )


CHANGES: Mapping[str, Change] = {
    f"{OWN}policies": _named("policies"),
    f"{OWN}certificates": _named("certificates"),
    f"{OWN}native-sidecar": _switched("native"),
    f"{OWN}rewrite-probes": _switched("rewrite_probes"),
    f"{OWN}scrape": _switched("scrape"),
    f"{OWN}workers": _workers,
    f"{OWN}log-level": _log_level,
    f"{ISTIO_TRAFFIC}includeInboundPorts": _captured("include-inbound-ports", every_port),
    f"{ISTIO_TRAFFIC}excludeInboundPorts": _captured("exclude-inbound-ports", ports),
    f"{ISTIO_TRAFFIC}includeOutboundPorts": _captured("include-outbound-ports", ports),
    f"{ISTIO_TRAFFIC}excludeOutboundPorts": _captured("exclude-outbound-ports", ports),
    f"{ISTIO_TRAFFIC}includeOutboundIPRanges": _captured("include-outbound-cidrs", every_network),
    f"{ISTIO_TRAFFIC}excludeOutboundIPRanges": _captured("exclude-outbound-cidrs", networks),
    f"{ISTIO_TRAFFIC}excludeInterfaces": _captured("exclude-interfaces", interfaces),
    f"{ISTIO_SIDECAR}interceptionMode": _interception,
    f"{ISTIO_SIDECAR}rewriteAppHTTPProbers": _switched("rewrite_probes"),
    f"{ISTIO_SIDECAR}proxyImage": _named("proxy_image"),
    f"{ISTIO_SIDECAR}proxyCPU": _amount("requests", "cpu"),
    f"{ISTIO_SIDECAR}proxyMemory": _amount("requests", "memory"),
    f"{ISTIO_SIDECAR}proxyCPULimit": _amount("limits", "cpu"),
    f"{ISTIO_SIDECAR}proxyMemoryLimit": _amount("limits", "memory"),
    f"{ISTIO_SIDECAR}logLevel": _log_level,
    f"{ISTIO_SIDECAR}nativeSidecar": _switched("native"),
}
"""Later ones win over earlier ones, so what is said in Istio's words and in ours is as Istio's say."""
_ABOUT_INJECTION = frozenset({INJECT, STATUS, f"{ISTIO_SIDECAR}inject"})


@dataclass(frozen=True, slots=True)
class Wish:
    """A pod's sidecar, as its annotations want it."""

    sidecar: Sidecar
    remarks: tuple[Remark, ...]
    """Annotations that have no effect."""


def refuses_injection(found: Found) -> str | None:
    """Say which of its labels and annotations keeps a pod from being injected."""
    for place in ("labels", "annotations"):
        texts = found.metadata.get(place) or {}
        for name in (INJECT, f"{ISTIO_SIDECAR}inject"):
            text = str(texts.get(name, "true")).lower()
            if text not in ("true", "false"):
                raise Refused(
                    _remark(found, place, name, f'{text!r} is neither "true" nor "false"')
                )
            if text == "false":
                return f"its {place[:-1]} {name} is false"
    return None


def wished(found: Found, sidecar: Sidecar) -> Wish:
    """Change `sidecar` as the pod's annotations say; Refused for values that cannot be meant."""
    annotations = found.metadata.get("annotations") or {}
    refused, remarks = [], []
    for name in (*CHANGES, *(set(annotations) - set(CHANGES))):
        if name not in annotations or name in _ABOUT_INJECTION:
            continue
        try:
            if name in CHANGES:
                sidecar = CHANGES[name](sidecar, str(annotations[name]))
            elif name.startswith(OWN) or name.partition("/")[0].endswith("istio.io"):
                remarks.append(_remark(found, "annotations", name, "has no effect here"))
        except ValueError as error:
            refused.append(_remark(found, "annotations", name, str(error)))
    if refused:
        raise Refused(*refused)
    return Wish(sidecar, tuple(sorted(remarks, key=str)))


def _remark(found: Found, place: str, name: str, text: str) -> Remark:
    return Remark(f"{found.path}.metadata.{place}['{name}']", text)
