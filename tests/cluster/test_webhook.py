"""Every pod of a namespace: the chart as docs/deploy.md installs, upgrades and removes it, with the API server's own calls."""

from collections import Counter
from collections.abc import Iterator

import pytest

from fakes.cluster import PYTHON, ROOT, Cluster, documented
from fakes.podman import until

pytestmark = [pytest.mark.netns, pytest.mark.cluster]
URL = "http://httpbin:8000"
SYSTEM = "--namespace=tproxy-system"
ASKING = (ROOT / "tests" / "cluster" / "programs" / "asking.py").read_text()
JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: work}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: work, image: 'tproxy:0.1.0', command: ['true']}]
"""


@pytest.fixture(scope="module")
def meshed(node: Cluster) -> Iterator[Cluster]:
    """The example pair, without sidecars at first, and then what the commands make of it."""
    (commands,) = documented("Every pod of a namespace")
    with node.emptied("default"):
        node.shell("kubectl apply -k deploy/examples")
        node.available("httpbin", "sleep")
        try:
            node.shell(commands)
            node.available("httpbin", "sleep")
            yield node
        finally:
            node.shell(
                f"kubectl label namespace default tproxy.io/injection-; helm uninstall tproxy {SYSTEM} --ignore-not-found"
            )


def in_pod(meshed: Cluster, app: str) -> list[str]:
    """Which containers an application's pod has."""
    return [each["name"] for each in meshed.pod(app)["spec"]["containers"]]


def test_restarted_workloads_come_back_with_sidecars(meshed: Cluster) -> None:
    assert meshed.ask(f"{URL}/injected").status == 200
    for app in ("httpbin", "sleep"):
        assert in_pod(meshed, app) == ["tproxy", app]
        assert "/injected" in {each["path"] for each in meshed.access_log(app)}


def test_a_job_is_denied_and_its_events_say_why(meshed: Cluster) -> None:
    meshed.kubectl("apply", "-f", "-", stdin=JOB)

    def told() -> str:
        found = meshed.get("events", "--field-selector=involvedObject.name=work")["items"]
        return " ".join(each["message"] for each in found)

    until(lambda: "never ends" in told(), expected=True, seconds=60)
    assert "admission webhook" in told()
    meshed.kubectl("delete", "job", "work")


def test_an_upgrade_loses_no_request_and_keeps_the_certificate(meshed: Cluster) -> None:
    def trusted() -> str:
        found = meshed.get("mutatingwebhookconfiguration", "tproxy-injector")
        return str(found["webhooks"][0]["clientConfig"]["caBundle"])

    before, pod = trusted(), meshed.pod("httpbin")["metadata"]["name"]
    client = meshed.pod("sleep")["metadata"]["name"]
    with meshed.begun("exec", client, "-c", "sleep", "--", PYTHON, "-c", ASKING, URL) as asking:
        assert asking.stdout
        assert asking.stdout.readline() == "200\n"
        meshed.shell(
            f"helm upgrade tproxy deploy/helm/tproxy {SYSTEM} --reuse-values --set sidecar.workers=2"
        )
        meshed.kubectl("rollout", "status", "deployment/tproxy-injector", SYSTEM, "--timeout=120s")
        meshed.shell("kubectl rollout restart deployment/httpbin -n default")
        meshed.available("httpbin")
        assert meshed.pod("httpbin")["metadata"]["name"] != pod
        meshed.kubectl("wait", "--for=delete", f"pod/{pod}", "--timeout=200s")
        meshed.within(client, "sleep", "touch", "/dev/shm/enough")
        statuses = Counter(asking.communicate(timeout=60)[0].split())
    assert set(statuses) == {"200"}, statuses
    assert trusted() == before


def test_a_workload_that_declines_comes_back_as_it_was(meshed: Cluster) -> None:
    declined = (
        '{"spec": {"template": {"metadata": {"annotations": {"tproxy.io/inject": "false"}}}}}'
    )
    meshed.kubectl("patch", "deployment", "sleep", f"--patch={declined}")
    meshed.available("sleep")
    assert in_pod(meshed, "sleep") == ["sleep"]


def test_without_the_chart_workloads_come_back_as_they_were(meshed: Cluster) -> None:
    meshed.shell(f"helm uninstall tproxy {SYSTEM}; kubectl rollout restart deployment -n default")
    meshed.available("httpbin", "sleep")
    assert [in_pod(meshed, app) for app in ("httpbin", "sleep")] == [["httpbin"], ["sleep"]]
    assert "x-request-id" not in meshed.ask(URL).told["headers"]
