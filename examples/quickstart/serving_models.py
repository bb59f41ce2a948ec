"""Registers the small models that docs/serving/ calls: points, classes, identities, and the ensemble spread with its steps.

    python examples/quickstart/serving_models.py

    points       x (FP32, rows x 2) -> score (FP32, rows x 1), label (INT64, rows): 1 where the score is above 0
    classes      scores_in (FP32, rows x 3) -> scores, unchanged
    identities   an input of each datatype, unchanged
    spread       the ensemble: the score of `plus` less that of `minus`, taken by `difference`
"""

import argparse
import json
import os
from pathlib import Path

import mlflow
import mlflow.onnx
import onnx

FIXTURES = Path(__file__).resolve().parents[2] / "crates/inference/tests/fixtures"
MODELS = {
    "points": "linear_minus_one",
    "classes": "classes",
    "identities": "identities",
    "plus": "linear_plus_one",
    "minus": "linear_minus_one",
    "difference": "difference",
}
ENSEMBLE = {
    "inputs": [{"name": "x"}],
    "steps": [
        {"model": "minus", "inputs": {"x": "x"}, "outputs": {"score": "low"}},
        {"model": "plus", "inputs": {"x": "x"}, "outputs": {"score": "high"}},
        {"model": "difference", "inputs": {"left": "high", "right": "low"}, "outputs": {"difference": "spread"}},
    ],
    "outputs": [{"name": "spread"}],
}


def main() -> None:
    arguments = argparse.ArgumentParser(description="Registers the models of docs/serving/.")
    arguments.add_argument("--tracking-uri", default=os.environ.get("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000"))
    options = arguments.parse_args()
    mlflow.set_tracking_uri(options.tracking_uri)
    mlflow.set_experiment("serving docs")
    client = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        for name, fixture in MODELS.items():
            mlflow.onnx.log_model(
                onnx.load(FIXTURES / f"{fixture}.onnx"),
                name=name,
                registered_model_name=name,
                save_as_external_data=False,
                onnx_execution_providers=["CPUExecutionProvider"],
                pip_requirements=["onnx", "onnxruntime"],
            )
        mlflow.log_text(json.dumps(ENSEMBLE, indent=2), "spread/slipway-ensemble.json")
    if not client.search_registered_models("name = 'spread'"):
        client.create_registered_model("spread")
    version = client.create_model_version("spread", f"runs:/{run.info.run_id}/spread", run.info.run_id)
    print(f"registered {', '.join(MODELS)} and the ensemble spread, version {version.version}")


if __name__ == "__main__":
    main()
