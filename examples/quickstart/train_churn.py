"""Trains the model `churn` of the README, logs it with MLflow's client, and registers it as the next version.

    python examples/quickstart/train_churn.py                    # version 1
    python examples/quickstart/train_churn.py --trees 200        # version 2

The data is made here: customers with four numbers each, and whether they left within three months. The order of the columns
is that of a request:

    slipway predict churn '[[14, 79.5, 3, 0]]'     # months as a customer, monthly charge, support calls, months left in the contract
"""

import argparse
import json
import os
import sys
from pathlib import Path

import mlflow
import mlflow.onnx
import numpy as np
from mlflow.models import infer_signature
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))
import slipway_profile  # noqa: E402  (it lies in examples/training)

COLUMNS = ["tenure_months", "monthly_charge", "support_calls", "contract_months_left"]


def customers(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (rows x 4, FP32) and whether each customer left (0 or 1)."""
    random = np.random.default_rng(seed)
    tenure = random.gamma(2.0, 14.0, rows).round()
    charge = random.normal(65.0, 20.0, rows).clip(15.0, 150.0).round(2)
    calls = random.poisson(1.2, rows)
    contract = np.where(random.random(rows) < 0.45, 0, random.integers(1, 24, rows))
    score = 0.03 * (charge - 65.0) + 0.7 * (calls - 1.2) - 0.04 * (tenure - 28.0) - 0.12 * contract
    left = random.random(rows) < 1.0 / (1.0 + np.exp(-score))
    return np.column_stack([tenure, charge, calls, contract]).astype(np.float32), left.astype(np.int64)


def main() -> None:
    arguments = argparse.ArgumentParser(description="Trains, logs and registers the model of the README.")
    arguments.add_argument("--tracking-uri", default=os.environ.get("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000"))
    arguments.add_argument("--name", default="churn", help="registered model [default: %(default)s]")
    arguments.add_argument("--trees", type=int, default=60, help="number of trees [default: %(default)s]")
    options = arguments.parse_args()

    features, labels = customers(6_000, seed=1)
    train_x, test_x, train_y, test_y = train_test_split(features, labels, random_state=0)
    mlflow.set_tracking_uri(options.tracking_uri)
    mlflow.set_experiment(options.name)
    with mlflow.start_run(run_name=f"gradient boosting, {options.trees} trees"):
        mlflow.log_params({"trees": options.trees, "depth": 3})
        model = GradientBoostingClassifier(n_estimators=options.trees, max_depth=3, random_state=0)
        model.fit(train_x, train_y)
        predicted = model.predict(test_x)
        mlflow.log_metric("accuracy", accuracy_score(test_y, predicted))
        mlflow.log_metric("auc", roc_auc_score(test_y, model.predict_proba(test_x)[:, 1]))
        # Drift of live traffic is measured against this profile.
        profile = slipway_profile.profile(COLUMNS, train_x, {"label": model.predict(train_x)}, {"label": [0, 1]})
        mlflow.log_text(json.dumps(profile), slipway_profile.PATH)
        onnx_model = to_onnx(model, train_x[:1], options={"zipmap": False}, target_opset={"": 17, "ai.onnx.ml": 3})
        logged = mlflow.onnx.log_model(
            onnx_model,
            name="model",
            signature=infer_signature(test_x, predicted),
            registered_model_name=options.name,
            save_as_external_data=False,
            onnx_execution_providers=["CPUExecutionProvider"],
            pip_requirements=["onnx", "onnxruntime"],
        )
    print(f"registered {options.name} version {logged.registered_model_version}")


if __name__ == "__main__":
    main()
