"""Pods in, pods with a sidecar out: what is added, what is refused, and that it can be taken out again."""

import json
from contextlib import suppress
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tproxy.inject.annotations import STATUS
from tproxy.inject.findings import Refused
from tproxy.inject.inject import Injected, Skipped, inject, uninject
from tproxy.inject.sidecar import Platform, Sidecar
from tproxy.model.app_probe import read_probes
from tproxy.model.identity import read_labels

PLAIN = Sidecar()
WHOLE = Sidecar(policies="tproxy-policies", certificates="secret:tproxy-{service_account}")


def pod(**spec: object) -> dict[str, Any]:
    """A pod of one container."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "app", "image": "app:1"}], **spec},
    }


def annotated(**annotations: str) -> dict[str, Any]:
    """The same, with annotations; `tproxy_io__x` is tproxy.io/x, and `istio__x` of Istio's sidecar."""
    prefixes = {
        "own": "tproxy.io/",
        "sidecar": "sidecar.istio.io/",
        "traffic": "traffic.sidecar.istio.io/",
    }
    made = pod()
    made["metadata"]["annotations"] = {
        prefixes[prefix] + name: value
        for key, value in annotations.items()
        for prefix, _, name in (key.replace("0", "-").partition("__"),)
    }
    return made


def injected(manifest: dict[str, Any], sidecar: Sidecar = PLAIN) -> dict[str, Any]:
    """The manifest with a sidecar."""
    made = inject(manifest, sidecar)
    assert isinstance(made, Injected)
    return made.manifest


def container(manifest: dict[str, Any], name: str = "tproxy") -> dict[str, Any]:
    """One of a pod's containers."""
    spec = manifest["spec"]
    both = (*spec.get("initContainers", ()), *spec["containers"])
    (found,) = [each for each in both if each["name"] == name]
    return dict(found)


def environment(manifest: dict[str, Any]) -> dict[str, str]:
    """What the sidecar is told, where it is told so as text."""
    return {each["name"]: each["value"] for each in container(manifest)["env"] if "value" in each}


def names(manifest: dict[str, Any], key: str) -> list[str]:
    """Who stands in a list, in order."""
    return [each["name"] for each in manifest["spec"].get(key, ())]


def test_a_native_sidecar_comes_after_the_init_step_and_before_all_others() -> None:
    made = injected(pod(initContainers=[{"name": "setup"}]))
    assert names(made, "initContainers") == ["tproxy-init", "tproxy", "setup"]
    assert container(made)["restartPolicy"] == "Always"
    assert container(made)["startupProbe"]["httpGet"]["port"] == 15021


def test_an_ordinary_sidecar_is_the_first_container_and_is_waited_for() -> None:
    made = injected(pod(), Sidecar(native=False))
    assert names(made, "initContainers") == ["tproxy-init"]
    assert names(made, "containers") == ["tproxy", "app"]
    assert container(made)["lifecycle"]["postStart"]["exec"]["command"] == ["tproxy", "wait"]
    assert environment(made)["TPROXY_LIMITS"] == "drain-least-seconds=5"


