"""Experiments, runs, params, metrics, tags, data sets, and the search for them."""

from __future__ import annotations

import math
import time
import warnings

import mlflow
import numpy as np
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

from checks import equal, raises
from mlflow_checks.context import Context, check

BIGGEST_DOUBLE = 1.7976931348623157e308


@check("experiment: create, get, refuse a second of the same name")
def experiment_create(context: Context) -> None:
    client = context.client
    context.experiment_id = client.create_experiment(context.experiment, tags={"team": "check"})
    found = client.get_experiment(context.experiment_id)
    equal((found.name, found.lifecycle_stage, found.tags.get("team")), (context.experiment, "active", "check"))
    equal(client.get_experiment_by_name(context.experiment).experiment_id, context.experiment_id)
    equal(client.get_experiment_by_name("no such " + context.suffix), None)
    with raises(MlflowException, "already exists", code="RESOURCE_ALREADY_EXISTS"):
        client.create_experiment(context.experiment)
    with raises(MlflowException, code="RESOURCE_DOES_NOT_EXIST"):
        client.get_experiment("987654321")


@check("experiment: tags, rename, search with paging")
def experiment_search(context: Context) -> None:
    client = context.client
    client.set_experiment_tag(context.experiment_id, "suffix", context.suffix)
    other = client.create_experiment(context.experiment + " b", tags={"suffix": context.suffix})
    query = f"tags.suffix = '{context.suffix}'"
    page = client.search_experiments(filter_string=query, order_by=["name ASC"], max_results=1)
    equal([one.experiment_id for one in page], [context.experiment_id])
    page = client.search_experiments(filter_string=query, order_by=["name ASC"], max_results=1, page_token=page.token)
    equal([one.experiment_id for one in page], [other])
    found = client.search_experiments(filter_string=f"name LIKE 'check experiment {context.suffix}%'")
    equal({one.experiment_id for one in found}, {context.experiment_id, other})
    client.rename_experiment(other, context.experiment + " renamed")
    equal(client.get_experiment(other).name, context.experiment + " renamed")
    client.delete_experiment_tag(context.experiment_id, "suffix")
    equal("suffix" in client.get_experiment(context.experiment_id).tags, False)


@check("experiment: delete, restore")
def experiment_delete(context: Context) -> None:
    client = context.client
    victim = client.create_experiment(context.experiment + " victim")
    run = client.create_run(victim)
    client.delete_experiment(victim)
    equal(client.get_experiment(victim).lifecycle_stage, "deleted")
    equal([one for one in client.search_experiments() if one.experiment_id == victim], [])
    deleted = client.search_experiments(ViewType.DELETED_ONLY, filter_string=f"name = '{context.experiment} victim'")
    equal([one.experiment_id for one in deleted], [victim])
    equal(client.get_run(run.info.run_id).info.lifecycle_stage, "deleted")
    with raises(MlflowException):
        client.create_run(victim)
    client.restore_experiment(victim)
    equal(client.get_experiment(victim).lifecycle_stage, "active")
    equal(client.get_run(run.info.run_id).info.lifecycle_stage, "active")


@check("run: start, end, name, status, tags")
def run_lifecycle(context: Context) -> None:
    mlflow.set_experiment(context.experiment)
    with mlflow.start_run(run_name="first run", tags={"kind": "check"}, description="a note") as run:
        context.run_id = run.info.run_id
        equal(context.client.get_run(context.run_id).info.status, "RUNNING")
        mlflow.set_tag("color", "blüe")
    found = context.client.get_run(context.run_id)
    equal((found.info.status, found.info.run_name), ("FINISHED", "first run"))
    equal(found.info.experiment_id, context.experiment_id)
    assert found.info.end_time >= found.info.start_time > 0, "times"
    tags = found.data.tags
    equal((tags["kind"], tags["color"], tags["mlflow.note.content"]), ("check", "blüe", "a note"))
    equal(tags["mlflow.runName"], "first run")
    context.client.update_run(context.run_id, name="renamed run")
    found = context.client.get_run(context.run_id)
    equal((found.info.run_name, found.data.tags["mlflow.runName"]), ("renamed run", "renamed run"))
    context.client.delete_tag(context.run_id, "color")
    equal("color" in context.client.get_run(context.run_id).data.tags, False)
    with raises(MlflowException, code="RESOURCE_DOES_NOT_EXIST"):
        context.client.delete_tag(context.run_id, "color")


