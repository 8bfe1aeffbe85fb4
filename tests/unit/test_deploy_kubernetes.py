"""The manifests are valid for Kubernetes and the operators, and use settings, probes and metrics that exist.

They are resolved here as kustomize resolves them: resources, generated ConfigMaps, images, JSON patches. If kubectl is
installed, its kustomize must have the same result.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any, TypeAlias, get_args

import jsonschema
import kubernetes_validate
import pytest
import yaml

from memory_worker.settings import Role, Settings, load_settings, secret_file_variables, variables
from tests.tools import tool
from tests.unit.test_deploy_prometheus import misnamed

Document: TypeAlias = dict[str, Any]

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
BASE, EXAMPLE = KUBERNETES / "base", KUBERNETES / "overlays" / "example"

OLDEST_KUBERNETES = "1.27"


def _of(required: Document, **optional: Document) -> Document:
    """Return the schema of an object with these properties and no others."""
    properties = required | optional
    return {"type": "object", "properties": properties, "required": [*required], "additionalProperties": False}


def _custom(version: str, spec: Document) -> Document:
    names = {"type": "object", "additionalProperties": STRING}
    metadata = _of({"name": STRING, "labels": names})
    return _of({"apiVersion": {"const": version}, "kind": STRING, "metadata": metadata, "spec": spec})


STRING = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}
SECONDS = {"type": "string", "pattern": "^[0-9]+s$"}
NUMBER = {"type": "string", "pattern": "^[0-9]+$"}

CUSTOM = {
    "ScaledObject": _custom(
        "keda.sh/v1alpha1",
        _of(
            {
                "scaleTargetRef": _of({"name": STRING}),
                "triggers": {
                    "type": "array",
                    "items": _of(
                        {
                            "type": {"const": "prometheus"},
                            "metadata": _of(
                                {"serverAddress": STRING, "query": STRING, "threshold": NUMBER},
                                ignoreNullValues={"enum": ["true", "false"]},
                            ),
                        },
                        metricType={"enum": ["AverageValue", "Value"]},
                    ),
                },
            },
            pollingInterval=COUNT,
            minReplicaCount=COUNT,
            maxReplicaCount=COUNT,
            advanced=_of({"horizontalPodAutoscalerConfig": _of({"behavior": {"type": "object"}})}),
        ),
    ),
    "PodMonitor": _custom(
        "monitoring.coreos.com/v1",
        _of(
            {
                "selector": _of({"matchLabels": {"type": "object"}}),
                "podMetricsEndpoints": {
                    "type": "array",
                    "items": _of({"port": STRING}, path=STRING, interval=SECONDS, scrapeTimeout=SECONDS),
                },
            },
            jobLabel=STRING,
        ),
    ),
}
"""Schemas that kubernetes-validate does not have, of the fields used here, from the documentation of KEDA 2.16 and the
Prometheus operator 0.80."""

RESTART_MARGIN_S = 10
"""Time of a pod beyond ``WORKER_GRACE_S``, for a reply of Redis and for closing connections."""


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def resolved(directory: Path) -> list[Document]:
    """Return the documents of a kustomization."""
    kustomization = yaml.safe_load(_text(directory / "kustomization.yaml"))
    assert kustomization.pop("apiVersion") == "kustomize.config.k8s.io/v1beta1"
    assert kustomization.pop("kind") == "Kustomization"
    found: list[Document] = []
    for resource in kustomization.pop("resources"):
        path = (directory / resource).resolve()
        found += resolved(path) if path.is_dir() else yaml.safe_load_all(_text(path))
    for generator in kustomization.pop("configMapGenerator", []):
        _generate(found, directory, **generator)
    for image in kustomization.pop("images", []):
        _tag(found, **image)
    for patch in kustomization.pop("patches", []):
        _patch(found, yaml.safe_load(_text(directory / patch["path"])), **patch["target"])
    assert not kustomization, "resolve it here, or do not use it"
    return found


def _generate(documents: list[Document], directory: Path, *, name: str, envs: list[str], behavior: str = "") -> None:
    lines = [line for env in envs for line in _text(directory / env).splitlines() if line and not line.startswith("#")]
    data = dict(line.split("=", 1) for line in lines)
    if behavior == "merge":
        the(documents, "ConfigMap", name)["data"] |= data
        return
    assert not behavior
    documents.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def _tag(documents: list[Document], *, name: str, newTag: str) -> None:  # noqa: N803  # kustomize's own name
    for document in documents:
        for container in containers(document):
            if container["image"] == name:
                container["image"] = f"{name}:{newTag}"


def _patch(documents: list[Document], operations: list[Document], *, kind: str, name: str) -> None:
    for operation in operations:
        *path, last = operation["path"].strip("/").split("/")
        parent: Any = the(documents, kind, name)
        for part in path:
            parent = parent[int(part) if isinstance(parent, list) else part]
        assert operation["op"] in ("add", "replace")
        assert isinstance(parent, dict), "resolve it here, or do not use it"
        assert (last in parent) == (operation["op"] == "replace")
        parent[last] = operation["value"]


def the(documents: list[Document], kind: str, name: str) -> Document:
    (found,) = (one for one in documents if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


def of_kind(kind: str) -> list[Document]:
    return [document for document in resolved(EXAMPLE) if document["kind"] == kind]


def containers(document: Document) -> Iterator[Document]:
    if document["kind"] == "Deployment":
        spec = document["spec"]["template"]["spec"]
        yield from [*spec.get("initContainers", []), *spec["containers"]]


def named(document: Document) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


def role_of(deployment: Document) -> str:
    role: str = deployment["metadata"]["labels"]["app.kubernetes.io/component"]
    return role


DOCUMENTS = resolved(EXAMPLE)
DEPLOYMENTS = of_kind("Deployment")
SCALED = of_kind("ScaledObject")


@pytest.fixture(params=DEPLOYMENTS, ids=role_of)
def deployment(request: pytest.FixtureRequest) -> Document:
    found: Document = request.param
    return found


@pytest.fixture
def container(deployment: Document) -> Document:
    (found,) = containers(deployment)
    return found


@pytest.fixture
def settings(container: Document, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """Load the settings as the container does, with secrets from temporary files."""
    secrets = {"REDIS_URL": "redis://worker:secret@redis:6379", "QDRANT_API_KEY": "secret"}
    for name in (*variables(), *secret_file_variables()):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment(container).items():
        if name in secret_file_variables():
            path = tmp_path / name
            path.write_text(secrets[name.removesuffix("_FILE")], encoding="utf-8")
            monkeypatch.setenv(name, str(path))
        else:
            monkeypatch.setenv(name, value)
    return load_settings()


def environment(container: Document) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in container["envFrom"]:
        found |= the(DOCUMENTS, "ConfigMap", source["configMapRef"]["name"])["data"]
    return found | {variable["name"]: variable["value"] for variable in container["env"]}


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("document", [one for one in DOCUMENTS if one["kind"] not in CUSTOM], ids=named)
def test_a_document_is_valid_for_kubernetes(document: Document, version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if one["kind"] in CUSTOM], ids=named)
def test_a_document_is_valid_for_its_operator(document: Document) -> None:
    jsonschema.validate(document, CUSTOM[document["kind"]])


@pytest.mark.parametrize("scaled", SCALED, ids=role_of)
def test_the_autoscaler_that_keda_makes_is_valid(scaled: Document) -> None:
    spec = scaled["spec"]
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": scaled["metadata"],
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", **spec["scaleTargetRef"]},
            "minReplicas": spec["minReplicaCount"],
            "maxReplicas": spec["maxReplicaCount"],
            "behavior": spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
        },
    }
    kubernetes_validate.validate(autoscaler, OLDEST_KUBERNETES, strict=True)


@pytest.mark.parametrize("directory", [BASE, EXAMPLE], ids=lambda path: path.name)
def test_kustomize_has_the_same_result(directory: Path) -> None:
    done = subprocess.run([tool("kubectl"), "kustomize", str(directory)], capture_output=True, text=True, check=True)
    without_hash = re.sub(r"(name: memory-worker)-[0-9a-z]{10}$", r"\1", done.stdout, flags=re.MULTILINE)
    assert sorted(yaml.safe_load_all(without_hash), key=named) == sorted(resolved(directory), key=named)


def test_the_example_uses_all_files() -> None:
    resources = {
        (path.parent / name).resolve()
        for path in KUBERNETES.rglob("kustomization.yaml")
        for name in _named_in(yaml.safe_load(_text(path)))
    }
    files = {path for path in KUBERNETES.rglob("*") if path.is_file() and path.suffix in (".yaml", ".env")}
    assert {path for path in files if path.name != "kustomization.yaml"} == {p for p in resources if p.is_file()}
    assert {path.parent for path in files} - {EXAMPLE} == {path for path in resources if path.is_dir()}


def _named_in(kustomization: Document) -> Iterator[str]:
    yield from kustomization["resources"]
    for generator in kustomization.get("configMapGenerator", []):
        yield from generator["envs"]
    yield from (patch["path"] for patch in kustomization.get("patches", []))


def test_no_document_names_a_namespace() -> None:
    assert not [named(document) for document in DOCUMENTS if "namespace" in document["metadata"]]


def test_there_is_no_secret_and_no_service() -> None:
    assert not {"Secret", "Service"} & {document["kind"] for document in DOCUMENTS}


def test_every_variable_is_a_setting(container: Document) -> None:
    found = environment(container)
    assert found.keys() <= {*variables(), *secret_file_variables()}
    assert not found.keys() & {name.upper() for name in secret_file_variables().values()}, "a secret is a file"


def test_the_settings_are_accepted(settings: Settings) -> None:
    assert settings.redis_url is not None
    assert settings.qdrant_url is not None
    assert settings.qdrant_api_key is not None


def test_the_files_of_secrets_are_mounted(deployment: Document, container: Document) -> None:
    (volume,) = (one for one in deployment["spec"]["template"]["spec"]["volumes"] if "secret" in one)
    (mount,) = (one for one in container["volumeMounts"] if one["name"] == volume["name"])
    mounted = {f"{mount['mountPath']}/{item['path']}" for item in volume["secret"]["items"]}
    assert mounted == {value for name, value in environment(container).items() if name in secret_file_variables()}
    assert mount["readOnly"]


def test_a_deployment_runs_its_role(deployment: Document, container: Document) -> None:
    assert container["command"] == ["memory-worker"]
    assert container["args"] == ["run", "--role", role_of(deployment)]


def test_every_role_has_a_deployment() -> None:
    assert {role_of(one) for one in DEPLOYMENTS} == {*get_args(Role)} - {"all"}


def test_the_deployments_differ_in_the_role_only() -> None:
    ingest, search = (
        json.dumps(the(DOCUMENTS, "Deployment", f"memory-worker-{role}")) for role in ("ingest", "search")
    )
    assert search.replace("search", "ingest") == ingest


def test_the_pods_comply_with_the_restricted_standard(deployment: Document, container: Document) -> None:
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    assert {kind for volume in pod["volumes"] for kind in volume.keys() - {"name"}} <= {"secret", "emptyDir"}


def test_the_pods_have_no_access_to_the_api_of_kubernetes(deployment: Document) -> None:
    pod = deployment["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert the(DOCUMENTS, "ServiceAccount", pod["serviceAccountName"])["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False


def test_a_pod_has_enough_time_to_stop(deployment: Document, settings: Settings) -> None:
    grace_s = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s >= settings.worker_grace_s + settings.redis_timeout_s + RESTART_MARGIN_S


def test_the_port_is_that_of_the_settings(container: Document, settings: Settings) -> None:
    assert container["ports"] == [{"name": "http", "containerPort": settings.port}]


def test_each_probe_uses_its_page(container: Document) -> None:
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["path"] for name, probe in asked.items()} == {
        "startup": "/livez",
        "liveness": "/livez",
        "readiness": "/readyz",
    }
    assert {probe["port"] for probe in asked.values()} == {"http"}


def test_memory_is_limited_and_cpu_is_not(container: Document) -> None:
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert container["resources"]["limits"].keys() == {"memory"}


def test_memory_is_enough_for_the_batches(container: Document, settings: Settings) -> None:
    """SIZING.md has the formula."""
    batches = settings.worker_concurrency * 8 * settings.batch_max_bytes / 2**20
    request, limit = (int(container["resources"][kind]["memory"].removesuffix("Mi")) for kind in ("requests", "limits"))
    assert 80 + batches <= request
    assert limit == 2 * request


def test_selectors_select_the_pods(deployment: Document) -> None:
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"].items() == labels
    for constraint in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"].items() == labels
    (budget,) = (one for one in of_kind("PodDisruptionBudget") if role_of(one) == role_of(deployment))
    assert budget["spec"]["selector"]["matchLabels"].items() == labels
    for kind, selector in (("NetworkPolicy", "podSelector"), ("PodMonitor", "selector")):
        (one,) = of_kind(kind)
        assert one["spec"][selector]["matchLabels"].items() <= labels


def test_an_autoscaler_sets_the_number_of_pods(deployment: Document) -> None:
    assert "replicas" not in deployment["spec"]
    (scaled,) = (one for one in SCALED if one["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"])
    assert 0 < scaled["spec"]["minReplicaCount"] < scaled["spec"]["maxReplicaCount"]


@pytest.mark.parametrize("scaled", SCALED, ids=role_of)
def test_the_autoscaler_uses_metrics_that_exist(scaled: Document) -> None:
    for trigger in scaled["spec"]["triggers"]:
        assert not misnamed(trigger["metadata"]["query"])


@pytest.mark.parametrize("scaled", SCALED, ids=role_of)
def test_pods_are_not_stopped_if_a_metric_is_missing(scaled: Document) -> None:
    """An autoscaler does not scale down while one of its metrics is missing."""
    strict = [one for one in scaled["spec"]["triggers"] if one["metadata"]["ignoreNullValues"] == "false"]
    assert len(strict) == 1
    assert "fallback" not in scaled["spec"]


def test_ingest_has_no_more_pods_than_the_partitions_can_use() -> None:
    settings = Settings()
    spec = the(DOCUMENTS, "ScaledObject", "memory-worker-ingest")["spec"]
    assert spec["maxReplicaCount"] == ceil(settings.queue_partitions / settings.worker_concurrency)
    takeover_s = settings.lease_ttl_s + 2 * settings.rescue_interval_s + 1
    (threshold_s,) = thresholds(spec)
    assert spec["minReplicaCount"] * threshold_s > takeover_s


def test_search_is_scaled_by_the_concurrency_of_one_process() -> None:
    at_once = Settings().search_concurrency
    assert thresholds(the(DOCUMENTS, "ScaledObject", "memory-worker-search")["spec"]) == [at_once, at_once // 2]


def thresholds(spec: Document) -> list[int]:
    return [int(trigger["metadata"]["threshold"]) for trigger in spec["triggers"]]


def test_the_alerts_match_the_job_of_the_pods() -> None:
    (monitor,) = of_kind("PodMonitor")
    names = {one["spec"]["template"]["metadata"]["labels"][monitor["spec"]["jobLabel"]] for one in DEPLOYMENTS}
    rules = "".join(_text(path) for path in (ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
    for pattern in {*re.findall(r'job=~"([^"]+)"', rules)}:
        assert all(re.fullmatch(pattern, name) for name in names)


def test_the_readme_shows_how_to_apply_the_rules() -> None:
    (snippet,) = re.findall(r"^for file in .*?^done", _text(KUBERNETES / "README.md"), re.MULTILINE | re.DOTALL)
    done = subprocess.run(["bash", "-c", snippet], capture_output=True, text=True, check=True, cwd=ROOT)
    found = list(yaml.safe_load_all(done.stdout))
    assert found
    for rule in found:
        assert rule["kind"] == "PrometheusRule"
        assert {"alert", "record"} & rule["spec"]["groups"][0]["rules"][0].keys()


def test_images_are_pinned(container: Document) -> None:
    assert re.fullmatch(r"memory-worker:\d+\.\d+\.\d+", container["image"])