def test_the_sidecar_is_restricted_and_the_init_step_has_what_it_needs() -> None:
    made = injected(pod())
    assert container(made)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsUser": 1337,
        "runAsGroup": 1337,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    capabilities = container(made, "tproxy-init")["securityContext"]["capabilities"]
    assert capabilities == {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW", "SETGID", "SETUID"]}
    bare = container(injected(pod(), Sidecar(verify=False)), "tproxy-init")
    assert bare["args"] == ["apply"]
    assert bare["securityContext"]["capabilities"]["add"] == ["NET_ADMIN", "NET_RAW"]


def test_policies_and_certificates_are_mounted_and_named() -> None:
    made = injected(pod(serviceAccountName="shop"), WHOLE)
    assert made["spec"]["volumes"][:2] == [
        {"name": "tproxy-policies", "configMap": {"name": "tproxy-policies"}},
        {
            "name": "tproxy-certificates",
            "secret": {"secretName": "tproxy-shop", "defaultMode": 0o444},
        },
    ]
    told = environment(made)
    mounts = {each["mountPath"] for each in container(made)["volumeMounts"]}
    assert {told["TPROXY_POLICIES"], told["TPROXY_CERTIFICATES"]} < mounts


@pytest.mark.parametrize(
    ("certificates", "volume"),
    [
        pytest.param(
            "csi:spiffe.example", {"csi": {"driver": "spiffe.example", "readOnly": True}}, id="csi"
        ),
        pytest.param(
            "hostPath:/srv/a", {"hostPath": {"path": "/srv/a", "type": "Directory"}}, id="host"
        ),
        pytest.param(
            "secret:tproxy-{service_account}",
            {"secret": {"secretName": "tproxy-default", "defaultMode": 0o444}},
            id="secret",
        ),
    ],
)
def test_an_identity_comes_from_where_the_settings_say(
    certificates: str, volume: dict[str, Any]
) -> None:
    made = injected(pod(), Sidecar(certificates=certificates))
    assert {"name": "tproxy-certificates", **volume} in made["spec"]["volumes"]


@pytest.mark.parametrize("certificates", ["secret:", "vault:x", "hostPath:relative", "nothing"])
def test_an_identity_from_nowhere_is_refused(certificates: str) -> None:
    with pytest.raises(
        Refused, match="neither secret:NAME, csi:DRIVER, hostPath:/DIRECTORY nor none"
    ):
        inject(pod(), Sidecar(certificates=certificates))


def test_a_pod_may_go_without_an_identity() -> None:
    manifest = annotated(own__certificates="none")
    for made in (injected(manifest, WHOLE), injected(pod(), Sidecar(certificates="none"))):
        assert "TPROXY_CERTIFICATES" not in environment(made)
        assert "tproxy-certificates" not in [each["name"] for each in made["spec"]["volumes"]]


def test_podman_is_given_everything_as_text_and_an_ordinary_sidecar() -> None:
    sidecar = Sidecar(platform=Platform.PODMAN)
    bare = pod(restartPolicy="OnFailure")
    del bare["metadata"]["labels"]
    for manifest, labels in ((pod(restartPolicy="OnFailure"), "app=web"), (bare, None)):
        made = injected(manifest, sidecar)
        told = environment(made)
        assert (told["TPROXY_NAMESPACE"], told["TPROXY_SERVICE_ACCOUNT"]) == ("default", "default")
        assert told.get("TPROXY_LABELS") == labels
        assert "volumeMounts" not in container(made)
        assert "volumes" not in made["spec"]
        assert all("valueFrom" not in each for each in container(made)["env"])
        annotations = made["metadata"]["annotations"]
        assert annotations["io.podman.annotations.init.container.type"] == "always"


@pytest.mark.parametrize(
    ("metadata", "name"),
    [
        pytest.param({"name": "web"}, "web", id="its name"),
        pytest.param({"generateName": "web-"}, "web", id="what its name will begin with"),
        pytest.param({}, "unknown", id="none"),
        pytest.param(
            {
                "generateName": "web-7d4-",
                "ownerReferences": [{"kind": "ReplicaSet", "name": "web-7d4"}],
            },
            "web",
            id="its Deployment",
        ),
        pytest.param(
            {"name": "db-0", "ownerReferences": [{"kind": "StatefulSet", "name": "db"}]},
            "db",
            id="its StatefulSet",
        ),
    ],
)
def test_a_pod_is_known_by_its_workload(metadata: dict[str, Any], name: str) -> None:
    assert environment(injected({**pod(), "metadata": metadata}))["TPROXY_WORKLOAD"] == name


def test_a_drain_ends_before_the_pods_grace_does() -> None:
    assert environment(injected(pod()))["TPROXY_DRAIN_SECONDS"] == "25"
    slow = pod(terminationGracePeriodSeconds=120)
    assert environment(injected(slow))["TPROXY_DRAIN_SECONDS"] == "115"
    assert (
        environment(injected(pod(terminationGracePeriodSeconds=2)))["TPROXY_DRAIN_SECONDS"] == "1"
    )
    assert (
        environment(injected(pod(terminationGracePeriodSeconds=None)))["TPROXY_DRAIN_SECONDS"]
        == "25"
    )


TEMPLATED = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job"]


def workload(kind: str) -> dict[str, Any]:
    """A manifest of a kind."""
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod()["spec"]}
    if kind == "CronJob":
        spec: dict[str, Any] = {"jobTemplate": {"spec": {"template": template}}}
    else:
        spec = {"template": template}
    return {"kind": kind, "metadata": {"name": "web", "namespace": "shop"}, "spec": spec}