@check("run: generated name, nested run, failure")
def run_nested(context: Context) -> None:
    with mlflow.start_run() as parent:
        assert parent.info.run_name, "no name was generated"
        with mlflow.start_run(nested=True) as child:
            pass
    found = context.client.get_run(child.info.run_id)
    equal(found.data.tags["mlflow.parentRunId"], parent.info.run_id)
    try:
        with mlflow.start_run() as failing:
            raise KeyError("on purpose")
    except KeyError:
        pass
    equal(context.client.get_run(failing.info.run_id).info.status, "FAILED")


@check("run: deleted and restored twice")
def run_deleted_twice(context: Context) -> None:
    run = context.client.create_run(context.experiment_id, run_name="twice").info.run_id
    for change, stage in ((context.client.delete_run, "deleted"), (context.client.restore_run, "active")):
        for _ in range(2):
            change(run)
        equal(context.client.get_run(run).info.lifecycle_stage, stage)
    equal(context.client.get_run(run).outputs.model_outputs, [], "a run that made no model")


@check("run: unknown ids are named")
def run_unknown(context: Context) -> None:
    missing = "0" * 32
    with raises(MlflowException, missing, code="RESOURCE_DOES_NOT_EXIST"):
        context.client.get_run(missing)
    with raises(MlflowException, missing, code="RESOURCE_DOES_NOT_EXIST"):
        context.client.log_metric(missing, "m", 1.0)
    with raises(MlflowException, code="RESOURCE_DOES_NOT_EXIST"):
        context.client.create_run("987654321")


@check("params: log, same again, conflict, odd keys, long value")
def params(context: Context) -> None:
    client = context.client
    client.log_param(context.run_id, "alpha", 0.5)
    client.log_param(context.run_id, "alpha", 0.5)
    with raises(MlflowException, "alpha", "0.5", "0.7", code="INVALID_PARAMETER_VALUE"):
        client.log_param(context.run_id, "alpha", 0.7)
    client.log_param(context.run_id, "a/b.c-d e:f_g", "x" * 6000)
    client.log_param(context.run_id, "empty", "")
    found = client.get_run(context.run_id).data.params
    equal((found["alpha"], found["a/b.c-d e:f_g"], found["empty"]), ("0.5", "x" * 6000, ""))
    with raises(MlflowException, code="INVALID_PARAMETER_VALUE"):
        client.log_param(context.run_id, "k" * 300, 1)


@check("metrics: history, latest by step, NaN and infinities")
def metrics(context: Context) -> None:
    client = context.client
    for step, value in [(0, 3.0), (2, 1.0), (1, 2.0)]:
        client.log_metric(context.run_id, "loss", value, timestamp=1_700_000_000_000 + step, step=step)
    client.log_metric(context.run_id, "loss", 2.0, timestamp=1_700_000_000_001, step=1)
    history = client.get_metric_history(context.run_id, "loss")
    equal(sorted((m.step, m.value, m.timestamp) for m in history),
          [(0, 3.0, 1_700_000_000_000), (1, 2.0, 1_700_000_000_001), (2, 1.0, 1_700_000_000_002)])
    equal(client.get_run(context.run_id).data.metrics["loss"], 1.0)
    for key, value in [("nan", math.nan), ("inf", math.inf), ("minus", -math.inf), ("tiny", 5e-324), ("neg", -1e-7)]:
        client.log_metric(context.run_id, key, value, step=-3)
    found = client.get_run(context.run_id).data.metrics
    assert math.isnan(found["nan"]), f"NaN came back as {found['nan']}"
    assert found["inf"] in (math.inf, BIGGEST_DOUBLE), f"inf came back as {found['inf']}"
    assert found["minus"] in (-math.inf, -BIGGEST_DOUBLE), f"-inf came back as {found['minus']}"
    equal((found["tiny"], found["neg"]), (5e-324, -1e-7))
    equal(client.get_metric_history(context.run_id, "nan")[0].step, -3)
    equal(client.get_metric_history(context.run_id, "never logged"), [])


