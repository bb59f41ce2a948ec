"""MLflow as one writes it in a notebook: a run, an ONNX model with a signature, a version, an alias, and back again.

    python mlflow_quickstart.py http://127.0.0.1:5000
"""

import sys
import tempfile
from pathlib import Path

import mlflow
import mlflow.onnx
import numpy as np
from mlflow.models import infer_signature
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

mlflow.set_tracking_uri(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:5000")
mlflow.set_experiment("quickstart")

features, labels = load_iris(return_X_y=True)
features = features.astype(np.float32)
train_x, test_x, train_y, test_y = train_test_split(features, labels, random_state=0)

with mlflow.start_run(run_name="logistic regression") as run:
    mlflow.log_params({"C": 0.5, "solver": "lbfgs"})
    model = LogisticRegression(C=0.5, max_iter=500).fit(train_x, train_y)
    for step, rows in enumerate([20, 50, len(train_x)]):
        mlflow.log_metric("accuracy", model.score(train_x[:rows], train_y[:rows]), step=step)
    mlflow.log_metric("test_accuracy", model.score(test_x, test_y))
    mlflow.log_text("petals matter most\n", "notes/remarks.txt")

    onnx_model = to_onnx(model, train_x[:1], options={"zipmap": False}, target_opset={"": 17, "ai.onnx.ml": 3})
    logged = mlflow.onnx.log_model(
        onnx_model,
        name="model",
        signature=infer_signature(test_x, model.predict(test_x)),
        registered_model_name="quickstart",
        save_as_external_data=False,
        onnx_execution_providers=["CPUExecutionProvider"],
        pip_requirements=["onnx", "onnxruntime"],
    )

version = logged.registered_model_version
client = mlflow.MlflowClient()
client.set_registered_model_alias("quickstart", "champion", version)
print(f"registered quickstart version {version}, now @champion")

# Everything comes back: the text byte for byte, the model byte for byte, and the same answers.
assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notes/remarks.txt") == "petals matter most\n"
assert client.get_model_version_by_alias("quickstart", "champion").version == str(version)
with tempfile.TemporaryDirectory() as folder:
    downloaded = Path(mlflow.artifacts.download_artifacts("models:/quickstart@champion", dst_path=folder))
    assert (downloaded / "model.onnx").read_bytes() == onnx_model.SerializeToString()
loaded = mlflow.pyfunc.load_model("models:/quickstart@champion")
answers = next(iter(loaded.predict(test_x).values()))
assert np.array_equal(answers, model.predict(test_x))
best = mlflow.search_runs(experiment_names=["quickstart"], order_by=["metrics.test_accuracy DESC"], max_results=1)
print(f"the loaded model answers as the trained one; best run so far: {best.run_id[0]} "
      f"({best['metrics.test_accuracy'][0]:.3f})")
