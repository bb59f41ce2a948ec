"""Scans: what `log_model` of the usual flavors writes is safe, and code is not."""

from __future__ import annotations

import mlflow
import numpy as np
import pandas as pd
import requests
from mlflow.models import infer_signature

from checks import Skip, equal
from mlflow_checks.context import Context, check

DATA = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0] * 5, "b": [1.0, 0.0, np.nan, 0.0] * 5}).fillna({"b": 0.5})
LABELS = np.array([0, 1, 0, 1] * 5)
REQUIREMENTS = {"pip_requirements": ["scikit-learn", "numpy>=1.0"]}


class Answers(mlflow.pyfunc.PythonModel):
    """A model of the user's own class."""

    def predict(self, context, model_input):
        return model_input


def scan(context: Context, flavor: str, **arguments: object) -> tuple[str, str]:
    """Registers what the flavor logs, and answers with the verdict and whether it carries code."""
    name = f"scan-{context.suffix}"
    with mlflow.start_run(experiment_id=context.experiment_id):
        logged = getattr(mlflow, flavor).log_model(name="model", registered_model_name=name, **arguments, **REQUIREMENTS)
    version = logged.registered_model_version
    answer = requests.get(f"{mlflow.get_tracking_uri()}/api/v1/models/{name}/versions/{version}", timeout=60)
    if answer.status_code == 404:
        raise Skip("the server does not scan models")
    answer.raise_for_status()
    return answer.json()["scan_verdict"], answer.json()["loader_code"]


@check("scans: models of scikit-learn, XGBoost, LightGBM and ONNX are safe")
def ordinary_models(context: Context) -> None:
    import lightgbm
    import xgboost
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(DATA, LABELS)
    trees = xgboost.XGBClassifier(n_estimators=3).fit(DATA, LABELS)
    leaves = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(DATA, LABELS)
    example = DATA.head(3).copy()
    example.loc[0, "a"] = np.nan
    common = {"signature": infer_signature(DATA, LABELS), "input_example": example}
    verdicts = {
        **{f"sklearn as {form}": scan(context, "sklearn", sk_model=pipeline, serialization_format=form, **common)
           for form in ("pickle", "cloudpickle")},
        **{f"xgboost as {form}": scan(context, "xgboost", xgb_model=trees, model_format=form, **common)
           for form in ("ubj", "json")},
        "xgboost booster": scan(context, "xgboost", xgb_model=trees.get_booster()),
        "lightgbm": scan(context, "lightgbm", lgb_model=leaves, **common),
        "lightgbm booster": scan(context, "lightgbm", lgb_model=leaves.booster_, **common),
        "onnx": scan(context, "onnx", onnx_model=onnx_model(context), metadata={"team": "x", "owners": ["a", "b"]}),
    }
    equal({what: found for what, found in verdicts.items() if found != ("safe", "none")}, {})


@check("scans: code of the user is not safe")
def code(context: Context) -> None:
    module = context.folder / "loader_of_mine.py"
    module.write_text("def _load_pyfunc(path):\n    return None\n")
    as_code = context.folder / "as_code.py"
    as_code.write_text(
        "import mlflow\n\nclass Model(mlflow.pyfunc.PythonModel):\n    def predict(self, context, model_input):\n"
        "        return model_input\n\nmlflow.models.set_model(Model())\n"
    )
    equal(scan(context, "onnx", onnx_model=onnx_model(context), code_paths=[str(module)]), ("unverified", "present"))
    equal(scan(context, "pyfunc", loader_module="loader_of_mine", code_paths=[str(module)]), ("unverified", "present"))
    equal(scan(context, "pyfunc", python_model=str(as_code)), ("unverified", "present"))
    equal(scan(context, "pyfunc", python_model=Answers()), ("unsafe", "present"))


def onnx_model(context: Context):
    import onnx

    return onnx.load_from_string(context.onnx_bytes)
