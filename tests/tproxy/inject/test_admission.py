"""What an API server is answered."""

import base64
import json
from typing import Any

import jsonpatch
import pytest

from tproxy.inject.admission import MOST_CHARACTERS, BadReview, OnRefusal, Result, answer
from tproxy.inject.inject import Injected, inject
from tproxy.inject.sidecar import Sidecar

POD = {"kind": "Pod", "metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "a"}]}}


def review(pod: object = POD, **request: object) -> bytes:
    """The question whether a pod may be made."""
    asked = {"uid": "u-1", "operation": "CREATE", "namespace": "shop", "object": pod, **request}
    return json.dumps(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}
    ).encode()


def deep(levels: int) -> bytes:
    """A review of a pod in which lists are in lists."""
    return review({**POD, "x": 0}).replace(b'"x": 0', b'"x": ' + b"[" * levels + b"]" * levels)


def answered(
    content: bytes, on_refusal: OnRefusal = OnRefusal.DENY
) -> tuple[Result, dict[str, Any]]:
    """What came of a review, and the response."""
    made = answer(content, Sidecar(), on_refusal)
    whole = json.loads(made.content)
    assert whole["kind"] == "AdmissionReview"
    assert whole["response"]["uid"] == "u-1"
    return made.result, whole["response"]


@pytest.mark.parametrize(
    "metadata", [{"generateName": "web-"}, {"name": "web", "namespace": "shop"}]
)
def test_a_pod_is_patched_into_the_injected_one(metadata: dict[str, Any]) -> None:
    pod = {**POD, "metadata": metadata}
    result, response = answered(review(pod))
    assert (result, response["allowed"], response["patchType"]) == (
        Result.INJECTED,
        True,
        "JSONPatch",
    )
    made = jsonpatch.apply_patch(pod, json.loads(base64.b64decode(response["patch"])))
    wanted = inject(pod, Sidecar())
    assert isinstance(wanted, Injected)
    assert made == wanted.manifest


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(review(None), id="nothing"),
        pytest.param(review({"kind": "Service"}), id="no pod"),
        pytest.param(review(operation="UPDATE"), id="not made"),
        pytest.param(
            review({**POD, "metadata": {"annotations": {"tproxy.io/inject": "false"}}}),
            id="declined",
        ),
        pytest.param(
            review({**POD, "metadata": {"annotations": {"tproxy.io/status": "{}"}}}), id="has one"
        ),
    ],
)
def test_what_is_not_to_be_injected_is_allowed_as_it_is(content: bytes) -> None:
    assert answered(content) == (Result.SKIPPED, {"uid": "u-1", "allowed": True})


REFUSED = {**POD, "spec": {**POD["spec"], "hostNetwork": True}}  # type: ignore[dict-item]


def with_container(**more: object) -> dict[str, Any]:
    """A pod whose container has more than a name."""
    return {**POD, "spec": {"containers": [{"name": "a", **more}]}}


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(REFUSED, id="on the node's network"),
        pytest.param({"kind": "Pod", "metadata": 1, "spec": {}}, id="no metadata"),
        pytest.param({**POD, "metadata": {"ownerReferences": True}}, id="no owners"),
        pytest.param(with_container(livenessProbe=True), id="no probe"),
        pytest.param(with_container(livenessProbe={"httpGet": True}), id="no request of a probe"),
        pytest.param(with_container(env=[1]), id="no environment"),
    ],
)
def test_a_pod_that_cannot_have_a_sidecar_is_denied(pod: object) -> None:
    result, response = answered(review(pod))
    assert (result, response["allowed"], response["status"]["code"]) == (Result.REFUSED, False, 403)
    assert response["status"]["message"].startswith("tproxy cannot be injected: $.")


def test_or_it_is_allowed_with_a_warning() -> None:
    result, response = answered(review(REFUSED), OnRefusal.ALLOW)
    assert (result, response["allowed"]) == (Result.REFUSED, True)
    assert response["warnings"][0].startswith("tproxy: $.spec.hostNetwork: ")
    assert "patch" not in response


def test_warnings_are_few_and_short() -> None:
    annotations = {f"tproxy.io/{'x' * 300}{number}": "1" for number in range(40)}
    _, response = answered(review({**POD, "metadata": {"annotations": annotations}}))
    assert len(response["warnings"]) == 16
    assert max(map(len, response["warnings"])) == MOST_CHARACTERS


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "this is no AdmissionReview", id="nothing"),
        pytest.param(b"[]", "this is no AdmissionReview", id="another shape"),
        pytest.param(b'{"a": "\xff"}', "this is no AdmissionReview", id="no text"),
        pytest.param(
            review().replace(b"k8s.io/v1", b"k8s.io/v1beta1"),
            "admissionReviewVersions",
            id="version",
        ),
        pytest.param(review(uid=None), "uid", id="nobody to answer"),
        pytest.param(deep(100_000), "nested deeper", id="without end"),
        pytest.param(deep(700), "nested deeper", id="deep"),
    ],
)
def test_what_is_no_review_has_nobody_to_be_answered(content: bytes, said: str) -> None:
    with pytest.raises(BadReview, match=said):
        answer(content, Sidecar(), OnRefusal.DENY)
