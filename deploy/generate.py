"""Write what `tproxy inject` adds as kustomize components, so that both ways lead to the same pods, and the examples with it."""

from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tproxy.cli.manifests import changed
from tproxy.inject.containers import init_container, proxy_container, volumes
from tproxy.inject.inject import inject
from tproxy.inject.refusals import INIT, PROXY
from tproxy.inject.sidecar import Platform, Sidecar
from tproxy.inject.workload import Found, pods_in

COMPONENTS = Path(__file__).parent / "components"
EXAMPLES = Path(__file__).parent / "examples"
NATIVE = Sidecar(policies="tproxy-policies")
EXAMPLE_SIDECARS = {
    "httpbin.yaml": NATIVE,
    "sleep.yaml": NATIVE,
    "podman.yaml": Sidecar(
        platform=Platform.PODMAN,
        policies="tproxy-policies",
        certificates="hostPath:/srv/identity/{service_account}",
    ),
}
SCRAPED = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": "15020",
    "prometheus.io/path": "/stats/prometheus",
}
KINDS = "Deployment|StatefulSet|DaemonSet|ReplicaSet|Job"
HEAD = "# Written by deploy/generate.py: what `tproxy inject` adds, as a patch.\n"


def main() -> None:
    """Write every component, and every example with its sidecar."""
    for name, files in components().items():
        directory = COMPONENTS / name
        directory.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (directory / file).write_text(text)
    for file, text in injected().items():
        (EXAMPLES / "injected" / file).write_text(text)


def injected() -> dict[str, str]:
    """Give the examples with their sidecars, by their files' names."""
    return {
        file: changed(file, (EXAMPLES / file).read_text(), partial(inject, sidecar=sidecar)).text
        for file, sidecar in EXAMPLE_SIDECARS.items()
    }


def components() -> dict[str, dict[str, str]]:
    """Give each component's files, by name."""
    classic = Sidecar(policies="tproxy-policies", native=False)
    identity = Sidecar(certificates="secret:tproxy-identity")
    return {
        "native": _component(_whole(NATIVE)),
        "classic": _component(_whole(classic), kinds=KINDS.removesuffix("|Job")),
        "certificates": _component(_certificates(identity)),
    }


def _component(template: dict[str, Any], kinds: str = KINDS) -> dict[str, str]:
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "patches": [{"target": {"kind": kinds}, "path": "sidecar.yaml"}],
    }
    patch = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "any"},
        "spec": {"template": template},
    }
    return {
        "kustomization.yaml": HEAD + yaml.safe_dump(kustomization, sort_keys=False),
        "sidecar.yaml": HEAD + yaml.safe_dump(patch, sort_keys=False),
    }


def _found() -> Found:
    pod = {"kind": "Pod", "metadata": {"name": "any"}, "spec": {"containers": [{"name": "app"}]}}
    (found,) = pods_in(pod)
    return found


def _whole(sidecar: Sidecar) -> dict[str, Any]:
    proxy = proxy_container(_found(), sidecar, {})
    for variable in proxy["env"]:
        if variable["name"] == "TPROXY_WORKLOAD":
            # A patch knows no names; the label that names a workload does.
            del variable["value"]
            variable["valueFrom"] = {"fieldRef": {"fieldPath": "metadata.labels['app']"}}
    init = [init_container(sidecar)]
    others: list[dict[str, Any]] = []
    (init if sidecar.native else others).append(proxy)
    spec = {
        "initContainers": init,
        **({"containers": others} if others else {}),
        "volumes": volumes(_found(), sidecar),
    }
    return {"metadata": {"annotations": SCRAPED}, "spec": spec}


def _certificates(sidecar: Sidecar) -> dict[str, Any]:
    """Add an identity to the native form."""
    proxy = proxy_container(_found(), sidecar, {})
    name = "tproxy-certificates"
    return {
        "spec": {
            "initContainers": [
                # What a patch names comes first: in this order, then.
                {"name": INIT},
                {
                    "name": PROXY,
                    "env": [each for each in proxy["env"] if each["name"] == "TPROXY_CERTIFICATES"],
                    "volumeMounts": [
                        each for each in proxy["volumeMounts"] if each["name"] == name
                    ],
                },
            ],
            "volumes": [each for each in volumes(_found(), sidecar) if each["name"] == name],
        }
    }


if __name__ == "__main__":
    main()
