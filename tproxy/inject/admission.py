"""Answer what an API server asks about a pod that is to be made (AdmissionReview, admission.k8s.io/v1)."""

import base64
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from tproxy.inject.findings import Refused, Remark
from tproxy.inject.inject import Skipped, has_sidecar, inject
from tproxy.inject.json_patch import patch
from tproxy.inject.shape import refuse_misshapen
from tproxy.inject.sidecar import Sidecar

VERSION = "admission.k8s.io/v1"
MOST_WARNINGS = 16
MOST_CHARACTERS = 250
"""Of a warning: an API server cuts what is longer than 256, and drops those beyond 4096 in all."""


class OnRefusal(StrEnum):
    """What becomes of a pod that cannot have a sidecar."""

    DENY = "deny"
    """It is not made."""
    ALLOW = "allow"
    """It is made without one, and whoever makes it is warned."""


class Result(StrEnum):
    """What came of a review; the label of `tproxy_injections_total`."""

    INJECTED = "injected"
    SKIPPED = "skipped"
    REFUSED = "refused"
    ERROR = "error"
    """It was no review that we understand."""


class Asked(msgspec.Struct, frozen=True):
    """What is asked of us, of all that a review tells."""

    uid: str
    operation: str = ""
    namespace: str = ""
    object: dict[str, Any] | None = None


class Review(msgspec.Struct, frozen=True, rename="camel"):
    """The question."""

    api_version: str
    kind: str
    request: Asked


class BadReview(ValueError):
    """A question that cannot be answered, as it is none or nobody says who asks."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back, and what came of it."""

    content: bytes
    result: Result
    said: str = ""


def answer(content: bytes, sidecar: Sidecar, on_refusal: OnRefusal) -> Answer:
    """Answer a review; BadReview where there is nobody to be answered."""
    try:
        return _answer(_read(content), sidecar, on_refusal)
    except RecursionError:
        raise BadReview("this is no AdmissionReview: it is nested deeper than any pod") from None


def _answer(asked: Asked, sidecar: Sidecar, on_refusal: OnRefusal) -> Answer:
    pod = asked.object
    if pod is None or pod.get("kind") != "Pod" or asked.operation != "CREATE":
        return _allowed(asked, Result.SKIPPED, said="it is no pod that is made")
    try:
        refuse_misshapen(pod, "$")
        if has_sidecar(pod):
            # Whoever has injected it chose its sidecar, and is not overruled.
            return _allowed(asked, Result.SKIPPED, said="it has its sidecar already")
        placed = _placed(pod, asked.namespace)
        made = inject(placed, sidecar)
    except Refused as refused:
        return _refused(asked, refused, on_refusal)
    if isinstance(made, Skipped):
        return _allowed(asked, Result.SKIPPED, said=made.reason)
    operations = list(patch(placed, made.manifest))
    patched = {
        "patchType": "JSONPatch",
        "patch": base64.b64encode(msgspec.json.encode(operations)).decode(),
    }
    return _allowed(asked, Result.INJECTED, patched, warnings=made.remarks)


def _read(content: bytes) -> Asked:
    try:
        review = msgspec.json.decode(content, type=Review)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadReview(f"this is no AdmissionReview: {error}") from None
    if (review.api_version, review.kind) != (VERSION, "AdmissionReview"):
        raise BadReview(
            f"{review.api_version} {review.kind} is not {VERSION} AdmissionReview:"
            " set admissionReviewVersions: [v1]"
        )
    return review.request


def _placed(pod: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Give the pod the namespace of the request, which a pod that is yet to be made may not have itself."""
    metadata = pod.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("namespace"):
        return pod
    return {**pod, "metadata": {**metadata, "namespace": namespace}}


def _refused(asked: Asked, refused: Refused, on_refusal: OnRefusal) -> Answer:
    said = str(refused)
    if on_refusal is OnRefusal.ALLOW:
        return _allowed(asked, Result.REFUSED, said=said, warnings=refused.remarks)
    status = {"code": 403, "reason": "Forbidden", "message": f"tproxy cannot be injected: {said}"}
    return _answered(asked, {"allowed": False, "status": status}, Result.REFUSED, said)


def _allowed(
    asked: Asked,
    result: Result,
    more: dict[str, Any] | None = None,
    *,
    said: str = "",
    warnings: tuple[Remark, ...] = (),
) -> Answer:
    told = [f"tproxy: {remark}"[:MOST_CHARACTERS] for remark in warnings[:MOST_WARNINGS]]
    response = {"allowed": True, **(more or {}), **({"warnings": told} if told else {})}
    return _answered(asked, response, result, said)


def _answered(asked: Asked, response: dict[str, Any], result: Result, said: str) -> Answer:
    review = {
        "apiVersion": VERSION,
        "kind": "AdmissionReview",
        "response": {"uid": asked.uid, **response},
    }
    return Answer(msgspec.json.encode(review), result, said)
