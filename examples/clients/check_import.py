"""Compares two servers through the MLflow client after `slipway registry import`; names every difference.

    python check_import.py http://old:5000 http://127.0.0.1:5000

Experiments, runs with whole histories, logged models, files byte for byte, registered models, versions, aliases. Exits
with 1 if anything differs. What an import adds (tags `slipway.import.*`) and what it cannot keep (when experiments, models
and versions were made) is left out.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from mlflow.artifacts import download_artifacts
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.proto_json_utils import message_to_json


def pages(search: Callable, **arguments) -> list:
    found, token = [], None
    while True:
        page = search(**arguments, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def tags_of(tags: dict) -> dict:
    return {key: value for key, value in tags.items() if not key.startswith("slipway.import.")}


def tree(uri: str, tracking_uri: str) -> dict:
    """The files at a URI by their paths, with their digests."""
    # Some of the client asks the server that is set for all, and makes a database in the current folder where none is.
    mlflow.set_tracking_uri(tracking_uri)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(download_artifacts(uri, dst_path=folder, tracking_uri=tracking_uri))
        return {
            str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }


class Side:
    """One of the two servers, as plain values that can be compared."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.client = mlflow.MlflowClient(uri)
        experiments = pages(self.client.search_experiments, view_type=ViewType.ALL)
        self.experiments = {found.name: found for found in experiments}
        self.names = {found.experiment_id: name for name, found in self.experiments.items()}

    def experiment(self, name: str) -> dict:
        found = self.experiments[name]
        return {"stage": found.lifecycle_stage, "tags": tags_of(found.tags)}

    def runs(self, name: str) -> dict:
        arguments = {"experiment_ids": [self.experiments[name].experiment_id], "run_view_type": ViewType.ALL}
        return {run.info.run_id: run for run in pages(self.client.search_runs, **arguments)}

    def run(self, run: mlflow.entities.Run) -> dict:
        info, run_id = run.info, run.info.run_id
        datasets = [json.loads(message_to_json(given.to_proto())) for given in run.inputs.dataset_inputs]
        outputs = run.outputs.model_outputs if run.outputs else []
        for dataset in datasets:
            dataset["tags"] = sorted(map(str, dataset.get("tags", [])))
        return {
            "info": (info.run_name, info.user_id, info.status, info.start_time, info.end_time, info.lifecycle_stage),
            "params": run.data.params,
            "tags": tags_of(run.data.tags),
            # As text, since NaN is not equal to itself.
            "latest": {key: str(value) for key, value in run.data.metrics.items()},
            "histories": {key: self.history(run_id, key) for key in run.data.metrics},
            "datasets": sorted(datasets, key=str),
            "model inputs": sorted(given.model_id for given in run.inputs.model_inputs or []),
            "model outputs": sorted((made.model_id, made.step) for made in outputs),
        }

    def history(self, run_id: str, key: str) -> list:
        points = self.client.get_metric_history(run_id, key)
        return sorted((point.timestamp, point.step, str(point.value)) for point in points)

    def logged_models(self, name: str) -> dict:
        ids = [self.experiments[name].experiment_id]
        try:
            return {model.model_id: model for model in pages(self.client.search_logged_models, experiment_ids=ids)}
        except MlflowException:  # a server of MLflow 2 has none
            return {}

    def logged_model(self, model: mlflow.entities.LoggedModel) -> dict:
        # Each server keeps the list of versions by itself; MLflow's has deleted ones as well.
        tags = {key: value for key, value in tags_of(model.tags).items() if key != "mlflow.modelVersions"}
        metrics = [
            (found.key, str(found.value), found.timestamp, found.step, found.run_id, found.dataset_name)
            for found in model.metrics or []
        ]
        return {
            "info": (model.name, model.model_type, model.source_run_id, str(model.status)),
            "params": model.params,
            "tags": tags,
            "metrics": sorted(metrics, key=str),
        }

    def models(self) -> dict:
        return {model.name: model for model in pages(self.client.search_registered_models)}

    def model(self, model: mlflow.entities.model_registry.RegisteredModel) -> dict:
        return {"description": model.description or "", "tags": tags_of(model.tags), "aliases": dict(model.aliases)}

    def versions(self, name: str) -> dict:
        quote = '"' if "'" in name else "'"
        versions = pages(self.client.search_model_versions, filter_string=f"name={quote}{name}{quote}")
        return {found.version: found for found in versions}

    def version(self, version: mlflow.entities.model_registry.ModelVersion) -> dict:
        return {
            "description": version.description or "",
            "tags": tags_of(version.tags),
            "run": version.run_id or "",
            "link": version.run_link or "",
            "stage": version.current_stage,
            "source": self.by_name(version.source),
        }

    def by_name(self, source: str) -> str:
        """A source with its experiment's name for its number."""
        scheme, _, path = source.partition(":/")
        if scheme != "mlflow-artifacts":
            return source
        number, _, rest = path.lstrip("/").partition("/")
        return f"{scheme}:/{self.names.get(number, number)}/{rest}"


