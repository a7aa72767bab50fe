"""What a pod's own annotations and labels change of its sidecar: our words, and Istio's for the same."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from tproxy.inject.findings import Refused, Remark
from tproxy.inject.sidecar import Resources, Sidecar
from tproxy.inject.values import (
    CAPTURE,
    amount,
    every_network,
    every_port,
    interfaces,
    networks,
    one_of,
    ports,
    size,
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
        amounts = {**getattr(resources, side), resource: amount(text)}
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


def _uncaught(_sidecar: Sidecar, text: str) -> Sidecar:
    raise ValueError(
        f"{text!r}: what virtual machines send there would not be captured; leave the pod alone"
        f' with {INJECT}: "false"'
    )


CHANGES: Mapping[str, Change] = {
    f"{ISTIO_TRAFFIC}includeInboundPorts": _captured("include-inbound-ports", every_port),
    f"{ISTIO_TRAFFIC}excludeInboundPorts": _captured("exclude-inbound-ports", ports),
    f"{ISTIO_TRAFFIC}includeOutboundPorts": _captured("include-outbound-ports", ports),
    f"{ISTIO_TRAFFIC}excludeOutboundPorts": _captured("exclude-outbound-ports", ports),
    f"{ISTIO_TRAFFIC}includeOutboundIPRanges": _captured("include-outbound-cidrs", every_network),
    f"{ISTIO_TRAFFIC}excludeOutboundIPRanges": _captured("exclude-outbound-cidrs", networks),
    f"{ISTIO_TRAFFIC}excludeInterfaces": _captured("exclude-interfaces", interfaces),
    f"{ISTIO_TRAFFIC}kubevirtInterfaces": _uncaught,
    "istio.io/reroute-virtual-interfaces": _uncaught,
    f"{ISTIO_SIDECAR}interceptionMode": _interception,
    f"{ISTIO_SIDECAR}rewriteAppHTTPProbers": _switched("rewrite_probes"),
    f"{ISTIO_SIDECAR}proxyImage": _named("proxy_image"),
    f"{ISTIO_SIDECAR}proxyCPU": _amount("requests", "cpu"),
    f"{ISTIO_SIDECAR}proxyMemory": _amount("requests", "memory"),
    f"{ISTIO_SIDECAR}proxyCPULimit": _amount("limits", "cpu"),
    f"{ISTIO_SIDECAR}proxyMemoryLimit": _amount("limits", "memory"),
    f"{ISTIO_SIDECAR}logLevel": _log_level,
    f"{ISTIO_SIDECAR}nativeSidecar": _switched("native"),
    f"{OWN}policies": _named("policies"),
    f"{OWN}certificates": _named("certificates"),
    f"{OWN}native-sidecar": _switched("native"),
    f"{OWN}rewrite-probes": _switched("rewrite_probes"),
    f"{OWN}scrape": _switched("scrape"),
    f"{OWN}workers": _workers,
    f"{OWN}log-level": _log_level,
    **{f"{OWN}{option}": _captured(option, read) for option, read in CAPTURE.items()},
}
"""Later ones win over earlier ones: our words over Istio's."""
IDLE: Mapping[str, str] = {
    "proxy.istio.io/config": "it is Envoy's; the sidecar is waited for, and drains, in any case",
    f"{ISTIO_SIDECAR}bootstrapOverride": "it is Envoy's",
    f"{ISTIO_SIDECAR}discoveryAddress": "there is no control plane, policies are files",
    f"{ISTIO_SIDECAR}userVolume": "the sidecar mounts its policies and its identity only",
    f"{ISTIO_SIDECAR}userVolumeMount": "the sidecar mounts its policies and its identity only",
    f"{ISTIO_SIDECAR}componentLogLevel": f"its log has one level, {OWN}log-level",
    f"{ISTIO_SIDECAR}agentLogLevel": f"its log has one level, {OWN}log-level",
    f"{ISTIO_SIDECAR}statsInclusionPrefixes": "all metrics are always there",
    f"{ISTIO_SIDECAR}statsInclusionSuffixes": "all metrics are always there",
    f"{ISTIO_SIDECAR}statsInclusionRegexps": "all metrics are always there",
    f"{ISTIO_SIDECAR}extraStatTags": "labels of metrics are fixed",
}
"""Why some of Istio's annotations change nothing."""
_BALANCED = {
    (f"{ISTIO_SIDECAR}proxyCPU", f"{ISTIO_SIDECAR}proxyCPULimit"): "cpu",
    (f"{ISTIO_SIDECAR}proxyMemory", f"{ISTIO_SIDECAR}proxyMemoryLimit"): "memory",
}
"""What is asked for, and the most of it: Kubernetes refuses a pod that asks for more than it may have."""
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
    annotations = {
        name: str(text or "")
        for name, text in (found.metadata.get("annotations") or {}).items()
        if name not in _ABOUT_INJECTION
    }
    refused = []
    for name in (each for each in CHANGES if each in annotations):
        try:
            sidecar = CHANGES[name](sidecar, annotations[name])
        except ValueError as error:
            refused.append(_remark(found, "annotations", name, str(error)))
    if refused:
        raise Refused(*refused)
    for (asked, most), resource in _BALANCED.items():
        if asked in annotations or most in annotations:
            sidecar = _balanced(found, sidecar, resource, given=(asked, most))
    return Wish(sidecar, tuple(_idle(found, annotations)))


def _balanced(found: Found, sidecar: Sidecar, resource: str, *, given: tuple[str, str]) -> Sidecar:
    """Let what the pod's annotations leave open follow what they say."""
    resources = sidecar.resources
    asked, most = resources.requests.get(resource), resources.limits.get(resource)
    if asked is None or most is None or size(asked) <= size(most):
        return sidecar
    named = [name for name in given if name in found.metadata["annotations"]]
    if len(named) == len(given):
        text = f"{asked} is more than {most}, which {given[1]} allows"
        raise Refused(_remark(found, "annotations", given[0], text))
    both = asked if named[0] == given[0] else most
    return msgspec.structs.replace(
        sidecar,
        resources=Resources(
            requests={**resources.requests, resource: both},
            limits={**resources.limits, resource: both},
        ),
    )


def _idle(found: Found, annotations: Mapping[str, str]) -> Iterator[Remark]:
    """Name what has no effect, of ours and of Istio's."""
    for name in sorted(set(annotations) - set(CHANGES)):
        if name.startswith(OWN) or name.partition("/")[0].endswith("istio.io"):
            why = IDLE.get(name, "it is none that injection knows")
            yield _remark(found, "annotations", name, f"has no effect here: {why}")


def _remark(found: Found, place: str, name: str, text: str) -> Remark:
    return Remark(f"{found.path}.metadata.{place}['{name}']", text)
