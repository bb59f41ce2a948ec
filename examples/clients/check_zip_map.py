"""Logs classifiers whose ONNX models end in ZipMap with MLflow's onnx flavour, deploys them, and compares what is served with the library itself.

    python check_zip_map.py --tracking-uri http://127.0.0.1:5000 --rollouts http://127.0.0.1:5020 --serving http://127.0.0.1:8000

skl2onnx and onnxmltools put a ZipMap behind a classifier by default: its probabilities are a list of dictionaries, which the inference protocol
cannot carry. Serving answers with a tensor in its place, whose columns are the classes. Prints `ok NAME` or `FAIL NAME: why`; exits with 1 if
any failed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
import warnings

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

NAMES = np.array(["setosa", "versicolor", "virginica"])
PATIENCE_S = 60


def call(method: str, url: str, body: dict | None = None) -> tuple[int, dict]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text.startswith(b"{") else {"error": text.decode()}


def of_sklearn(features, labels):
    """A classifier of names, by skl2onnx."""
    from skl2onnx import to_onnx

    fitted = LogisticRegression(max_iter=1000).fit(features, NAMES[labels])
    return to_onnx(fitted, features[:1], target_opset=17), fitted.predict_proba, list(fitted.classes_)


def of_xgboost(features, labels):
    """A classifier of numbers, by onnxmltools' converter in skl2onnx, which puts a ZipMap behind it."""
    import xgboost
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from skl2onnx import to_onnx, update_registered_converter
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes

    update_registered_converter(
        xgboost.XGBClassifier,
        "XGBoostXGBClassifier",
        calculate_linear_classifier_output_shapes,
        convert_xgboost,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    fitted = xgboost.XGBClassifier(n_estimators=20, max_depth=3).fit(features, labels)
    model = to_onnx(fitted, features[:1], target_opset={"": 17, "ai.onnx.ml": 3})
    return model, fitted.predict_proba, ["0", "1", "2"]


def of_lightgbm(features, labels):
    """A classifier of numbers, by onnxmltools alone."""
    import lightgbm
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    fitted = lightgbm.LGBMClassifier(n_estimators=20, max_depth=3, verbose=-1).fit(features, labels)
    kinds = [("X", FloatTensorType([None, features.shape[1]]))]
    return convert_lightgbm(fitted, initial_types=kinds, target_opset=15), fitted.predict_proba, ["0", "1", "2"]


def check(kind, arguments) -> None:
    data = load_iris()
    features, labels = data.data.astype(np.float32), data.target
    model, probabilities, classes = kind(features, labels)
    operators = {node.op_type for node in model.graph.node}
    assert "ZipMap" in operators, f"the converter writes no ZipMap any more: {operators}"
    name = f"{kind.__name__.replace('_', '-')}-{uuid.uuid4().hex[:6]}"
    with mlflow.start_run():
        logged = mlflow.onnx.log_model(model, name="model", registered_model_name=name, pip_requirements=["onnxruntime"])
    version = str(logged.registered_model_version)
    status, answer = call(
        "POST", f"{arguments.rollouts}/api/v1/deployments", {"name": name, "model": name, "version": version}
    )
    assert status == 201, answer
    end = time.time() + PATIENCE_S
    while call("GET", f"{arguments.serving}/v2/models/{name}/ready")[0] != 200:
        assert time.time() < end, "it is not ready"
        time.sleep(0.2)
    rows = features[::15]
    wanted = probabilities(rows)
    _, metadata = call("GET", f"{arguments.serving}/v2/models/{name}")
    inputs = [
        {"name": metadata["inputs"][0]["name"], "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    ]
    status, answer = call("POST", f"{arguments.serving}/v2/models/{name}/infer", {"inputs": inputs})
    assert status == 200, answer
    outputs = {output["name"]: output for output in answer["outputs"]}
    served = next(output for output in outputs.values() if output["datatype"] == "FP32")
    assert served["shape"] == list(wanted.shape), served["shape"]
    got = np.array(served["data"]).reshape(wanted.shape)
    assert np.allclose(got, wanted, atol=1e-4), f"probabilities differ by {np.abs(got - wanted).max()}"
    # The names of the columns are those of the library.
    asked = [{"name": served["name"], "parameters": {"classification": 1}}]
    status, answer = call("POST", f"{arguments.serving}/v2/models/{name}/infer", {"inputs": inputs, "outputs": asked})
    assert status == 200, answer
    best = [entry.split(":")[2] for entry in answer["outputs"][0]["data"]]
    assert best == [str(classes[at]) for at in wanted.argmax(axis=1)], best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracking-uri", required=True)
    parser.add_argument("--rollouts", required=True)
    parser.add_argument("--serving", required=True)
    arguments = parser.parse_args()
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    mlflow.set_tracking_uri(arguments.tracking_uri)
    mlflow.set_experiment("check-zip-map")
    failed = 0
    for kind in (of_sklearn, of_xgboost, of_lightgbm):
        try:
            check(kind, arguments)
            print(f"ok {kind.__name__}", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAIL {kind.__name__}: {type(error).__name__}: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