@pytest.mark.parametrize("kind", [*TEMPLATED, "CronJob"])
def test_whatever_runs_pods_is_injected_in_its_template(kind: str) -> None:
    made = injected(workload(kind))
    spec = made["spec"]["jobTemplate"]["spec"] if kind == "CronJob" else made["spec"]
    assert names(spec["template"], "initContainers") == ["tproxy-init", "tproxy"]
    assert uninject(made) == Injected(workload(kind))


@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param({"kind": "Service", "spec": {}}, id="a Service"),
        pytest.param({"kind": "List"}, id="an empty List"),
        pytest.param({"kind": "List", "items": 5}, id="a List of nothing"),
        pytest.param({"kind": "List", "items": ["x"]}, id="a List of no manifests"),
        pytest.param({"kind": "Deployment", "spec": {}}, id="no template"),
        pytest.param({"kind": "Deployment", "spec": {"template": 5}}, id="no pod"),
        pytest.param({"kind": "CronJob", "spec": {"jobTemplate": []}}, id="no template of a job"),
        pytest.param({"kind": "Pod"}, id="no spec"),
    ],
)
def test_what_runs_no_pods_stays_as_it_is(manifest: dict[str, Any]) -> None:
    assert inject(manifest, PLAIN) == Skipped(f"{manifest['kind']} runs no pods")
    assert uninject(manifest) == Skipped("there is no sidecar of ours in it")


def test_a_pod_without_a_sidecar_of_ours_stays_as_it_is() -> None:
    assert uninject(pod()) == Skipped("there is no sidecar of ours in it")


def test_a_list_is_injected_item_by_item() -> None:
    whole = {"kind": "List", "items": [{"kind": "Service"}, pod(), workload("Deployment")]}
    made = injected(whole)
    assert names(made["items"][1], "initContainers") == ["tproxy-init", "tproxy"]
    assert made["items"][0] == {"kind": "Service"}
    assert uninject(made) == Injected(whole)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("labels", "sidecar.istio.io/inject"),
        ("annotations", "sidecar.istio.io/inject"),
        ("labels", "tproxy.io/inject"),
        ("annotations", "tproxy.io/inject"),
    ],
)
def test_a_pod_may_decline(place: str, name: str) -> None:
    manifest = pod()
    manifest["metadata"][place] = {name: "false"}
    assert inject(manifest, PLAIN) == Skipped(f"its {place[:-1]} {name} is false")
    manifest["metadata"][place] = {name: "true"}
    assert injected(manifest)
    manifest["metadata"][place] = {name: "never"}
    with pytest.raises(Refused, match="'never' is neither"):
        inject(manifest, PLAIN)


@pytest.mark.parametrize(
    ("annotations", "option"),
    [
        ({"traffic__excludeOutboundPorts": "3306"}, "--exclude-outbound-ports=3306"),
        ({"traffic__includeOutboundPorts": "80"}, "--include-outbound-ports=80"),
        ({"traffic__excludeInboundPorts": "9100"}, "--exclude-inbound-ports=9100"),
        ({"traffic__includeInboundPorts": ""}, "--include-inbound-ports="),
        ({"traffic__includeOutboundIPRanges": "*"}, "--include-outbound-cidrs=*"),
        ({"traffic__excludeOutboundIPRanges": "10.0.0.0/8"}, "--exclude-outbound-cidrs=10.0.0.0/8"),
        ({"traffic__excludeInterfaces": "net1"}, "--exclude-interfaces=net1"),
    ],
)
def test_istios_annotations_change_what_is_captured(
    annotations: dict[str, str], option: str
) -> None:
    made = injected(annotated(**annotations))
    assert container(made, "tproxy-init")["args"] == ["apply", "--verify", option]


def test_our_words_win_over_istios() -> None:
    annotations = {"traffic__excludeOutboundPorts": "1", "own__exclude0outbound0ports": "2"}
    made = injected(annotated(**annotations, own__exclude0uids="1000"))
    assert container(made, "tproxy-init")["args"][2:] == [
        "--exclude-outbound-ports=2",
        "--exclude-uids=1000",
    ]


