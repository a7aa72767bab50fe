"""Policies as text, compiled for a workload that tests agree on."""

from tproxy.model.identity import Workload
from tproxy.policy.compile import compiled
from tproxy.policy.nodes import SourceFile
from tproxy.policy.snapshot import Snapshot

WORKLOAD = Workload("shop", "web", "shop", labels={"app": "shop"})


def authorization(spec: str, *, name: str = "p", annotations: str = "{}") -> str:
    """One AuthorizationPolicy of the workload's namespace, its spec in YAML's flow style."""
    return (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: {name}, namespace: web, annotations: {annotations}}}\nspec: {spec}\n"
    )


def snapshot(*documents: str, generation: int = 2) -> Snapshot:
    """Compile documents, which must be sound."""
    content = "---\n".join(documents).encode()
    result = compiled([SourceFile("policies.yaml", content)], generation, WORKLOAD)
    assert isinstance(result, Snapshot), "\n".join(map(str, result))
    return result


def rate_limit(limits: str, *, more: str = "", name: str = "p", namespace: str = "web") -> str:
    """One RateLimitPolicy on what comes in, its limits in YAML's flow style; `more` stands beside them in its spec."""
    direction = "" if "direction" in more else "direction: INBOUND, "
    return (
        "apiVersion: tproxy.io/v1alpha1\nkind: RateLimitPolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec: {{{direction}{more}limits: [{limits}]}}\n"
    )