@check("log_batch: 1000 metrics, params and tags, all or nothing")
def log_batch(context: Context) -> None:
    client = context.client
    now = int(time.time() * 1000)
    many = [Metric(f"batch_{i % 10}", float(i), now, i) for i in range(900)]
    batch = [Param(f"p{i}", str(i)) for i in range(50)], [RunTag(f"t{i}", str(i)) for i in range(50)]
    client.log_batch(context.run_id, metrics=many, params=batch[0], tags=batch[1])
    found = client.get_run(context.run_id).data
    equal((found.metrics["batch_9"], found.params["p49"], found.tags["t49"]), (899.0, "49", "49"))
    equal(len(client.get_metric_history(context.run_id, "batch_0")), 90)
    with raises(MlflowException, code="INVALID_PARAMETER_VALUE"):
        client.log_batch(context.run_id, params=[Param("fresh", "1"), Param("p1", "changed")])
    equal("fresh" in client.get_run(context.run_id).data.params, False, "a refused batch left a param")


@check("dataset input")
def dataset_input(context: Context) -> None:
    from mlflow.data import from_numpy

    dataset = from_numpy(np.arange(12.0).reshape(4, 3), targets=np.array([0, 1, 0, 1]), name="tiny table")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mlflow.start_run(run_id=context.run_id):
            mlflow.log_input(dataset, context="training")
    found = context.client.get_run(context.run_id).inputs.dataset_inputs
    equal([(one.dataset.name, one.dataset.digest) for one in found], [("tiny table", dataset.digest)])
    equal([(tag.key, tag.value) for tag in found[0].tags], [("mlflow.data.context", "training")])


@check("run: delete, no writes while deleted, restore")
def run_delete(context: Context) -> None:
    client = context.client
    client.delete_run(context.run_id)
    equal(client.get_run(context.run_id).info.lifecycle_stage, "deleted")
    equal(context.run_id in [run.info.run_id for run in client.search_runs([context.experiment_id])], False)
    with raises(MlflowException, "active", code="INVALID_PARAMETER_VALUE"):
        client.log_metric(context.run_id, "late", 1.0)
    client.restore_run(context.run_id)
    equal(client.get_run(context.run_id).info.lifecycle_stage, "active")


@check("search_runs: filters, order, paging, refusals")
def search_runs(context: Context) -> None:
    client = context.client
    experiment = client.create_experiment(context.experiment + " search")
    runs = []
    for i in range(5):
        run = client.create_run(experiment, run_name=f"run-{i}", tags={"parity": "odd" if i % 2 else "even"})
        runs.append(run.info.run_id)
        client.log_metric(run.info.run_id, "score", i / 10)
        client.log_param(run.info.run_id, "depth", i)
        if i < 4:
            client.set_terminated(run.info.run_id)

    def names(query: str, **options: object) -> list[str]:
        return sorted(run.info.run_name for run in client.search_runs([experiment], query, **options))

    equal(names("metrics.score > 0.15 and tags.parity = 'even'"), ["run-2", "run-4"])
    equal(names("params.depth = '3'"), ["run-3"])
    equal(names("attributes.status = 'RUNNING'"), ["run-4"])
    equal(names("run_name LIKE 'run-%' AND params.depth != '0' AND metrics.score <= 0.2"), ["run-1", "run-2"])
    equal(names("tags.`parity` ILIKE 'ODD'"), ["run-1", "run-3"])
    equal(names(f"attributes.run_id IN ('{runs[0]}', '{runs[2]}')"), ["run-0", "run-2"])
    equal(names("tags.never = 'set'"), [])
    order = [run.info.run_name for run in client.search_runs([experiment], order_by=["metrics.score DESC"])]
    equal(order, ["run-4", "run-3", "run-2", "run-1", "run-0"])
    seen, token = [], None
    while True:
        page = client.search_runs([experiment], order_by=["metrics.score ASC"], max_results=2, page_token=token)
        seen.extend(run.info.run_name for run in page)
        token = page.token
        if not token:
            break
    equal(seen, [f"run-{i}" for i in range(5)])
    for query in ("metrics.score > 'a' OR 1", "nonsense", "params.depth > 3"):
        with raises(MlflowException, code="INVALID_PARAMETER_VALUE"):
            client.search_runs([experiment], query)
    frame = mlflow.search_runs([experiment], "metrics.score >= 0.3")
    equal(sorted(frame["params.depth"]), ["3", "4"])