@pytest.mark.parametrize(
    ("annotations", "memory"),
    [
        pytest.param({"sidecar__proxyMemory": "1Gi"}, ("1Gi", "1Gi"), id="more is asked for"),
        pytest.param({"sidecar__proxyMemory": "0.1Gi"}, ("0.1Gi", "256Mi"), id="within"),
        pytest.param({"sidecar__proxyMemoryLimit": "4e7"}, ("4e7", "4e7"), id="less is allowed"),
    ],
)
def test_what_an_annotation_leaves_open_follows_what_it_says(
    annotations: dict[str, str], memory: tuple[str, str]
) -> None:
    resources = container(injected(annotated(**annotations)))["resources"]
    assert (resources["requests"]["memory"], resources["limits"]["memory"]) == memory


def test_annotations_change_the_sidecar() -> None:
    made = injected(
        annotated(
            sidecar__proxyCPU="200m",
            sidecar__proxyMemory="96Mi",
            sidecar__proxyCPULimit="1",
            sidecar__proxyMemoryLimit="512Mi",
            sidecar__proxyImage="other:2",
            sidecar__logLevel="debug",
            own__workers="2",
            own__policies="mine",
        )
    )
    proxy = container(made)
    assert proxy["image"] == "other:2"
    assert proxy["resources"] == {
        "requests": {"cpu": "200m", "memory": "96Mi"},
        "limits": {"memory": "512Mi", "cpu": "1"},
    }
    told = environment(made)
    assert (told["TPROXY_WORKERS"], told["TPROXY_LOG_LEVEL"]) == ("2", "debug")
    assert made["spec"]["volumes"][0]["configMap"]["name"] == "mine"


def test_transparent_inbound_connections_need_a_capability_and_so_root_at_first() -> None:
    made = injected(annotated(sidecar__interceptionMode="TPROXY"))
    assert environment(made)["TPROXY_USER"] == "1337:1337"
    assert environment(made)["TPROXY_INBOUND_MODE"] == "tproxy"
    security = container(made)["securityContext"]
    assert (security["runAsUser"], security["capabilities"]["add"]) == (
        0,
        ["NET_ADMIN", "SETGID", "SETUID"],
    )


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ({"traffic__excludeOutboundPorts": "http"}, "'http' is no port"),
        ({"traffic__excludeOutboundIPRanges": "10.0.0.1/8"}, "is no network"),
        ({"traffic__excludeInterfaces": "a b"}, "is no name of an interface"),
        ({"sidecar__interceptionMode": "NONE"}, "'NONE' is none of REDIRECT, TPROXY"),
        ({"sidecar__proxyImage": ""}, "is empty"),
        ({"own__workers": "none"}, "is no number of workers"),
        ({"own__native0sidecar": "maybe"}, 'is neither "true" nor "false"'),
        ({"sidecar__logLevel": "loud"}, "'loud' is none of"),
        ({"traffic__kubevirtInterfaces": "k6t0"}, "virtual machines"),
        ({"sidecar__proxyCPU": "much"}, "'much' is no amount"),
        (
            {"sidecar__proxyMemory": "1Gi", "sidecar__proxyMemoryLimit": "512Mi"},
            "1Gi is more than 512Mi, which sidecar.istio.io/proxyMemoryLimit allows",
        ),
    ],
)
def test_an_annotation_that_cannot_be_meant_is_refused(
    annotations: dict[str, str], said: str
) -> None:
    with pytest.raises(Refused) as refused:
        inject(annotated(**annotations), PLAIN)
    (remark,) = refused.value.remarks
    assert said in remark.text
    assert remark.path.startswith("$.metadata.annotations['")


