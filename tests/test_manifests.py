"""What operators apply: complete, of one piece with `tproxy inject`, and what Kubernetes' own schemas take."""

import importlib.util
from pathlib import Path
from subprocess import CalledProcessError
from types import ModuleType
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fakes.kubernetes import Tools, validate
from tproxy.cli import main
from tproxy.inject.inject import Injected, inject
from tproxy.inject.sidecar import Sidecar, read_settings
from tproxy.model.identity import Workload
from tproxy.policy.compile import compiled
from tproxy.policy.nodes import SourceFile
from tproxy.policy.snapshot import Snapshot

DEPLOY = Path(__file__).parent.parent / "deploy"
OVERLAYS = ("native", "classic", "mutual-tls")


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """Both programs."""
    return Tools(tmp_path_factory.mktemp("tools"))


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """What writes these files."""
    spec = importlib.util.spec_from_file_location("generate", DEPLOY / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("httpbin.yaml", ()),
        ("sleep.yaml", ()),
        (
            "podman.yaml",
            ("--for", "podman", "--certificates", "hostPath:/srv/identity/{service_account}"),
        ),
    ],
)
def test_an_injected_example_is_what_the_command_makes(
    generate: ModuleType, file: str, words: tuple[str, ...]
) -> None:
    plain, kept = DEPLOY / "examples" / file, DEPLOY / "examples" / "injected" / file
    command = ["inject", "--policies", "tproxy-policies", *words, str(plain)]
    made = CliRunner().invoke(main, command)
    assert made.stdout == kept.read_text() == generate.injected()[file]
    assert CliRunner().invoke(main, ["uninject", str(kept)]).stdout == plain.read_text()
    validate(made.stdout)


def test_components_are_what_injection_adds(generate: ModuleType) -> None:
    for name, files in generate.components().items():
        for file, text in files.items():
            assert (DEPLOY / "components" / name / file).read_text() == text


@pytest.mark.slow
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_sound_and_its_sidecar_comes_first(tools: Tools, overlay: str) -> None:
    documents = validate(tools.kustomize(DEPLOY / "overlays" / overlay))
    pods: list[Any] = [each for each in documents if each["kind"] == "Deployment"]
    assert len(pods) == 2
    for pod in pods:
        spec = pod["spec"]["template"]["spec"]
        names = [each["name"] for each in spec["initContainers"]]
        assert names[0] == "tproxy-init"
        first = spec["containers"][0] if overlay == "classic" else spec["initContainers"][1]
        assert first["name"] == "tproxy"


@pytest.mark.slow
def test_an_overlay_and_injection_lead_to_the_same_containers(tools: Tools) -> None:
    documents: list[Any] = validate(tools.kustomize(DEPLOY / "overlays" / "native"))
    plain: list[Any] = validate(tools.kustomize(DEPLOY / "examples"))
    for name in ("httpbin", "sleep"):
        (patched,) = [_named(each, name) for each in documents if _named(each, name)]
        (bare,) = [each for each in plain if _named(each, name)]
        made = inject(bare, Sidecar(policies="tproxy-policies", rewrite_probes=False))
        assert isinstance(made, Injected)
        injected = _named(made.manifest, name)
        for one in (patched, injected):
            # The one is told its name, the other reads it off a label.
            for variable in one["initContainers"][1]["env"]:
                if variable["name"] == "TPROXY_WORKLOAD":
                    variable.clear()
        assert patched["initContainers"] == injected["initContainers"]


def _named(document: Any, name: str) -> Any:  # noqa: ANN401 - a manifest
    if document["kind"] != "Deployment" or document["metadata"]["name"] != name:
        return None
    return document["spec"]["template"]["spec"]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("app", ["httpbin", "sleep"])
def test_an_overlays_policies_compile_for_both_pods(overlay: str, app: str) -> None:
    file = DEPLOY / "overlays" / overlay / "policies.yaml"
    who = Workload(name=app, namespace="default", service_account=app, labels={"app": app})
    assert isinstance(compiled([SourceFile(file.name, file.read_bytes())], 1, who), Snapshot)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        pytest.param((), id="as it is"),
        pytest.param(
            ("--set", "certificate.mode=existing", "--set", "certificate.caBundle=YQ=="),
            id="a certificate of one's own",
        ),
        pytest.param(
            ("--set", "sidecar.native=false", "--set", "replicas=3", "--set", "onRefusal=allow"),
            id="other settings",
        ),
        pytest.param(("--set-json", 'policies={"shop": {"a.yaml": "# none"}}'), id="policies"),
    ],
)
def test_the_chart_is_sound_and_its_settings_can_be_read(
    tools: Tools, words: tuple[str, ...]
) -> None:
    documents: list[Any] = validate(tools.template(DEPLOY / "helm" / "tproxy", *words))
    (settings,) = [
        each["data"]["sidecar.yaml"] for each in documents if "sidecar.yaml" in each.get("data", {})
    ]
    assert read_settings(settings.encode()).policies == "tproxy-policies"
    (hook,) = [each for each in documents if each["kind"] == "MutatingWebhookConfiguration"]
    assert hook["webhooks"][0]["clientConfig"]["caBundle"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "native", "budget"),
    [
        pytest.param("1.20.2", False, "policy/v1beta1", id="the oldest"),
        pytest.param("1.28.9", False, "policy/v1", id="the last without native sidecars"),
        pytest.param("1.29.0", True, "policy/v1", id="the first with native sidecars"),
    ],
)
def test_the_chart_asks_a_cluster_for_no_more_than_it_knows(
    tools: Tools, version: str, native: bool, budget: str
) -> None:
    made = tools.template(DEPLOY / "helm" / "tproxy", "--kube-version", version)
    documents: list[Any] = list(yaml.safe_load_all(made))
    (settings,) = [
        each["data"]["sidecar.yaml"] for each in documents if "sidecar.yaml" in each.get("data", {})
    ]
    assert read_settings(settings.encode()).native is native
    (found,) = [each for each in documents if each["kind"] == "PodDisruptionBudget"]
    assert found["apiVersion"] == budget


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("--set", "certificate.mode=existing"), "caBundle is needed", id="no bundle"),
        pytest.param(("--set", "certificate.mode=cert-manager"), "issuerRef is", id="no issuer"),
        pytest.param(("--set", "replica=3"), "replica", id="a typing error"),
    ],
)
def test_the_chart_refuses_values_that_would_not_work(
    tools: Tools, words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(CalledProcessError) as refused:
        tools.template(DEPLOY / "helm" / "tproxy", *words)
    assert said in refused.value.stderr


def test_the_images_are_of_the_version_that_the_project_has() -> None:
    version = Sidecar().proxy_image.partition(":")[2]
    for file in (DEPLOY / "examples").glob("*.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            assert f"tproxy:{version}" in file.read_text() or document["kind"] == "Kustomization"
    chart = yaml.safe_load((DEPLOY / "helm" / "tproxy" / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version
