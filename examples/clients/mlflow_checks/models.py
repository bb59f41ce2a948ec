"""Models: logging, registering, finding and loading them; aliases, tags, stages, deletion."""

from __future__ import annotations

from pathlib import Path

import mlflow
import mlflow.onnx
import mlflow.sklearn
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from checks import equal, raises
from mlflow_checks.context import Context, check

FEATURES, LABELS = load_iris(return_X_y=True)
FEATURES = FEATURES.astype(np.float32)
MODEL = LogisticRegression(max_iter=500).fit(FEATURES, LABELS)
SIGNATURE = infer_signature(FEATURES, MODEL.predict(FEATURES))


@check("onnx.log_model: signature, registered as version 1, lineage to its run")
def onnx_log_model(context: Context) -> None:
    model = to_onnx(MODEL, FEATURES[:1], options={"zipmap": False}, target_opset={"": 17, "ai.onnx.ml": 3})
    context.onnx_bytes = model.SerializeToString()
    with mlflow.start_run(run_name="trains the model") as run:
        mlflow.log_metric("accuracy", MODEL.score(FEATURES, LABELS))
        mlflow.log_param("C", 1.0)
        info = mlflow.onnx.log_model(
            model, name="model", signature=SIGNATURE, registered_model_name=context.model, save_as_external_data=False,
            pip_requirements=["onnx"], onnx_execution_providers=["CPUExecutionProvider"],
        )
    context.model_run_id, context.onnx_model_id = run.info.run_id, info.model_id
    equal(str(info.registered_model_version), "1")
    version = context.client.get_model_version(context.model, "1")
    equal((version.run_id, version.status, version.current_stage), (context.model_run_id, "READY", "None"))
    logged = context.client.get_logged_model(info.model_id)
    equal((logged.source_run_id, str(logged.status)), (context.model_run_id, "READY"))
    equal([metric.key for metric in logged.metrics], ["accuracy"])
    outputs = context.client.get_run(context.model_run_id).outputs.model_outputs
    equal([output.model_id for output in outputs], [info.model_id])


@check("download a version: model.onnx byte for byte, the signature kept")
def onnx_download(context: Context) -> None:
    target = context.folder / "version 1"
    target.mkdir()
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{context.model}/1", dst_path=str(target)))
    equal((folder / "model.onnx").read_bytes() == context.onnx_bytes, True, "same bytes")
    equal(mlflow.models.get_model_info(f"models:/{context.model}/1").signature, SIGNATURE)
    assert context.client.get_model_version_download_uri(context.model, "1"), "no download uri"


@check("load_model: by version, by run, by model id, and predict")
def onnx_load(context: Context) -> None:
    by_version = mlflow.onnx.load_model(f"models:/{context.model}/1")
    equal(by_version.SerializeToString() == context.onnx_bytes, True, "same ONNX model")
    by_run, by_id = f"runs:/{context.model_run_id}/model", f"models:/{context.onnx_model_id}"
    for uri in (f"models:/{context.model}/1", by_run, by_id):
        answers = mlflow.pyfunc.load_model(uri).predict(FEATURES)
        found = next(iter(answers.values())) if isinstance(answers, dict) else np.asarray(answers)
        equal(np.array_equal(np.ravel(found), MODEL.predict(FEATURES)), True, f"answers of {uri}")


@check("sklearn.log_model: input example, the next version")
def sklearn_log_model(context: Context) -> None:
    with mlflow.start_run(run_id=context.model_run_id):
        info = mlflow.sklearn.log_model(
            MODEL, name="sklearn-model", signature=SIGNATURE, input_example=FEATURES[:2],
            registered_model_name=context.model, pip_requirements=["scikit-learn"],
        )
    equal(str(info.registered_model_version), "2")
    loaded = mlflow.pyfunc.load_model(f"models:/{context.model}/2")
    equal(np.array_equal(loaded.predict(FEATURES), MODEL.predict(FEATURES)), True, "answers")
    equal(np.asarray(loaded.input_example).shape, (2, 4))


@check("register by runs:/ and by models:/m-id")
def register_by_uri(context: Context) -> None:
    by_run = mlflow.register_model(f"runs:/{context.model_run_id}/model", context.model, tags={"by": "run"})
    equal((str(by_run.version), by_run.run_id), ("3", context.model_run_id))
    by_model = mlflow.register_model(f"models:/{context.onnx_model_id}", context.model)
    equal(str(by_model.version), "4")
    found = context.client.get_model_version(context.model, "4")
    equal(found.run_id, context.model_run_id)
    equal(context.client.get_model_version(context.model, "3").tags["by"], "run")
    loaded = mlflow.onnx.load_model(f"models:/{context.model}/4")
    equal(loaded.SerializeToString() == context.onnx_bytes, True, "same ONNX model")


