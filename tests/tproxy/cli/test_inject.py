"""`tproxy inject` and `tproxy uninject`, as people and scripts use them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from fakes.kubernetes import validate
from tproxy.cli import main
from tproxy.inject.inject import Injected, inject
from tproxy.inject.sidecar import Sidecar
from tproxy.inject.workload import ENDING

DEPLOYMENT = """\
# the deployment
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web # its name
  labels: {app: "web"}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels:
        app: web
    spec:
      # what runs
      containers:
        # the app
        - name: web
          image: 'web:1'
          livenessProbe:
            exec: {command: ["true"]} # always
      terminationGracePeriodSeconds: 20 # short
"""
SERVICE = """\
# a comment before
apiVersion: v1
kind: Service
metadata: {name:   web}   # inline
spec:
    ports:
       - port: 80
"""
POD = (
    "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: b}]}}\n"
)


def run(*words: str, stdin: str = "") -> Result:
    """What the command line comes to."""
    return CliRunner().invoke(main, list(words), input=stdin, prog_name="tproxy")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(DEPLOYMENT, id="one"),
        pytest.param(f"{SERVICE}---\n{DEPLOYMENT}", id="two"),
        pytest.param(f"---\n{SERVICE}---\n{DEPLOYMENT}---\n", id="with an empty one"),
        pytest.param(f"---\n# only words\n---\n{DEPLOYMENT}", id="with words"),
    ],
)
def test_the_way_there_and_back_keeps_every_byte(text: str) -> None:
    there = run("inject", stdin=text)
    assert there.exit_code == 0, there.output
    assert "tproxy-init" in there.stdout
    assert run("uninject", stdin=there.stdout).stdout == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(DEPLOYMENT.replace("\n", "\r\n").encode(), id="line ends"),
        pytest.param(f"\ufeff{DEPLOYMENT}".encode(), id="byte order mark"),
        pytest.param(f"{DEPLOYMENT}...\n---\n{SERVICE}...\n".encode(), id="ends of documents"),
        pytest.param(SERVICE.rstrip().encode(), id="no last line end"),
        pytest.param(b"", id="nothing"),
        pytest.param(f"- a\n---\n{DEPLOYMENT}".encode(), id="beside what is no manifest"),
        pytest.param(
            DEPLOYMENT.replace(
                "always",
                """always
          env: # of all kinds
            - {name: A, value: on}
            - {name: B, value: "0644"}
            - {name: C, value: 2001-12-14T21:59:43.10-05:00}
            - name: D
              value: |
                one

                  two
            - {name: E, value: 0644, of: 0x1F, and: 1.10, or: 12e03, nor: 'it''s', y: n}
          envFrom: [{secretRef: {name: no}}]""",
            ).encode(),
            id="what other readers would misread",
        ),
        pytest.param(
            DEPLOYMENT.replace('{app: "web"}', "&labels {app: web}")
            .replace("{app: web}}", "*labels }", 1)
            .replace("*labels }", "{app: web}}")
            .replace("labels:\n        app: web", "labels: *labels")
            .encode(),
            id="aliases of what is not changed",
        ),
    ],
)
def test_so_does_that_of_every_other_way_to_write(text: bytes) -> None:
    there = CliRunner().invoke(main, ["inject"], input=text)
    assert there.exit_code == 0, there.output
    assert CliRunner().invoke(main, ["uninject"], input=there.stdout_bytes).stdout_bytes == text


SHARED = """\
kind: List
metadata:
  annotations: &annotations {x: "y"}
items:
  - kind: Deployment
    metadata: {name: "on"}
    spec:
      template: &template
        metadata:
          annotations: *annotations
        spec:
          serviceAccountName: "no"
          containers:
            - &app
              name: one
              livenessProbe: &probe
                httpGet: {path: "/", port: 80, httpHeaders: [{name: X, value: "yes"}]}
              readinessProbe: *probe
            - <<: *app
              name: two
          volumes: &volumes
            - name: x
              emptyDir: {}
  - kind: Deployment
    metadata: {name: 'y'}
    spec:
      template: *template
  - kind: Pod
    spec:
      containers: [{<<: *app, readinessProbe: {tcpSocket: {port: 2}}}]
      volumes: *volumes
