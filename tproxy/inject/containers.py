"""The two containers that injection adds, and what they mount."""

import json
from typing import Any

from tproxy.inject.findings import Manifest, Refused, Remark
from tproxy.inject.probes import Probe
from tproxy.inject.refusals import INIT, PROXY
from tproxy.inject.sidecar import Platform, Sidecar
from tproxy.inject.workload import Found
from tproxy.model.ports import PROXY_UID, Ports

PORTS = Ports()
LIMITS = "TPROXY_LIMITS"
POLICIES = "/etc/tproxy/policies"
CERTIFICATES = "/etc/tproxy/certificates"
PODINFO = "/etc/tproxy/podinfo"
READY = {"path": "/healthz/ready", "port": PORTS.health}
DNS_PORT = 15053
"""The init step's own default: nobody listens there."""
GRACE_SECONDS = 30
"""What Kubernetes gives a pod to end in, unless the pod says otherwise."""
SPARE_SECONDS = 5
"""Of the grace, left for the sidecar to end in after it has drained."""
LAST_CALLS_SECONDS = 5
"""How long an ordinary sidecar stays for an application that is told to end at the same time."""


def _hardened() -> Manifest:
    return {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def init_container(sidecar: Sidecar) -> Manifest:
    """Write the one that programs the kernel and ends."""
    arguments = ["apply", *(["--verify"] if sidecar.verify else [])]
    arguments += [f"--{option}={value}" for option, value in sidecar.capture.items()]
    capabilities = ["NET_ADMIN", "NET_RAW", *(["SETGID", "SETUID"] if sidecar.verify else [])]
    return {
        "name": INIT,
        "image": sidecar.init_image,
        "imagePullPolicy": sidecar.image_pull_policy,
        "args": arguments,
        # A service that is called tproxy-inbound would otherwise set these.
        "env": [
            {"name": f"TPROXY_{name}_PORT", "value": str(port)}
            for name, port in (
                ("OUTBOUND", PORTS.outbound),
                ("INBOUND", PORTS.inbound),
                ("DNS", DNS_PORT),
            )
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {
            **_hardened(),
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "capabilities": {"drop": ["ALL"], "add": capabilities},
        },
    }


def proxy_container(found: Found, sidecar: Sidecar, probes: dict[str, Probe]) -> Manifest:
    """Write the one that carries."""
    container: Manifest = {
        "name": PROXY,
        "image": sidecar.proxy_image,
        "imagePullPolicy": sidecar.image_pull_policy,
        "args": ["run"],
        **_ports(sidecar),
        "env": _environment(found, sidecar, probes),
        "resources": {
            side: dict(amounts)
            for side in ("requests", "limits")
            if (amounts := getattr(sidecar.resources, side))
        },
        "securityContext": _security(sidecar),
        **_life(sidecar),
    }
    mounts = _mounts(sidecar)
    return {**container, "volumeMounts": mounts} if mounts else container


def volumes(found: Found, sidecar: Sidecar) -> list[Manifest]:
    """Write what the sidecar mounts."""
    made: list[Manifest] = []
    if sidecar.policies:
        made.append({"name": f"{PROXY}-policies", "configMap": {"name": sidecar.policies}})
    if _identified(sidecar):
        made.append({"name": f"{PROXY}-certificates", **_certificates(found, sidecar)})
    if sidecar.platform is Platform.KUBERNETES:
        labels = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
        made.append({"name": f"{PROXY}-podinfo", "downwardAPI": {"items": [labels]}})
    return made


def _certificates(found: Found, sidecar: Sidecar) -> Manifest:
    kind, _, name = sidecar.certificates.replace(
        "{service_account}", found.service_account
    ).partition(":")
    match kind:
        case "secret" if name:
            # The sidecar alone mounts it, as a user of its own: only mode 0444 lets it read what root owns.
            return {"secret": {"secretName": name, "defaultMode": 0o444}}
        case "csi" if name:
            return {"csi": {"driver": name, "readOnly": True}}
        case "hostPath" if name.startswith("/"):
            return {"hostPath": {"path": name, "type": "Directory"}}
    raise Refused(
        Remark(
            found.path,
            f"certificates {sidecar.certificates!r} are neither secret:NAME, csi:DRIVER, hostPath:/DIRECTORY nor none",
        )
    )


def _mounts(sidecar: Sidecar) -> list[Manifest]:
    wanted = (
        ("policies", POLICIES, bool(sidecar.policies)),
        ("certificates", CERTIFICATES, _identified(sidecar)),
        ("podinfo", PODINFO, sidecar.platform is Platform.KUBERNETES),
    )
    return [
        {"name": f"{PROXY}-{name}", "mountPath": path, "readOnly": True}
        for name, path, mounted in wanted
        if mounted
    ]


def _environment(found: Found, sidecar: Sidecar, probes: dict[str, Probe]) -> list[Manifest]:
    grace = found.spec.get("terminationGracePeriodSeconds")
    grace = GRACE_SECONDS if grace is None else grace
    texts = {
        # A service that is called tproxy-admin would otherwise set its own.
        "TPROXY_OUTBOUND_PORT": str(PORTS.outbound),
        "TPROXY_INBOUND_PORT": str(PORTS.inbound),
        "TPROXY_ADMIN_PORT": str(PORTS.admin),
        "TPROXY_METRICS_PORT": str(PORTS.metrics),
        "TPROXY_HEALTH_PORT": str(PORTS.health),
        "TPROXY_WORKLOAD": found.name,
        "TPROXY_DRAIN_SECONDS": str(max(1, grace - SPARE_SECONDS)),
    }
    if not sidecar.native:
        texts[LIMITS] = f"drain-least-seconds={min(LAST_CALLS_SECONDS, grace)}"
    if sidecar.workers > 1:
        texts["TPROXY_WORKERS"] = str(sidecar.workers)
    if sidecar.log_level != "info":
        texts["TPROXY_LOG_LEVEL"] = sidecar.log_level
    if sidecar.policies:
        texts["TPROXY_POLICIES"] = POLICIES
    if _identified(sidecar):
        texts["TPROXY_CERTIFICATES"] = CERTIFICATES
    if probes:
        texts["TPROXY_APP_PROBES"] = _written(sidecar, probes)
    if _transparent(sidecar):
        texts |= {"TPROXY_INBOUND_MODE": "tproxy", "TPROXY_USER": f"{PROXY_UID}:{PROXY_UID}"}
    written = _joined(texts, sidecar.environment)
    given: list[Manifest] = [{"name": name, "value": value} for name, value in written.items()]
    return [each for each in _who(found, sidecar) if each["name"] not in written] + given


def _joined(ours: dict[str, str], theirs: dict[str, str]) -> dict[str, str]:
    """Let what operators write win; limits are many in one, of which only those that they name are theirs."""
    written = {**ours, **theirs}
    both = [each[LIMITS] for each in (ours, theirs) if LIMITS in each]
    return {**written, LIMITS: " ".join(both)} if both else written


def _written(sidecar: Sidecar, probes: dict[str, Probe]) -> str:
    text = json.dumps(probes, separators=(",", ":"))
    # Kubernetes reads $(NAME) in a variable as another one's value, and $$ as $.
    return text.replace("$", "$$") if sidecar.platform is Platform.KUBERNETES else text


def _who(found: Found, sidecar: Sidecar) -> list[Manifest]:
    """Say whose sidecar it is; the pod itself knows best, where it can be asked."""
    if sidecar.platform is Platform.PODMAN:
        labels = found.metadata.get("labels") or {}
        return [
            {"name": "TPROXY_NAMESPACE", "value": found.namespace or "default"},
            {"name": "TPROXY_SERVICE_ACCOUNT", "value": found.service_account},
            *(
                [
                    {
                        "name": "TPROXY_LABELS",
                        "value": " ".join(f"{k}={v or ''}" for k, v in labels.items()),
                    }
                ]
                if labels
                else []
            ),
        ]
    return [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
        for name, path in (
            ("TPROXY_NAMESPACE", "metadata.namespace"),
            ("TPROXY_SERVICE_ACCOUNT", "spec.serviceAccountName"),
        )
    ] + [{"name": "TPROXY_LABELS_FILE", "value": f"{PODINFO}/labels"}]


def _ports(sidecar: Sidecar) -> Manifest:
    if sidecar.platform is Platform.PODMAN:
        return {}  # it would publish them on the host, where the next pod's would clash with them
    return {
        "ports": [
            {"name": "tproxy-metrics", "containerPort": PORTS.metrics},
            {"name": "tproxy-health", "containerPort": PORTS.health},
        ]
    }


def _security(sidecar: Sidecar) -> Manifest:
    if not _transparent(sidecar):
        return {
            **_hardened(),
            "runAsUser": PROXY_UID,
            "runAsGroup": PROXY_UID,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        }
    # Kubernetes gives capabilities to root only: it opens the transparent listener and becomes the proxy's user then.
    return {
        **_hardened(),
        "runAsUser": 0,
        "runAsGroup": 0,
        "runAsNonRoot": False,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "SETGID", "SETUID"]},
    }


def _life(sidecar: Sidecar) -> Manifest:
    """Say when it begins to be needed, and when it is ready."""
    ready: dict[str, Any] = {"httpGet": dict(READY), "periodSeconds": 5, "failureThreshold": 2}
    if not sidecar.native:
        waits = {"exec": {"command": ["tproxy", "wait"]}}
        return {"readinessProbe": ready, "lifecycle": {"postStart": waits}}
    started = {"httpGet": dict(READY), "periodSeconds": 1, "failureThreshold": 60}
    return {"restartPolicy": "Always", "startupProbe": started, "readinessProbe": ready}


def _identified(sidecar: Sidecar) -> bool:
    return sidecar.certificates not in ("", "none")


def _transparent(sidecar: Sidecar) -> bool:
    return sidecar.capture.get("inbound-mode") == "tproxy"