@check("search_logged_models")
def search_logged_models(context: Context) -> None:
    found = context.client.search_logged_models([context.experiment_id], filter_string="name = 'model'")
    equal([model.model_id for model in found], [context.onnx_model_id])
    found = context.client.search_logged_models([context.experiment_id], filter_string="metrics.accuracy > 0.5")
    equal(context.onnx_model_id in [model.model_id for model in found], True)
    context.client.set_logged_model_tags(context.onnx_model_id, {"stage": "tried"})
    equal(context.client.get_logged_model(context.onnx_model_id).tags["stage"], "tried")
    context.client.delete_logged_model_tag(context.onnx_model_id, "stage")
    equal("stage" in context.client.get_logged_model(context.onnx_model_id).tags, False)


@check("aliases: set, resolve, move, delete, refusals")
def aliases(context: Context) -> None:
    client, name = context.client, context.model
    client.set_registered_model_alias(name, "champion", "1")
    equal(str(client.get_model_version_by_alias(name, "champion").version), "1")
    client.set_registered_model_alias(name, "champion", "4")
    equal(str(client.get_model_version_by_alias(name, "champion").version), "4")
    known = client.get_registered_model(name).aliases
    equal({alias: str(version) for alias, version in known.items()}, {"champion": "4"})
    equal(list(client.get_model_version(name, "4").aliases), ["champion"])
    equal(list(client.get_model_version(name, "1").aliases), [])
    loaded = mlflow.onnx.load_model(f"models:/{name}@champion")
    equal(loaded.SerializeToString() == context.onnx_bytes, True, "same ONNX model")
    with raises(MlflowException, code="RESOURCE_DOES_NOT_EXIST"):
        client.set_registered_model_alias(name, "champion", "99")
    for alias in ("latest", "v7", "has space"):
        with raises(MlflowException, code="INVALID_PARAMETER_VALUE"):
            client.set_registered_model_alias(name, alias, "1")
    client.delete_registered_model_alias(name, "champion")
    with raises(MlflowException, "champion", code="INVALID_PARAMETER_VALUE"):
        client.get_model_version_by_alias(name, "champion")


@check("registry tags and descriptions")
def registry_tags(context: Context) -> None:
    client, name = context.client, context.model
    client.set_registered_model_tag(name, "task", "iris")
    client.set_model_version_tag(name, "1", "validated", "yes")
    client.update_registered_model(name, description="of the check")
    client.update_model_version(name, "1", description="the first")
    model, version = client.get_registered_model(name), client.get_model_version(name, "1")
    equal((model.tags["task"], model.description), ("iris", "of the check"))
    equal((version.tags["validated"], version.description), ("yes", "the first"))
    client.delete_registered_model_tag(name, "task")
    client.delete_model_version_tag(name, "1", "validated")
    equal("task" in client.get_registered_model(name).tags, False)
    equal("validated" in client.get_model_version(name, "1").tags, False)


@check("stages and get_latest_versions")
def stages(context: Context) -> None:
    client, name = context.client, context.model
    client.transition_model_version_stage(name, "1", "Staging")
    client.transition_model_version_stage(name, "2", "Production")
    client.transition_model_version_stage(name, "3", "Production", archive_existing_versions=True)
    found = {str(v.version): v.current_stage for v in client.search_model_versions(f"name = '{name}'")}
    equal(found, {"1": "Staging", "2": "Archived", "3": "Production", "4": "None"})
    equal([str(v.version) for v in client.get_latest_versions(name, ["Production"])], ["3"])
    equal(sorted(str(v.version) for v in client.get_latest_versions(name)), ["1", "2", "3", "4"])
    with raises(MlflowException, code="INVALID_PARAMETER_VALUE"):
        client.transition_model_version_stage(name, "1", "Nowhere")


@check("search_registered_models and search_model_versions: filters, order, paging")
def search_registry(context: Context) -> None:
    client, name = context.client, context.model
    client.create_registered_model(name + "-b", tags={"kind": "empty"}, description="no version")
    found = client.search_registered_models(f"name LIKE '{name}%'", order_by=["name DESC"])
    equal([model.name for model in found], [name + "-b", name])
    found = client.search_registered_models(f"name ILIKE '{name.upper()}%' AND tags.kind = 'empty'")
    equal([model.name for model in found], [name + "-b"])
    page = client.search_registered_models(f"name LIKE '{name}%'", max_results=1)
    rest = client.search_registered_models(f"name LIKE '{name}%'", max_results=1, page_token=page.token)
    equal([model.name for model in page] + [model.name for model in rest], [name, name + "-b"])

    def versions(query: str, **options: object) -> list[str]:
        return [str(version.version) for version in client.search_model_versions(query, **options)]

    equal(versions(f"name = '{name}'", order_by=["version_number DESC"]), ["4", "3", "2", "1"])
    equal(versions(f"name = '{name}' and tags.by = 'run'"), ["3"])
    equal(versions(f"run_id = '{context.model_run_id}'", order_by=["version_number ASC"]), ["1", "2", "3", "4"])
    equal(versions(f"name = '{name}' AND version_number > 2", order_by=["version_number ASC"]), ["3", "4"])
    page = client.search_model_versions(f"name = '{name}'", max_results=3, order_by=["version_number ASC"])
    rest = client.search_model_versions(f"name = '{name}'", max_results=3, order_by=["version_number ASC"],
                                        page_token=page.token)
    equal([str(v.version) for v in [*page, *rest]], ["1", "2", "3", "4"])
    with raises(MlflowException, code="INVALID_PARAMETER_VALUE"):
        client.search_model_versions("nonsense = 'a'")