"""


@pytest.mark.parametrize("text", [SHARED, DEPLOYMENT])
def test_aliases_and_words_mean_what_they_meant(text: str) -> None:
    resolved = json.loads(json.dumps(yaml.safe_load(text)))
    made = run("inject", "--for", "kubernetes", stdin=text)
    assert made.exit_code == 0, made.output
    expected = inject(resolved, Sidecar())
    assert isinstance(expected, Injected)
    assert yaml.safe_load(made.stdout) == expected.manifest
    assert yaml.safe_load(run("uninject", stdin=made.stdout).stdout) == resolved


def test_comments_order_and_quotes_are_kept_and_other_documents_untouched() -> None:
    made = run("inject", stdin=f"{SERVICE}---\n{DEPLOYMENT}").stdout
    assert made.startswith(f"{SERVICE}---\n# the deployment\n")
    left = iter(made.splitlines())
    kept = [line for line in DEPLOYMENT.splitlines() if "containers:" not in line]
    assert all(line in left for line in kept)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff")
    made = run("inject", str(tmp_path / "a.yaml"))
    assert made.exit_code == 2
    assert "a.yaml cannot be read" in made.stderr


def test_what_was_injected_is_injected_anew_to_the_same() -> None:
    once = run("inject", "--policies", "p", stdin=DEPLOYMENT).stdout
    assert run("inject", "--policies", "p", stdin=once).stdout == once


TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "a"}},
    "spec": {
        "containers": [
            {
                "name": "a",
                "image": "b",
                "ports": [{"name": "web", "containerPort": 80}],
                "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 3},
                "readinessProbe": {"tcpSocket": {"port": 80}},
                "startupProbe": {"grpc": {"port": 80}},
            }
        ]
    },
}
SELECTED = {"selector": {"matchLabels": {"app": "a"}}, "template": TEMPLATE}
BATCH = {"template": {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}
RUN: list[tuple[str, str, dict[str, Any]]] = [
    ("apps/v1", "Deployment", SELECTED),
    ("apps/v1", "StatefulSet", {**SELECTED, "serviceName": "a"}),
    ("apps/v1", "DaemonSet", SELECTED),
    ("apps/v1", "ReplicaSet", SELECTED),
    ("v1", "ReplicationController", {"template": TEMPLATE}),
    ("batch/v1", "Job", BATCH),
    ("batch/v1", "CronJob", {"schedule": "@daily", "jobTemplate": {"spec": BATCH}}),
    ("v1", "Pod", TEMPLATE["spec"]),
]
OPTIONS = [
    pytest.param((), id="as it is"),
    pytest.param(("--classic",), id="ordinary"),
    pytest.param(("--policies", "p", "--certificates", "secret:i-{service_account}"), id="secret"),
    pytest.param(("--certificates", "csi:driver.example", "--workers", "2"), id="csi"),
    pytest.param(("--inbound-mode", "tproxy", "--no-verify"), id="transparent"),
    pytest.param(("--no-rewrite-probes", "--no-scrape", "--log-level", "debug"), id="less"),
]


@pytest.mark.parametrize("options", OPTIONS)
def test_what_is_made_is_what_kubernetes_takes(options: tuple[str, ...]) -> None:
    runs = [each for each in RUN if "--classic" not in options or each[1] not in ENDING]
    stream = yaml.safe_dump_all(
        [
            {"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, "spec": spec}
            for version, kind, spec in runs
        ]
    )
    made = run("inject", *options, stdin=stream)
    assert made.exit_code == 0, made.stderr
    assert [each["kind"] for each in validate(made.stdout)] == [kind for _, kind, _ in runs]


def test_json_stays_json() -> None:
    made = run("inject", stdin=json.dumps(yaml.safe_load(POD)))
    assert json.loads(made.stdout)["spec"]["initContainers"][0]["name"] == "tproxy-init"
    scraped = POD.replace("name: a}", "name: a, annotations: {prometheus.io/port: '1'}}", 1)
    said = run("inject", stdin=json.dumps(yaml.safe_load(scraped))).stderr
    assert said.startswith("standard input: $.metadata.annotations['prometheus.io/port']: stays")
    service = '{"kind":"Service"}'
    assert run("inject", stdin=service).stdout.strip() == service


def test_json_keeps_its_letters() -> None:
    text = POD.replace("name: a}", "name: a, labels: {x: é}}", 1)
    assert "é" in run("inject", stdin=json.dumps(yaml.safe_load(text))).stdout


def test_several_files_become_one_stream(tmp_path: Path) -> None:
    for name, text in (("a.yaml", SERVICE), ("b.yaml", POD)):
        (tmp_path / name).write_text(text.rstrip())
    made = run("inject", "-f", str(tmp_path / "b.yaml"), str(tmp_path / "a.yaml"))
    assert [each["kind"] for each in yaml.safe_load_all(made.stdout)] == ["Service", "Pod"]


def test_options_win_over_the_file_of_settings(tmp_path: Path) -> None:
    settings = tmp_path / "sidecar.yaml"
    settings.write_text("{proxyImage: a:1, initImage: b:1, capture: {exclude-uids: '1'}}")
    options = ("--config", str(settings), "--proxy-image", "c:2", "--exclude-outbound-ports", "53")
    pod = POD.replace("spec: {", "spec: {restartPolicy: Never, ")
    made = yaml.safe_load(run("inject", *options, "--for", "podman", stdin=pod).stdout)
    (init,) = made["spec"]["initContainers"]
    assert (init["image"], made["spec"]["containers"][0]["image"]) == ("b:1", "c:2")
    assert init["args"][2:] == ["--exclude-uids=1", "--exclude-outbound-ports=53"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("a: 1\na: 2\n", "standard input:2:1: found duplicate key", id="key twice"),
        pytest.param("--- \na: [\n", "standard input:", id="no YAML"),
        pytest.param('{"a": ', "standard input:1:", id="no JSON"),
        pytest.param(
            '{"a": 1,\n "a": 2}', "standard input:2:2: found duplicate key", id="JSON's key twice"
        ),
        pytest.param('{"a": ' * 3000 + "1" + "}" * 3000, "nested deeper", id="too deep"),
        pytest.param("a: \x01\n", "standard input:1:1: unacceptable character", id="no text"),
        pytest.param("a: {{ .Values.a }}: b\n", "render templates first", id="template"),
        pytest.param(
            DEPLOYMENT.replace("20 # short", "-1"),
            "standard input:21:1: $.spec.template.spec.terminationGracePeriodSeconds: Expected",
            id="by its line",
        ),
        pytest.param(
            DEPLOYMENT.replace(
                "web:1'", "web:1'\n          ports:\n          - containerPort: 15001"
            ),
            "standard input:20:1: $.spec.template.spec.containers[0].ports[0].containerPort: 15001",
            id="by its line in a list",
        ),
        pytest.param(
            f"{SERVICE}---\n{POD.replace('spec: {', 'spec: {hostNetwork: true, ')}",
            "standard input:9:1: $.spec.hostNetwork: the node's own traffic",
            id="refused",
        ),
    ],
)
def test_what_cannot_be_injected_is_named_by_its_place(text: str, said: str) -> None:
    made = run("inject", stdin=text)
    assert made.exit_code == 2
    assert said in made.stderr
    assert made.stdout == ""


def test_what_is_missing_is_named_by_the_nearest_line() -> None:
    made = run("inject", "--for", "podman", stdin=f"{SERVICE}---\n{DEPLOYMENT}")
    assert made.exit_code == 2
    assert made.stderr.startswith("standard input:21:1: $.spec.template.spec.restartPolicy: podman")


def test_what_should_be_known_is_said_beside_the_manifest() -> None:
    scraped = POD.replace("name: a}", "name: a, annotations: {prometheus.io/port: '1'}}", 1)
    made = run("inject", stdin=scraped)
    assert made.exit_code == 0
    assert made.stderr.startswith(
        "standard input:1:1: $.metadata.annotations['prometheus.io/port']"
    )
    assert made.stderr.endswith("(warning)\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("/nowhere.yaml",), "/nowhere.yaml cannot be read", id="no file"),
        pytest.param(("--for", "podman", "--native"), "podman knows no native", id="podman"),
        pytest.param(("--exclude-uids", "app"), "exclude-uids: 'app' is neither", id="capture"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: tuple[str, ...], said: str) -> None:
    made = run("inject", *words)
    assert made.exit_code == 2
    assert said in made.stderr


def test_a_file_of_settings_is_read_strictly(tmp_path: Path) -> None:
    settings = tmp_path / "sidecar.yaml"
    settings.write_text("proxyImages: a")
    made = run("inject", "--config", str(settings), stdin=POD)
    assert made.exit_code == 2
    assert "unknown field `proxyImages`" in made.stderr


@pytest.mark.parametrize("verb", ["inject", "uninject"])
def test_where_the_extra_is_not_installed_that_is_said(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (f"tproxy.cli.{verb}", "tproxy.cli.manifests", "tproxy.cli.yaml_document"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    made = run(verb)
    assert made.exit_code == 1
    assert "ruamel.yaml, which is not installed: pip install 'tproxy[inject]'" in made.stderr