def test_an_annotation_that_changes_nothing_is_named() -> None:
    made = inject(annotated(sidecar__bootstrapOverride="x", own__typo="y"), PLAIN)
    assert isinstance(made, Injected)
    assert [str(remark) for remark in made.remarks] == [
        "$.metadata.annotations['sidecar.istio.io/bootstrapOverride']: has no effect here: it is Envoy's",
        "$.metadata.annotations['tproxy.io/typo']: has no effect here: it is none that injection knows",
    ]
    manifest = pod()
    manifest["metadata"]["annotations"] = {"proxy.istio.io/config": "{}"}
    assert len(inject(manifest, PLAIN).remarks) == 1  # type: ignore[union-attr]
    manifest["metadata"]["annotations"] = {"example.com/theirs": "z"}
    assert inject(manifest, PLAIN).remarks == ()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("manifest", "place", "said"),
    [
        pytest.param(pod(hostNetwork=True), "$.spec.hostNetwork", "node's own", id="host network"),
        pytest.param(pod(os={"name": "windows"}), "$.spec.os.name", "only Linux", id="windows"),
        pytest.param(
            pod(securityContext={"runAsUser": 1337}),
            "$.spec.securityContext.runAsUser",
            "is not captured",
            id="pod as the proxy's user",
        ),
        pytest.param(
            pod(containers=[{"name": "a", "securityContext": {"runAsUser": 1337}}]),
            "$.spec.containers[0].securityContext.runAsUser",
            "is not captured",
            id="container as the proxy's user",
        ),
        pytest.param(
            pod(securityContext={"runAsGroup": 1337}, containers=[{"name": "a"}]),
            "$.spec.securityContext.runAsGroup",
            "a: what runs as group 1337 is not captured",
            id="pod as the proxy's group",
        ),
        pytest.param(
            pod(
                containers=[
                    {
                        "name": "app",
                        "livenessProbe": {
                            "httpGet": {"port": 15021, "path": "/app-health/old/livez"}
                        },
                    }
                ]
            ),
            "$.spec.containers[0].livenessProbe.httpGet.port",
            "was app renamed after injection?",
            id="a probe of the sidecar",
        ),
        pytest.param(
            pod(containers=[{"name": "a", "livenessProbe": {"grpc": "x"}}]),
            "$.spec.containers[0].livenessProbe.grpc",
            "Expected `object",
            id="misshapen probe",
        ),
        pytest.param(
            pod(containers=[{"name": "tproxy"}]), "$.spec.containers[0].name", "own name", id="name"
        ),
        pytest.param(
            pod(containers=[{"name": "a"}, {"name": "istio-proxy"}]),
            "$.spec.containers[1].name",
            "another mesh's",
            id="two meshes",
        ),
        pytest.param(
            pod(initContainers=[{"name": "linkerd-init"}]),
            "$.spec.initContainers[0].name",
            "another mesh's",
            id="another mesh's init step",
        ),
        pytest.param(
            pod(
                containers=[
                    {"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 15021}]}
                ]
            ),
            "$.spec.containers[0].ports[1].containerPort",
            "15021 is one of the sidecar's own",
            id="port",
        ),
        pytest.param(
            pod(volumes=[{"name": "a"}, {"name": "tproxy-policies"}]),
            "$.spec.volumes[1].name",
            "are the sidecar's",
            id="volume",
        ),
        pytest.param(pod(containers=[]), "$.spec.containers", "length >= 1", id="no container"),
        pytest.param(pod(containers="a"), "$.spec.containers", "Expected `array`", id="misshapen"),
        pytest.param(
            pod(
                containers=[
                    {
                        "name": "a",
                        "livenessProbe": {"httpGet": {"port": "web"}},
                        "ports": [{"containerPort": 1}],
                    }
                ]
            ),
            "$.spec.containers[0].livenessProbe.httpGet.port",
            "no port of this container is called 'web'",
            id="a port that nobody named",
        ),
    ],
)
def test_a_pod_that_cannot_have_a_sidecar_is_refused(
    manifest: dict[str, Any], place: str, said: str
) -> None:
    before = deepcopy(manifest)
    with pytest.raises(Refused) as refused:
        inject(manifest, PLAIN)
    assert [remark.path for remark in refused.value.remarks] == [place]
    assert said in str(refused.value)
    assert manifest == before


def test_a_container_that_runs_as_another_user_than_the_pods_is_captured() -> None:
    contained = {"name": "a", "securityContext": {"runAsUser": 1000}}
    assert injected(pod(securityContext={"runAsUser": 1337}, containers=[contained]))


def test_podman_would_start_the_init_step_for_ever() -> None:
    sidecar = Sidecar(platform=Platform.PODMAN)
    with pytest.raises(
        Refused, match=r"\$.spec.restartPolicy: podman starts init containers again"
    ):
        inject(pod(), sidecar)


