"""The steps of deploy/kubernetes/README.md can be followed word by word, as far as that shows without a cluster."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import yaml

from tests.documents import ROOT, blocks
from tests.tools import tool

KUBERNETES = ROOT / "deploy" / "kubernetes"
PAGE = KUBERNETES / "README.md"
STEPS = [block.body for block in blocks([PAGE], "bash")]


def lines_of(*beginnings: str) -> list[str]:
    return [line for step in STEPS for line in step.splitlines() if line.startswith(beginnings)]


def copied(directory: Path) -> Path:
    """Follow the step that copies the example, in a copy of the manifests; return the new overlay."""
    manifests = directory / "kubernetes"
    shutil.copytree(KUBERNETES, manifests)
    subprocess.run(["sh", "-ec", "\n".join(lines_of("cp "))], check=True, cwd=manifests)
    (applied,) = re.findall(r"kubectl apply -k (\S+)", "".join(STEPS))
    assert (manifests / applied / "kustomization.yaml").is_file()
    return manifests / applied


def kustomized(overlay: Path) -> str:
    done = subprocess.run([tool("kubectl"), "kustomize", str(overlay)], capture_output=True, text=True, check=True)
    return done.stdout


def test_the_commands_name_deployments_and_labels_that_exist() -> None:
    found = [yaml.safe_load((KUBERNETES / "base" / f"{role}.yaml").read_text("utf-8")) for role in ("ingest", "search")]
    text = PAGE.read_text(encoding="utf-8")
    assert {*re.findall(r"deployment/([\w-]+)", text)} == {one["metadata"]["name"] for one in found}
    (label,) = re.findall(r"-l ([\w./-]+=[\w-]+)", text)
    for one in found:
        assert label in [f"{name}={value}" for name, value in one["metadata"]["labels"].items()]


def test_the_image_that_is_pushed_is_the_one_that_runs(tmp_path: Path) -> None:
    (pushed,) = re.findall(r"^docker push (\S+)$", "".join(STEPS), re.MULTILINE)
    assert f"docker build -t {pushed} ." in "".join(STEPS)
    overlay = copied(tmp_path) / "kustomization.yaml"
    (entry,) = re.findall(r"`(newName: [^`]+)`", PAGE.read_text(encoding="utf-8"))
    overlay.write_text(overlay.read_text("utf-8").replace("    newTag", f"    {entry}\n    newTag"), encoding="utf-8")
    assert {*re.findall(r"image: (\S+)", kustomized(overlay.parent))} == {pushed}


def test_without_a_key_of_qdrant_the_patch_removes_it(tmp_path: Path) -> None:
    overlay = copied(tmp_path)
    assert "qdrant-api-key" in kustomized(overlay)
    (patch,) = (block.body for block in blocks([PAGE], "yaml") if "op: remove" in block.body)
    with (overlay / "kustomization.yaml").open("a", encoding="utf-8") as file:
        file.write("".join(f"  {line}\n" for line in patch.splitlines()))
    result = kustomized(overlay)
    assert "qdrant-api-key" not in result
    assert "QDRANT_API_KEY" not in result
    assert result.count("REDIS_URL_FILE") == 2


def test_the_secret_has_the_keys_that_the_pods_mount(tmp_path: Path) -> None:
    (create,) = lines_of("kubectl create secret")
    script = "\n".join([*lines_of("printf "), f"{create} --dry-run=client -o yaml".replace("kubectl", tool("kubectl"))])
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    secret = yaml.safe_load(done.stdout)
    pod = yaml.safe_load((KUBERNETES / "base" / "ingest.yaml").read_text("utf-8"))["spec"]["template"]["spec"]
    (mounted,) = (volume["secret"] for volume in pod["volumes"] if "secret" in volume)
    assert secret["metadata"]["name"] == mounted["secretName"]
    assert secret["data"].keys() == {item["key"] for item in mounted["items"]}
