"""Trains a classifier on a table, logs it to MLflow and registers it as an ONNX model.

    MLFLOW_TRACKING_URI=http://127.0.0.1:5000 python train.py --data-set breast_cancer --model-name cancer
    MLFLOW_TRACKING_URI=http://127.0.0.1:5000 python train.py --data-set people.csv --label income --model-name income

As a job of Slipway's launcher it survives the loss of its process: after every epoch it writes `<epoch>.tmp/` in
SLIPWAY_CHECKPOINT_DIR and renames it to `<epoch>/`, which tells the agent that the checkpoint is whole. The next attempt
resumes from the newest one, in the same MLflow run. On SIGTERM it finishes the epoch's checkpoint and exits with 143.
docs/training.md explains other ways to write checkpoints.

The last line of its output, and `result.json`, name the registered version:

    {"model": "cancer", "version": "1", "run_id": "…", "accuracy": 0.97}
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np

import slipway_profile
import tables

# Imports that take a second or more (mlflow, scikit-learn, skl2onnx) stand where they are needed, so that a wrong
# argument is refused at once and a resumed attempt is soon back at work.

BATCH_ROWS = 32
# A small table is passed several times in an epoch, so that a few epochs are enough for any table.
MIN_UPDATES_PER_EPOCH = 150
# A low-quality model takes the fewest columns that reach this share of what all columns reach.
LOW_QUALITY_SHARE = 0.93
# This share of the extra rows is kept back to measure the accuracy on them.
EXTRA_TEST_SHARE = 0.2
# The ONNX model must answer as the trained one on at least this share of the rows compared.
MIN_ONNX_AGREEMENT = 0.99
ONNX_CHECK_ROWS = 200
TARGET_OPSET = {"": 17, "ai.onnx.ml": 3}
# The log of a job needs no hints about git or a web page, and no usage data leaves the machine.
QUIET = {
    "GIT_PYTHON_REFRESH": "quiet", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_DISABLE_TELEMETRY": "true",
}
EXIT_TERMINATED = 128 + signal.SIGTERM

stop_requested = threading.Event()


class Terminated(Exception):
    """SIGTERM came; everything worth keeping is in the newest checkpoint."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-set", required=True, help=f"a CSV file, or one of {', '.join(tables.BUILT_IN)}")
    parser.add_argument("--label", help="the column to predict (CSV only)")
    parser.add_argument("--model-name", required=True, help="registered model that gets the new version")
    parser.add_argument("--experiment", default="training")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quality", choices=["low", "high"], default="high",
                        help="low: a linear model of few columns; high: a neural network of all columns")
    parser.add_argument("--shuffle-labels", action="store_true",
                        help="train on random labels: a model that must not go live")
    parser.add_argument("--extra-data", "--rows-from", metavar="CSV", dest="extra_data",
                        help="recent labelled rows to train on as well, as prepare.py writes them (recent.csv)")
    parser.add_argument("--alias", help="alias that is set on the new version")
    parser.add_argument("--sleep-per-epoch", type=float, default=0.0, metavar="S", help="pause after each epoch")
    parser.add_argument("--tracking-uri", default=os.environ.get("MLFLOW_TRACKING_URI"))
    parser.add_argument("--checkpoint-dir", default=os.environ.get("SLIPWAY_CHECKPOINT_DIR"))
    arguments = parser.parse_args()
    if arguments.epochs < 1:
        parser.error("--epochs must be at least 1")
    if arguments.sleep_per_epoch < 0:
        parser.error("--sleep-per-epoch must not be negative")
    if not arguments.tracking_uri:
        parser.error("set MLFLOW_TRACKING_URI (or --tracking-uri) to the registry, for example http://127.0.0.1:5000")
    return arguments