@pytest.mark.parametrize("kind", ["Job", "CronJob"])
def test_a_job_with_an_ordinary_sidecar_would_never_end(kind: str) -> None:
    with pytest.raises(Refused, match="never ends"):
        inject(workload(kind), Sidecar(native=False))


def test_so_would_a_pod_that_a_job_has_made() -> None:
    manifest = {**pod(), "metadata": {"ownerReferences": [{"kind": "Job", "name": "once"}]}}
    assert injected(manifest)
    with pytest.raises(Refused, match="never ends"):
        inject(manifest, Sidecar(native=False))


def test_a_list_is_refused_for_every_reason_in_it() -> None:
    whole = {"kind": "List", "items": [pod(hostNetwork=True), pod(), pod(os={"name": "windows"})]}
    with pytest.raises(Refused) as refused:
        inject(whole, PLAIN)
    assert [remark.path for remark in refused.value.remarks] == [
        "$.items[0].spec.hostNetwork",
        "$.items[2].spec.os.name",
    ]


PROBED = {
    "name": "app",
    "ports": [{"name": "admin", "containerPort": 9000}, {"name": "web", "containerPort": 8080}],
    "livenessProbe": {"httpGet": {"path": "/live", "port": "web"}, "periodSeconds": 7},
    "readinessProbe": {"tcpSocket": {"port": 8080, "host": ""}, "timeoutSeconds": 4},
    "startupProbe": {"grpc": {"port": "9000", "service": "shop"}},
}


def test_probes_are_the_sidecars_to_ask() -> None:
    made = injected(pod(containers=[deepcopy(PROBED)]))
    probed = container(made, "app")
    assert probed["livenessProbe"] == {
        "httpGet": {"path": "/app-health/app/livez", "port": 15021},
        "periodSeconds": 7,
    }
    assert probed["startupProbe"] == {
        "httpGet": {"path": "/app-health/app/startupz", "port": 15021}
    }
    asks = {
        path: probe.asks
        for path, probe in read_probes(environment(made)["TPROXY_APP_PROBES"]).items()
    }
    assert {path: each.port for path, each in asks.items()} == {
        "/app-health/app/livez": 8080,
        "/app-health/app/readyz": 8080,
        "/app-health/app/startupz": 9000,
    }


@pytest.mark.parametrize(
    "probe",
    [
        pytest.param({"exec": {"command": ["true"]}}, id="a command"),
        pytest.param({"httpGet": {"port": 80, "host": "elsewhere.example"}}, id="another host"),
    ],
)
def test_a_probe_that_needs_no_help_stays(probe: dict[str, Any]) -> None:
    made = injected(pod(containers=[{"name": "app", "livenessProbe": probe}]))
    assert container(made, "app")["livenessProbe"] == probe
    assert "TPROXY_APP_PROBES" not in environment(made)


def test_probes_that_are_left_alone_are_named() -> None:
    made = inject(pod(containers=[deepcopy(PROBED)]), Sidecar(rewrite_probes=False))
    assert isinstance(made, Injected)
    assert container(made.manifest, "app")["livenessProbe"] == PROBED["livenessProbe"]
    assert [remark.path.rpartition(".")[2] for remark in made.remarks] == [
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
    ]


def test_what_kubernetes_would_expand_reaches_the_sidecar_as_it_was() -> None:
    probed = {
        "name": "app",
        "livenessProbe": {
            "httpGet": {"path": "/$(HOME)$", "port": 80},
            "timeoutSeconds": None,
        },
    }
    manifest = pod(containers=[probed], restartPolicy="OnFailure")
    made = environment(injected(manifest))["TPROXY_APP_PROBES"]
    assert '"/$$(HOME)$$"' in made
    given = environment(injected(manifest, Sidecar(platform=Platform.PODMAN)))["TPROXY_APP_PROBES"]
    assert given == made.replace("$$", "$")
    assert read_probes(given)["/app-health/app/livez"].timeout_seconds == 1


def test_hooks_over_the_network_and_what_runs_too_early_are_named() -> None:
    hooked = {"name": "app", "lifecycle": {"preStop": {"httpGet": {"port": 1}}, "postStart": None}}
    manifest = pod(containers=[hooked], initContainers=[{"name": "setup"}])
    made = inject(manifest, Sidecar(native=False))
    assert isinstance(made, Injected)
    assert [remark.path for remark in made.remarks] == [
        "$.spec.containers[0].lifecycle.preStop.httpGet",
        "$.spec.initContainers[0]",
    ]