@check("logged models: a generated name, names that are refused")
def logged_model_names(context: Context) -> None:
    made = context.client.create_logged_model(context.experiment_id)
    assert len(made.name.split("-")) == 3, made.name
    with raises(MlflowException, "cannot contain the following characters", code="INVALID_PARAMETER_VALUE"):
        context.client.create_logged_model(context.experiment_id, name="my.model")


@check("a version of a run that this server does not know")
def version_of_unknown_run(context: Context) -> None:
    client, name = context.client, context.model + "-elsewhere"
    client.create_registered_model(name)
    made = client.create_model_version(name, "runs:/run_id/model", "run_id", tags={"numeric": 12345})
    equal((made.version, made.run_id, made.tags), ("1", "run_id", {"numeric": "12345"}))
    equal(client.get_model_version_download_uri(name, "1"), "runs:/run_id/model")
    client.set_registered_model_alias(name, "test", "1")
    copied = client.copy_model_version(f"models:/{name}@test", name)
    equal((copied.version, copied.run_id), ("2", "run_id"))
    with raises(MlflowException, "must identify the resource that contains the source"):
        client.create_model_version(name, "runs:/run_id/model", "another_run")
    client.delete_registered_model(name)


@check("registry refusals: taken name, unknown model, unknown version")
def registry_errors(context: Context) -> None:
    client, name = context.client, context.model
    with raises(MlflowException, name, "already exists", code="RESOURCE_ALREADY_EXISTS"):
        client.create_registered_model(name)
    with raises(MlflowException, "no-such-model", code="RESOURCE_DOES_NOT_EXIST"):
        client.get_registered_model("no-such-model")
    with raises(MlflowException, code="RESOURCE_DOES_NOT_EXIST"):
        client.get_model_version(name, "99")
    with raises(MlflowException, code="RESOURCE_DOES_NOT_EXIST"):
        client.create_model_version("no-such-model", f"models:/{context.onnx_model_id}", model_id=context.onnx_model_id)
    with raises(MlflowException):
        mlflow.pyfunc.load_model(f"models:/{name}/99")
    with raises(MlflowException, code="INVALID_PARAMETER_VALUE"):
        client.create_registered_model("")


@check("registry: delete a version, rename and delete a model")
def registry_delete(context: Context) -> None:
    client, name = context.client, context.model
    client.delete_model_version(name, "2")
    with raises(MlflowException, code="RESOURCE_DOES_NOT_EXIST"):
        client.get_model_version(name, "2")
    equal(sorted(str(v.version) for v in client.search_model_versions(f"name = '{name}'")), ["1", "3", "4"])
    again = client.create_model_version(name, f"models:/{context.onnx_model_id}", model_id=context.onnx_model_id)
    equal(str(again.version), "5", "a number is never used twice")
    client.set_registered_model_alias(name, "kept", "1")
    client.rename_registered_model(name, name + "-renamed")
    equal(str(client.get_model_version_by_alias(name + "-renamed", "kept").version), "1")
    with raises(MlflowException, code="RESOURCE_DOES_NOT_EXIST"):
        client.get_registered_model(name)
    for victim in (name + "-renamed", name + "-b"):
        client.delete_registered_model(victim)
        with raises(MlflowException, code="RESOURCE_DOES_NOT_EXIST"):
            client.get_registered_model(victim)
    equal(list(client.search_registered_models(f"name LIKE '{name}%'")), [])
    # The run and its files outlive the model's name.
    loaded = mlflow.onnx.load_model(f"models:/{context.onnx_model_id}")
    equal(loaded.SerializeToString() == context.onnx_bytes, True, "same ONNX model")


@check("sklearn.autolog: parameters, metrics, the model and its data set, without a line of logging")
def sklearn_autolog(context: Context) -> None:
    features = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.9], [0.8, 0.1]] * 10, dtype=np.float32)
    labels = np.array([0, 1, 0, 1] * 10)
    mlflow.sklearn.autolog(silent=True)
    try:
        with mlflow.start_run(experiment_id=context.experiment_id) as run:
            LogisticRegression(C=0.5).fit(features, labels)
    finally:
        mlflow.sklearn.autolog(disable=True)
    found = context.client.get_run(run.info.run_id)
    equal((found.data.params["C"], found.info.status), ("0.5", "FINISHED"))
    equal(found.data.metrics["training_accuracy_score"], 1.0)
    assert found.inputs.dataset_inputs, "the data set that it was trained on"
    assert found.outputs.model_outputs, "the model that came out"
    model = mlflow.sklearn.load_model(f"models:/{found.outputs.model_outputs[0].model_id}")
    equal(model.predict(features[:2]).tolist(), [0, 1])