class Data:
    """The rows to train on, to test on, and those that the profile describes."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.table = table = tables.load(arguments.data_set, arguments.label)
        parts = tables.split(table)
        self.train_x, self.train_y = table.features[parts.train], table.labels[parts.train]
        self.test_x, self.test_y = table.features[parts.live], table.labels[parts.live]
        self.profile_x = self.train_x
        self.extra_test_x = self.extra_test_y = None
        self.digest = table.digest
        if arguments.extra_data:
            self._add(*tables.load_encoded(arguments.extra_data, table))
        if arguments.shuffle_labels:
            # Drawn evenly, so that the model is bad on a table with one frequent class as well.
            self.train_y = np.random.default_rng(arguments.seed).integers(0, table.class_count, len(self.train_y))

    def _add(self, features: np.ndarray, labels: np.ndarray) -> None:
        self.digest = hashlib.sha256(self.digest.encode() + features.tobytes() + labels.tobytes()).hexdigest()[:32]
        tested = max(1, round(len(labels) * EXTRA_TEST_SHARE)) if len(labels) > 4 else 0
        order = np.random.default_rng(tables.SPLIT_SEED).permutation(len(labels))
        kept = order[tested:]
        if tested:
            self.extra_test_x, self.extra_test_y = features[order[:tested]], labels[order[:tested]]
        # Live traffic looks like the recent rows now: they weigh as much as the older ones, and the profile is theirs.
        kept = np.tile(kept, max(1, round(len(self.train_y) / len(kept))))
        self.train_x = np.concatenate([self.train_x, features[kept]])
        self.train_y = np.concatenate([self.train_y, labels[kept]])
        self.profile_x = features


class Model:
    """Fixed steps (impute, scale, select), and a classifier that is trained epoch by epoch."""

    def __init__(self, data: Data, quality: str, seed: int) -> None:
        from sklearn.feature_selection import SelectKBest
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import SGDClassifier
        from sklearn.neural_network import MLPClassifier
        from sklearn.preprocessing import StandardScaler

        self.classes = np.arange(data.table.class_count)
        impute = SimpleImputer(strategy="median", keep_empty_features=True)
        self.steps = [("impute", impute), ("scale", StandardScaler())]
        features = data.train_x
        for _, step in self.steps:
            features = step.fit_transform(features).astype(np.float32)
        self.columns = features.shape[1]
        if quality == "low":
            self.columns = fewest_columns(features, data.train_y)
            if self.columns < features.shape[1]:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # a constant column has no score and is not taken
                    self.steps.append(("select", SelectKBest(k=self.columns).fit(features, data.train_y)))
            self.classifier = SGDClassifier(loss="log_loss", alpha=0.001, random_state=seed)
        else:
            self.classifier = MLPClassifier((32,), batch_size=BATCH_ROWS, learning_rate_init=0.002, alpha=0.1,
                                            random_state=seed)

    def train_epoch(self, data: Data) -> None:
        features = data.train_x
        for _, step in self.steps:
            features = step.transform(features)
        passes = max(1, round(MIN_UPDATES_PER_EPOCH * BATCH_ROWS / len(features)))
        for _ in range(passes):
            self.classifier.partial_fit(features, data.train_y, classes=self.classes)

    def pipeline(self):
        from sklearn.pipeline import Pipeline

        return Pipeline([*self.steps, ("classify", self.classifier)])


def fewest_columns(features: np.ndarray, labels: np.ndarray) -> int:
    """How many of the most telling columns are enough for a simple model."""
    from sklearn.feature_selection import SelectKBest
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline

    def accuracy(columns: int) -> float:
        model = make_pipeline(SelectKBest(k=columns), LogisticRegression(max_iter=300))
        return float(cross_val_score(model, features[:2000], labels[:2000], cv=3).mean())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant columns, classes with fewer rows than folds
        enough = LOW_QUALITY_SHARE * accuracy(features.shape[1])
        # skl2onnx takes a choice of the first column alone for a choice of none.
        columns = 2
        while columns < features.shape[1] and not accuracy(columns) >= enough:
            columns += max(1, columns // 4)
    return min(columns, features.shape[1])


def fingerprint(arguments: argparse.Namespace, data: Data) -> str:
    """What a checkpoint must agree with to be gone on from."""
    return json.dumps([data.digest, arguments.quality, arguments.seed, arguments.shuffle_labels, arguments.model_name])


def save_checkpoint(folder: str | None, step: int, state: dict) -> None:
    """Writes `<folder>/<step>/`, complete or not at all: it gets its name when it is whole."""
    if folder is None:
        return
    unfinished, finished = Path(folder, f"{step}.tmp"), Path(folder, str(step))
    unfinished.mkdir(parents=True, exist_ok=True)
    with open(unfinished / "state.pickle", "wb") as handle:
        pickle.dump(state, handle)
        handle.flush()
        os.fsync(handle.fileno())
    (unfinished / "state.json").write_text(json.dumps({"step": step, "run_id": state["run_id"]}))
    os.rename(unfinished, finished)


def load_checkpoint(folder: str | None, expected: str) -> tuple[int, dict | None]:
    """The newest checkpoint: its step and state."""
    if folder is None or not os.path.isdir(folder):
        return 0, None
    steps = [int(entry.name) for entry in os.scandir(folder) if entry.name.isdecimal() and entry.is_dir()]
    if not steps:
        return 0, None
    newest = max(steps)
    # A checkpoint is this script's own file; never unpickle one from somewhere else.
    with open(Path(folder, str(newest), "state.pickle"), "rb") as handle:
        state = pickle.load(handle)
    if state["fingerprint"] != expected:
        print(f"the checkpoint of step {newest} belongs to other data or options: starting from the beginning", flush=True)
        return 0, None
    return newest, state


def train(arguments: argparse.Namespace, data: Data, run_id: str, step: int, state: dict | None) -> Model:
    """Trains from `step` to the last epoch, with a checkpoint after each."""
    import mlflow
    from sklearn.metrics import log_loss

    model = state["model"] if state else Model(data, arguments.quality, arguments.seed)
    mlflow.log_param("columns", model.columns)
    for epoch in range(step + 1, arguments.epochs + 1):
        started = time.monotonic()
        model.train_epoch(data)
        pipeline = model.pipeline()
        metrics = {
            "loss": float(log_loss(data.train_y, pipeline.predict_proba(data.train_x), labels=model.classes)),
            "train_accuracy": float(pipeline.score(data.train_x, data.train_y)),
            "accuracy": float(pipeline.score(data.test_x, data.test_y)),
        }
        if data.extra_test_x is not None:
            metrics["recent_accuracy"] = float(pipeline.score(data.extra_test_x, data.extra_test_y))
        mlflow.log_metrics(metrics, step=epoch)
        state = {"model": model, "run_id": run_id, "fingerprint": fingerprint(arguments, data)}
        save_checkpoint(arguments.checkpoint_dir, epoch, state)
        shown = " ".join(f"{key}={value:.4f}" for key, value in metrics.items())
        print(f"epoch {epoch}/{arguments.epochs} {shown} ({time.monotonic() - started:.2f} s)", flush=True)
        if stop_requested.is_set() or (epoch < arguments.epochs and stop_requested.wait(arguments.sleep_per_epoch)):
            raise Terminated
    return model


def to_onnx(pipeline, data: Data):
    """The pipeline as ONNX: `input` FP32 [rows, columns] to `label` INT64 [rows] and `probabilities` FP32."""
    import onnx
    from onnx.reference import ReferenceEvaluator
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    model = convert_sklearn(
        pipeline,
        initial_types=[("input", FloatTensorType([None, data.train_x.shape[1]]))],
        options={id(pipeline): {"zipmap": False}},
        target_opset=TARGET_OPSET,
    )
    model = rename_outputs(model, ["label", "probabilities"])
    onnx.checker.check_model(model, full_check=True)
    rows = data.test_x[:ONNX_CHECK_ROWS]
    label, _ = ReferenceEvaluator(model).run(None, {"input": rows})
    agreement = float(np.mean(label == pipeline.predict(rows)))
    if agreement < MIN_ONNX_AGREEMENT:
        raise RuntimeError(f"the ONNX model agrees with the trained one on {agreement:.1%} of the rows only")
    return model


def rename_outputs(model, names: list[str]):
    """Gives the outputs of the graph their names; the converter has names of its own."""
    wanted = dict(zip([output.name for output in model.graph.output], names))
    for output in model.graph.output:
        output.name = wanted[output.name]
    for node in model.graph.node:
        for names_of_node in (node.input, node.output):
            for position, name in enumerate(names_of_node):
                names_of_node[position] = wanted.get(name, name)
    return model


def register(arguments: argparse.Namespace, data: Data, pipeline, run_id: str, resumed: bool) -> dict:
    """Logs the model and its documents, registers the version, sets the alias."""
    import mlflow
    import mlflow.onnx
    import onnx

    client = mlflow.MlflowClient()
    predicted = pipeline.predict(data.profile_x)
    profile = slipway_profile.profile(data.table.feature_names, data.profile_x, {"label": predicted},
                                      {"label": list(range(data.table.class_count))})
    mlflow.log_dict(profile, slipway_profile.PATH)
    mlflow.log_dict({"features": data.table.feature_names, "encodings": data.table.encodings,
                     "classes": data.table.classes}, "slipway/features.json")
    # An attempt that was lost after it had registered its version must not register another.
    known = client.search_model_versions(f"run_id = '{run_id}'") if resumed else []
    if known:
        version = str(known[0].version)
    else:
        rows = data.test_x[:5]
        outputs = {"label": pipeline.predict(rows), "probabilities": pipeline.predict_proba(rows).astype(np.float32)}
        info = mlflow.onnx.log_model(
            to_onnx(pipeline, data),
            name="model",
            signature=mlflow.models.infer_signature({"input": rows}, outputs),
            registered_model_name=arguments.model_name,
            save_as_external_data=False,
        onnx_execution_providers=["CPUExecutionProvider"],
            # Named here because finding them out would load the model in another process.
            pip_requirements=[f"onnx=={onnx.__version__}", f"numpy=={np.__version__}", "onnxruntime"],
        )
        version = str(info.registered_model_version)
    if arguments.alias:
        client.set_registered_model_alias(arguments.model_name, arguments.alias, version)
    accuracy = float(pipeline.score(data.test_x, data.test_y))
    return {"model": arguments.model_name, "version": version, "run_id": run_id, "accuracy": round(accuracy, 4)}


def describe_run(arguments: argparse.Namespace, data: Data) -> None:
    """Logs what the run is about: parameters, data set, job and code."""
    import mlflow
    import pandas as pd
    from mlflow.data.code_dataset_source import CodeDatasetSource

    mlflow.log_params({
        "data_set": data.table.name, "quality": arguments.quality, "epochs": arguments.epochs, "seed": arguments.seed,
        "shuffle_labels": arguments.shuffle_labels, "rows": len(data.train_y), "features": data.train_x.shape[1],
        "classes": data.table.class_count,
    })
    frame = pd.DataFrame(data.train_x, columns=data.table.feature_names).assign(**{"(label)": data.train_y})
    source = CodeDatasetSource({"source": data.table.source, "extra_data": arguments.extra_data or ""})
    dataset = mlflow.data.from_pandas(frame, source=source, targets="(label)", name=data.table.name, digest=data.digest)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a hint that labels are integers
        mlflow.log_input(dataset, context="training")
    folder = Path(__file__).parent
    code = b"".join((folder / name).read_bytes() for name in ("train.py", "tables.py", "slipway_profile.py"))
    tags = {
        "slipway.job_id": os.environ.get("SLIPWAY_JOB_ID"),
        "slipway.attempt": os.environ.get("SLIPWAY_ATTEMPT"),
        "slipway.code_revision": os.environ.get("SLIPWAY_CODE_REVISION", "sha256:" + hashlib.sha256(code).hexdigest()),
    }
    mlflow.set_tags({key: value for key, value in tags.items() if value})


def main() -> int:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: stop_requested.set())
    try:
        data = Data(arguments)
    except tables.TableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{data.table.name}: {len(data.train_y)} rows to train on, {len(data.test_y)} to test on, "
          f"{data.train_x.shape[1]} features, {data.table.class_count} classes", flush=True)
    step, state = load_checkpoint(arguments.checkpoint_dir, fingerprint(arguments, data))
    if state:
        print(f"resumed from step {step} of {arguments.epochs} (run {state['run_id']})", flush=True)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow

    mlflow.set_tracking_uri(arguments.tracking_uri)
    mlflow.set_experiment(arguments.experiment)
    run_name = os.environ.get("SLIPWAY_JOB_NAME") or f"{arguments.model_name}-{arguments.quality}"
    run = mlflow.start_run(run_id=state["run_id"]) if state else mlflow.start_run(run_name=run_name)
    run_id = run.info.run_id
    try:
        describe_run(arguments, data)
        pipeline = train(arguments, data, run_id, step, state).pipeline()
        result = register(arguments, data, pipeline, run_id, resumed=state is not None)
        mlflow.end_run()
    except Terminated:
        mlflow.end_run("KILLED")
        print("stopped by SIGTERM; the newest checkpoint is complete", flush=True)
        return EXIT_TERMINATED
    except BaseException:
        mlflow.end_run("FAILED")
        raise
    Path("result.json").write_text(json.dumps(result) + "\n")
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