def test_a_pod_that_would_not_end_is_named() -> None:
    once = pod(restartPolicy="Never")
    made = inject(once, Sidecar(native=False))
    assert isinstance(made, Injected)
    assert [remark.path for remark in made.remarks] == ["$.spec.restartPolicy"]
    for sidecar in (PLAIN, Sidecar(platform=Platform.PODMAN)):
        assert inject(once, sidecar).remarks == ()  # type: ignore[union-attr]


def test_a_pod_that_is_scraped_already_stays_so() -> None:
    manifest = pod()
    manifest["metadata"]["annotations"] = {"prometheus.io/port": "9090"}
    made = inject(manifest, PLAIN)
    assert isinstance(made, Injected)
    assert made.manifest["metadata"]["annotations"]["prometheus.io/port"] == "9090"
    assert "15020" in str(made.remarks[0])
    unscraped = injected(pod(), Sidecar(scrape=False))
    assert set(unscraped["metadata"]["annotations"]) == {STATUS}


def test_what_operators_write_wins_over_what_injection_writes() -> None:
    sidecar = Sidecar(environment={"TPROXY_NAMESPACE": "mine", "TPROXY_HTTP": "h11"}, workers=3)
    told = environment(injected(pod(), sidecar))
    assert (told["TPROXY_NAMESPACE"], told["TPROXY_HTTP"]) == ("mine", "h11")


def test_an_upgrade_replaces_the_sidecar() -> None:
    old = injected(pod(containers=[deepcopy(PROBED)]), Sidecar(proxy_image="tproxy:old"))
    new = Sidecar(proxy_image="tproxy:new", native=False)
    assert injected(old, new) == injected(pod(containers=[deepcopy(PROBED)]), new)


def test_a_probe_that_was_changed_since_stays_changed() -> None:
    made = injected(pod(containers=[deepcopy(PROBED)]))
    made["spec"]["containers"][0]["livenessProbe"] = {"exec": {"command": ["true"]}}
    back = uninject(made)
    assert isinstance(back, Injected)
    restored = back.manifest["spec"]["containers"][0]
    assert restored["livenessProbe"] == {"exec": {"command": ["true"]}}
    assert restored["readinessProbe"] == PROBED["readinessProbe"]


def test_a_status_that_injection_has_not_written_is_refused() -> None:
    manifest = pod()
    manifest["metadata"]["annotations"] = {STATUS: "mine"}
    with pytest.raises(Refused, match="is not what injection has written"):
        inject(manifest, PLAIN)
    with pytest.raises(Refused, match="is not what injection has written"):
        uninject(manifest)


def test_a_status_that_knows_less_than_the_pod_restores_what_it_knows() -> None:
    status = {"version": "0", "annotations": ["gone"], "probes": {}, "made": ["metadata"]}
    variable = {"name": "TPROXY_INJECTION", "value": json.dumps(status)}
    asks = {"httpGet": {"path": "/app-health/app/livez", "port": 15021}}
    manifest = pod(
        initContainers=[{"name": "tproxy-init", "env": [variable]}],
        containers=[{"name": "app", "livenessProbe": asks}],
    )
    del manifest["metadata"]
    back = uninject(manifest)
    assert isinstance(back, Injected)
    assert back.manifest["spec"]["containers"] == [{"name": "app", "livenessProbe": asks}]


def test_what_stands_in_two_places_is_changed_in_one() -> None:
    annotations, spec = {"a": "b"}, pod(volumes=[{"name": "x"}])["spec"]
    whole = {
        "kind": "List",
        "metadata": {"annotations": annotations},
        "items": [
            {"kind": "Pod", "metadata": {"annotations": annotations}, "spec": spec},
            {"kind": "Pod", "metadata": {"annotations": annotations}, "spec": spec},
            {"kind": "Job", "metadata": {}, "spec": {"template": {"spec": spec}}},
            {"kind": "Job", "spec": []},
            {"kind": "Deployment"},
        ],
    }
    apart = json.loads(json.dumps(whole))
    made = injected(whole, WHOLE)
    assert made == injected(apart, WHOLE)
    assert made["metadata"]["annotations"] == {"a": "b"}
    assert uninject(made) == Injected(apart)


