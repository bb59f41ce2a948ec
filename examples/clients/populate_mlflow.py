"""Fills an MLflow server with some of everything, for trying `slipway registry import`.

    python populate_mlflow.py http://127.0.0.1:5000 [--small-runs 50]

Experiments with tags, one of them deleted; nested runs, one deleted, one still running; params at their limits;
histories of 3 000 points, with NaN and infinities; data sets; artifacts with odd names; sklearn and ONNX models, logged
and registered; versions with a gap, aliases and stages; a copied version.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
import mlflow.data
import mlflow.onnx
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.entities import Metric, Param
from mlflow.models import infer_signature
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

POINTS = 3_000
FEATURES, LABELS = load_iris(return_X_y=True)
FEATURES = FEATURES.astype(np.float32)


def history(client: mlflow.MlflowClient, run_id: str, key: str, points: int) -> None:
    start = int(time.time() * 1000) - points
    metrics = [Metric(key, 1.0 / (step + 1), start + step, step) for step in range(points)]
    for first in range(0, points, 1000):
        client.log_batch(run_id, metrics=metrics[first : first + 1000])


def experiments(client: mlflow.MlflowClient) -> str:
    main = client.create_experiment("churn", tags={"team": "growth", "mlflow.note.content": "who leaves, and why"})
    client.create_experiment("empty", tags={"mood": "none yet"})
    gone = client.create_experiment("given up")
    run = client.create_run(gone, run_name="last try")
    client.log_metric(run.info.run_id, "loss", 1.0)
    client.set_terminated(run.info.run_id)
    client.delete_experiment(gone)
    return main


def records(client: mlflow.MlflowClient, experiment: str) -> None:
    """Params, tags, histories, data sets, odd files, nesting, life stages."""
    with mlflow.start_run(run_name="long training", tags={"kind": "neural"}) as parent:
        run_id = parent.info.run_id
        client.log_batch(run_id, params=[Param(f"layer/{number}", "x" * (number * 50)) for number in range(100)])
        client.log_batch(run_id, params=[Param(f"more.{number}", str(number)) for number in range(30)])
        mlflow.set_tag("long", "ü" * 5_000)
        history(client, run_id, "loss", POINTS)
        history(client, run_id, "val/loss", POINTS)
        for step, value in enumerate([float("nan"), float("inf"), float("-inf"), 0.5]):
            mlflow.log_metric("odd", value, step=step)
        mlflow.log_metric("steps below zero", 1.0, step=-3)
        frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})
        mlflow.log_input(mlflow.data.from_pandas(frame, name="customers"), context="training")
        mlflow.log_input(mlflow.data.from_pandas(frame * 2, name="customers later"), context="validation")
        mlflow.log_text("plain", "notes/read me.txt")
        mlflow.log_text("percent", "notes/50% off+more?.txt")
        mlflow.log_text("", "empty.txt")
        mlflow.log_text("deep", "a/b/c/d/e.txt")
        mlflow.log_dict({"bytes": "x" * 3_000_000}, "large.json")
        for number in range(3):
            with mlflow.start_run(run_name=f"fold {number}", nested=True):
                mlflow.log_param("fold", number)
                mlflow.log_metric("accuracy", 0.9 + number / 100)
    deleted = client.create_run(experiment, run_name="a mistake")
    client.log_param(deleted.info.run_id, "lr", "1000")
    client.log_text(deleted.info.run_id, "oops", "why.txt")
    client.set_terminated(deleted.info.run_id, "FAILED")
    client.delete_run(deleted.info.run_id)
    killed = client.create_run(experiment, run_name="killed")
    client.set_terminated(killed.info.run_id, "KILLED")
    running = client.create_run(experiment, run_name="still running")
    client.log_metric(running.info.run_id, "loss", 0.7)


def models(client: mlflow.MlflowClient) -> None:
    """Four versions of one model without its second, aliases, stages, and a model copied from it."""
    for c in (0.01, 0.1, 1.0, 10.0):
        with mlflow.start_run(run_name=f"C={c}"):
            mlflow.log_param("C", c)
            model = LogisticRegression(C=c, max_iter=500).fit(FEATURES, LABELS)
            signature = infer_signature(FEATURES, model.predict(FEATURES))
            mlflow.sklearn.log_model(model, name="sklearn", signature=signature)
            onnx = to_onnx(model, FEATURES[:1], options={"zipmap": False}, target_opset={"": 17, "ai.onnx.ml": 3})
            mlflow.onnx.log_model(
                onnx,
                name="onnx",
                signature=signature,
                registered_model_name="churn",
                save_as_external_data=False,
                pip_requirements=["onnx", "onnxruntime"],
            )
            mlflow.log_metric("accuracy", model.score(FEATURES, LABELS))
    client.update_registered_model("churn", "Says who leaves.")
    client.set_registered_model_tag("churn", "owner", "growth")
    client.delete_model_version("churn", "2")
    client.update_model_version("churn", "3", "the one that works")
    client.set_model_version_tag("churn", "3", "validated", "yes")
    client.set_registered_model_alias("churn", "champion", "3")
    client.set_registered_model_alias("churn", "challenger", "4")
    for version, stage in (("1", "Archived"), ("3", "Production"), ("4", "Staging")):
        client.transition_model_version_stage("churn", version, stage)
    client.copy_model_version("models:/churn/3", "churn production")

    # As MLflow 2 laid them out: files of a model among those of its run, registered by a path and by a run.
    with mlflow.start_run(run_name="the old way") as run:
        source = mlflow.artifacts.download_artifacts("models:/churn/3")
        mlflow.log_artifacts(source, "model")
    run_id = run.info.run_id
    client.create_registered_model("o'hara's model")
    client.create_model_version("o'hara's model", f"{run.info.artifact_uri}/model", run_id, description="by path")
    client.create_model_version("o'hara's model", f"runs:/{run_id}/model", run_id, tags={"by": "run"})
    client.create_model_version("o'hara's model", "s3://elsewhere/model")


def small_runs(client: mlflow.MlflowClient, count: int) -> None:
    experiment = client.create_experiment("sweep")
    for number in range(count):
        run_id = client.create_run(experiment, run_name=f"trial {number}").info.run_id
        metrics = [Metric(key, number / (step + 1), step, step) for key in ("loss", "accuracy") for step in range(20)]
        params = [Param(f"p{index}", str(number * index)) for index in range(10)]
        client.log_batch(run_id, metrics=metrics, params=params)
        client.set_terminated(run_id)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tracking_uri")
    parser.add_argument("--small-runs", type=int, default=50, metavar="N", help="runs of one more experiment")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    mlflow.set_tracking_uri(arguments.tracking_uri)
    client = mlflow.MlflowClient()
    experiment = experiments(client)
    mlflow.set_experiment(experiment_id=experiment)
    records(client, experiment)
    models(client)
    small_runs(client, arguments.small_runs)
    print(f"{arguments.tracking_uri} has some of everything now")


if __name__ == "__main__":
    main()