class Differences:
    """Collects what differs, by what it is about."""

    def __init__(self) -> None:
        self.compared = 0
        self.found: list[str] = []

    def compare(self, what: str, left: object, right: object) -> None:
        if isinstance(left, dict) and isinstance(right, dict):
            for key in sorted({*left, *right}, key=str):
                self.compare(f"{what} / {key}", left.get(key), right.get(key))
            return
        self.compared += 1
        if left != right:
            self.found.append(f"{what}: {str(left)[:200]} became {str(right)[:200]}")

    def files(self, what: str, uri: str, old: Side, new: Side) -> None:
        sides = []
        for side in (old, new):
            try:
                sides.append(tree(uri, side.uri))
            except Exception as error:  # a download may fail in any way, which is what is to be found out
                sides.append({"download": type(error).__name__})
        self.compare(f"{what} / files", *sides)


def both(differences: Differences, what: str, old: dict, new: dict, others: bool = False) -> list:
    """Keys that both sides have. The new side may have `others` of its own."""
    differences.compare(what, sorted(old), sorted(key for key in new if key in old or not others))
    return sorted(key for key in old if key in new)


def main() -> int:
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    old, new = Side(sys.argv[1]), Side(sys.argv[2])
    differences = Differences()
    for name in both(differences, "experiments", old.experiments, new.experiments, others=True):
        what = f"experiment {name}"
        differences.compare(what, old.experiment(name), new.experiment(name))
        # Every server has this one from the start, and others log to it as well.
        shared = name == "Default"
        left, right = old.runs(name), new.runs(name)
        for run_id in both(differences, f"runs of {name}", left, right, others=shared):
            differences.compare(f"run {run_id}", old.run(left[run_id]), new.run(right[run_id]))
            differences.files(f"run {run_id}", f"runs:/{run_id}/", old, new)
        left, right = old.logged_models(name), new.logged_models(name)
        for model_id in both(differences, f"logged models of {name}", left, right, others=shared):
            what = f"logged model {model_id}"
            differences.compare(what, old.logged_model(left[model_id]), new.logged_model(right[model_id]))
            differences.files(what, f"models:/{model_id}", old, new)
    left, right = old.models(), new.models()
    for name in both(differences, "registered models", left, right, others=True):
        differences.compare(f"model {name}", old.model(left[name]), new.model(right[name]))
        left_versions, right_versions = old.versions(name), new.versions(name)
        for version in both(differences, f"versions of {name}", left_versions, right_versions):
            what = f"version {name}/{version}"
            differences.compare(what, old.version(left_versions[version]), new.version(right_versions[version]))
            if not left_versions[version].source.startswith("s3://"):
                differences.files(what, f"models:/{name}/{version}", old, new)
    for difference in differences.found:
        print(f"DIFFERS {difference}")
    print(f"{differences.compared} values compared, {len(differences.found)} differ")
    return 1 if differences.found else 0


if __name__ == "__main__":
    sys.exit(main())