JUNK = st.sampled_from([None, True, -1, 1.5, "", "x", [], ["x"], {}, {"name": 1}]).map(deepcopy)


def places(node: object) -> list[tuple[Any, Any]]:
    """Every place in a manifest at which something stands."""
    match node:
        case dict():
            inside: list[Any] = list(node.items())
        case list():
            inside = list(enumerate(node))
        case _:
            return []
    return [
        *((node, key) for key, _ in inside),
        *(each for _, below in inside for each in places(below)),
    ]


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_whatever_stands_where_it_should_not_is_refused_or_let_by(data: st.DataObject) -> None:
    whole = injected(
        {
            **pod(containers=[deepcopy(PROBED)], initContainers=[{"name": "setup"}], os={}),
            "metadata": {"ownerReferences": [{"kind": "ReplicaSet", "name": "web-1"}]},
        },
        data.draw(st.sampled_from([WHOLE, Sidecar(native=False)])),
    )
    for _ in range(data.draw(st.integers(1, 2))):
        parent, key = data.draw(st.sampled_from(places(whole)))
        parent[key] = data.draw(JUNK)
    for change in (lambda made: inject(made, WHOLE), uninject):
        with suppress(Refused):
            assert isinstance(change(whole), Injected | Skipped)


def test_what_yaml_reads_as_null_is_as_good_as_missing() -> None:
    manifest = pod(initContainers=None, volumes=None)
    manifest["metadata"]["annotations"] = None
    made = injected(manifest, WHOLE)
    assert names(made, "initContainers") == ["tproxy-init", "tproxy"]
    assert uninject(made) == Injected(pod())


texts = st.text(alphabet="abc", min_size=1, max_size=4)
probes = st.one_of(
    st.fixed_dictionaries({"httpGet": st.fixed_dictionaries({"port": st.integers(1, 14999)})}),
    st.fixed_dictionaries({"exec": st.just({"command": ["true"]})}),
)
containers = st.lists(
    st.fixed_dictionaries(
        {"name": texts},
        optional={"livenessProbe": probes, "readinessProbe": probes, "image": texts},
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda each: str(each["name"]),
)
pods = st.fixed_dictionaries(
    {
        "kind": st.just("Pod"),
        "spec": st.fixed_dictionaries(
            {"containers": containers, "restartPolicy": st.just("OnFailure")},
            optional={
                "initContainers": st.lists(
                    st.fixed_dictionaries({"name": texts.map("i".__add__)}), max_size=2
                ),
                "volumes": st.lists(st.fixed_dictionaries({"name": texts}), max_size=2),
            },
        ),
    },
    optional={
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "annotations": st.dictionaries(texts, texts, max_size=2),
                "labels": st.dictionaries(texts, texts, max_size=2),
            },
        )
    },
)
sidecars = st.builds(
    Sidecar,
    native=st.booleans(),
    policies=st.sampled_from(["", "p"]),
    certificates=st.sampled_from(["", "secret:s"]),
    rewrite_probes=st.booleans(),
    scrape=st.booleans(),
    platform=st.sampled_from(list(Platform)),
)


@settings(deadline=None)
@given(pods, sidecars, sidecars)
def test_injection_is_undone_exactly_and_repeated_without_effect(
    manifest: dict[str, Any], one: Sidecar, other: Sidecar
) -> None:
    before = json.dumps(manifest)
    made = injected(manifest, one)
    assert json.dumps(manifest) == before
    assert uninject(made) == Injected(manifest)
    assert injected(made, one) == made
    assert uninject(injected(made, other)) == Injected(manifest)


def test_labels_that_kubernetes_writes_are_the_ones_that_are_read() -> None:
    assert read_labels('app="web"') == {"app": "web"}


def test_what_is_written_is_plain_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(injected(pod(), WHOLE))) == injected(
        pod(), WHOLE
    )


def test_from_a_misshapen_pod_nothing_is_taken_out() -> None:
    with pytest.raises(Refused, match=r"\$\.spec\.containers\[0\]"):
        uninject(pod(containers=[1]))
