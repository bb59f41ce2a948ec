"""Exercises a deployment with NVIDIA's Triton client over HTTP and gRPC, and compares the answers.

    python check_triton_client.py --http 127.0.0.1:8000 --grpc 127.0.0.1:8001 --deployment demo --rows traffic.json

Prints `ok NAME` or `FAIL NAME: why` for each check; exits with 1 if any failed. The deployment must serve a model with
one FP32 input [rows, columns]; `--rows` is a JSON list of rows, or the traffic.json of prepare.py. Further checks run where
the deployments of the models that they need are named: `--identities` and `--brain` give every datatype back unchanged
(`<type>_in` to `<type>_out`), `--classes` gives back scores of three classes (`scores_in` to `scores`).
"""

from __future__ import annotations

import argparse
import asyncio
import queue
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from tritonclient.utils import InferenceServerException

from checks import Checks, equal, raises
from inference_data import IDENTITIES, read_rows

PATIENCE_S = 10.0

checks = Checks()
check = checks.check
# Checks of models other than the deployment, by the option that names theirs.
further: list[tuple[str, str, Callable]] = []


def check_with(option: str, name: str) -> Callable:
    """Registers a check that runs where `option` names a deployment."""

    def add(function: Callable) -> Callable:
        further.append((option, name, function))
        return function

    return add


@dataclass
class Context:
    """Both clients, the rows, and what the metadata said."""

    http: triton_http.InferenceServerClient
    grpc: triton_grpc.InferenceServerClient
    deployment: str
    rows: np.ndarray
    # Where they are, for the clients that are made in a check, and deployments of further models.
    addresses: tuple[str, str] = ("", "")
    identities: str = ""
    brain: str = ""
    classes: str = ""
    # Of the model that answered first; later requests name it, so that a rollout under way cannot mix the answers.
    version: str = ""
    input_name: str = "input"
    outputs: tuple[str, ...] = ()
    answers: tuple[np.ndarray, ...] = ()

    def infer_http(self, rows: np.ndarray, binary: bool = True, datatype: str = "FP32", **options: object):
        tensor = triton_http.InferInput(options.pop("name", self.input_name), rows.shape, datatype)
        tensor.set_data_from_numpy(rows, binary_data=binary)
        names = options.pop("wanted", self.outputs)
        wanted = [triton_http.InferRequestedOutput(name, binary_data=binary) for name in names] or None
        return self.http.infer(options.pop("model", self.deployment), [tensor], outputs=wanted, **options)

    def infer_grpc(self, rows: np.ndarray, datatype: str = "FP32", **options: object):
        tensor = triton_grpc.InferInput(options.pop("name", self.input_name), rows.shape, datatype)
        tensor.set_data_from_numpy(rows)
        names = options.pop("wanted", self.outputs)
        wanted = [triton_grpc.InferRequestedOutput(name) for name in names] or None
        return self.grpc.infer(options.pop("model", self.deployment), [tensor], outputs=wanted, **options)

    def same(self, result: object, rows: slice = slice(None)) -> None:
        """Fails unless the result has the answers of the first request."""
        for name, expected in zip(self.outputs, self.answers):
            found = result.as_numpy(name)
            equal((found.dtype, found.shape), (expected.dtype, expected[rows].shape), f"type and shape of {name}")
            if np.issubdtype(found.dtype, np.floating):
                np.testing.assert_allclose(found, expected[rows], rtol=1e-4, atol=1e-5, err_msg=name)
            else:
                equal(found.tolist(), expected[rows].tolist(), name)


@check("http: live, ready, server metadata")
def http_health(context: Context) -> None:
    equal((context.http.is_server_live(), context.http.is_server_ready()), (True, True))
    equal(context.http.is_model_ready(context.deployment), True)
    assert context.http.get_server_metadata()["name"], "the server has no name"


@check("http: model metadata")
def http_metadata(context: Context) -> None:
    found = context.http.get_model_metadata(context.deployment)
    equal(found["name"], context.deployment)
    assert found["versions"], "no version"
    equal([(one["datatype"], one["shape"]) for one in found["inputs"]], [("FP32", [-1, context.rows.shape[1]])])
    context.input_name = found["inputs"][0]["name"]
    context.outputs = tuple(one["name"] for one in found["outputs"])
    assert context.outputs, "no output"


@check("http: model config")
def http_config(context: Context) -> None:
    config = context.http.get_model_config(context.deployment)
    equal(config["name"], context.deployment)
    equal([(one["name"], one["data_type"]) for one in config["input"]], [(context.input_name, "TYPE_FP32")])
    equal([one["name"] for one in config["output"]], list(context.outputs))


@check("http: binary infer, request id, version")
def http_binary(context: Context) -> None:
    result = context.infer_http(context.rows, request_id="check-1")
    response = result.get_response()
    equal((response["model_name"], response["id"]), (context.deployment, "check-1"))
    context.version = response["model_version"]
    assert context.version, "the answer does not name its version"
    context.answers = tuple(result.as_numpy(name) for name in context.outputs)
    for name, answer in zip(context.outputs, context.answers):
        equal(answer.shape[0], len(context.rows), f"rows of {name}")


@check("http: JSON infer gives the same")
def http_json(context: Context) -> None:
    if np.isnan(context.rows).any():
        finite = np.nan_to_num(context.rows)
        binary = context.infer_http(finite, model_version=context.version)
        text = context.infer_http(finite, binary=False, model_version=context.version)
        for name in context.outputs:
            np.testing.assert_allclose(text.as_numpy(name), binary.as_numpy(name), rtol=1e-4, atol=1e-5, err_msg=name)
        return
    context.same(context.infer_http(context.rows, binary=False, model_version=context.version))


@check("http: one row, and a chosen output only")
def http_one_row(context: Context) -> None:
    context.same(context.infer_http(context.rows[:1], model_version=context.version), slice(1))
    result = context.infer_http(context.rows[:2], wanted=context.outputs[:1])
    equal([one["name"] for one in result.get_response()["outputs"]], [context.outputs[0]])


@check("http: every output when none is asked for; compressed bodies")
def http_defaults(context: Context) -> None:
    result = context.infer_http(context.rows, wanted=(), model_version=context.version)
    context.same(result)
    for algorithm in ("gzip", "deflate"):
        compressed = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
        context.same(context.infer_http(context.rows, model_version=context.version, **compressed))


@check("http: requests at once")
def http_concurrent(context: Context) -> None:
    tensor = triton_http.InferInput(context.input_name, context.rows.shape, "FP32")
    tensor.set_data_from_numpy(context.rows)
    pending = [context.http.async_infer(context.deployment, [tensor], model_version=context.version) for _ in range(16)]
    for one in pending:
        context.same(one.get_result())


@check("http: refusals name what is wrong")
def http_errors(context: Context) -> None:
    refusals(context, context.infer_http)


@check("grpc: live, ready, metadata, config")
def grpc_metadata(context: Context) -> None:
    equal((context.grpc.is_server_live(), context.grpc.is_server_ready()), (True, True))
    equal(context.grpc.is_model_ready(context.deployment), True)
    found = context.grpc.get_model_metadata(context.deployment)
    equal(found.name, context.deployment)
    equal((found.inputs[0].name, found.inputs[0].datatype), (context.input_name, "FP32"))
    equal(tuple(one.name for one in found.outputs), context.outputs)
    equal(list(found.inputs[0].shape), [-1, context.rows.shape[1]])
    equal(context.grpc.get_model_config(context.deployment).config.name, context.deployment)
    assert context.grpc.get_server_metadata().name, "the server has no name"


@check("grpc: infer gives the same as http")
def grpc_infer(context: Context) -> None:
    result = context.infer_grpc(context.rows, request_id="check-2", model_version=context.version)
    response = result.get_response()
    equal((response.model_name, response.model_version, response.id), (context.deployment, context.version, "check-2"))
    context.same(result)
    context.same(context.infer_grpc(context.rows[:1], wanted=(), model_version=context.version), slice(1))


@check("grpc: refusals name what is wrong")
def grpc_errors(context: Context) -> None:
    refusals(context, context.infer_grpc)


def refusals(context: Context, infer: object) -> None:
    """What a server must refuse, over either protocol; it must still answer afterwards."""
    rows, name = context.rows[:2], context.input_name
    with raises(InferenceServerException, name):
        infer(np.hstack([rows, rows[:, :1]]), model_version=context.version)
    with raises(InferenceServerException, name):
        infer(rows[0], model_version=context.version)
    with raises(InferenceServerException, name):
        infer(rows.astype(np.int64), datatype="INT64", model_version=context.version)
    with raises(InferenceServerException, "no-such-input"):
        infer(rows, name="no-such-input", model_version=context.version)
    with raises(InferenceServerException, "no-such-output"):
        infer(rows, wanted=("no-such-output",), model_version=context.version)
    with raises(InferenceServerException, "no-such-model"):
        infer(rows, model="no-such-model")
    with raises(InferenceServerException, "999999"):
        infer(rows, model_version="999999")
    context.same(infer(rows, model_version=context.version), slice(2))


@check("http: statistics count what was asked")
def http_statistics(context: Context) -> None:
    def counted() -> tuple[int, int, int]:
        found = context.http.get_inference_statistics(context.deployment, context.version)["model_stats"]
        equal([(one["name"], one["version"]) for one in found], [(context.deployment, context.version)])
        sizes = {one["batch_size"]: one["compute_infer"]["count"] for one in found[0]["batch_stats"]}
        times = found[0]["inference_stats"]
        for part in ("queue", "compute_input", "compute_infer", "compute_output"):
            equal(times[part]["count"], times["success"]["count"], part)
        return found[0]["inference_count"], times["success"]["count"], sizes.get(2, 0)

    before = counted()
    context.infer_http(context.rows[:2], model_version=context.version)
    after = counted()
    # Other clients may send requests, too.
    assert all(late >= early + more for early, late, more in zip(before, after, (2, 1, 1))), f"{before}, then {after}"
    assert context.http.get_inference_statistics()["model_stats"], "no statistics of all models"
    with raises(InferenceServerException, "no-such-model"):
        context.http.get_inference_statistics("no-such-model")


@check("http: repository index; load and unload say who decides")
def http_repository(context: Context) -> None:
    index = context.http.get_model_repository_index()
    states = {one["state"] for one in index if one["name"] == context.deployment and one["version"] == context.version}
    equal(states, {"READY"})
    repository(context, context.http)


@check("http: log and trace settings, shared memory")
def http_settings(context: Context) -> None:
    log = context.http.get_log_settings()
    equal(context.http.update_log_settings(log), log, "an update that changes nothing")
    verbose = context.http.update_log_settings({"log_verbose_level": 1})
    equal(verbose["log_verbose_level"], 1)
    equal(context.http.update_log_settings({"log_verbose_level": log["log_verbose_level"]}), log)
    with raises(InferenceServerException, "log_file"):
        context.http.update_log_settings({"log_file": "/tmp/log"})
    trace = context.http.get_trace_settings()
    assert trace["trace_level"] in (["OFF"], ["TIMESTAMPS"]), trace
    equal(context.http.update_trace_settings(context.deployment, {"trace_rate": None}), trace)
    with raises(InferenceServerException, "trace_file"):
        context.http.update_trace_settings(settings={"trace_file": "/tmp/trace.json"})
    equal((context.http.get_system_shared_memory_status(), context.http.get_cuda_shared_memory_status()), ([], []))
    shared_memory(context.http)


@check("grpc: statistics, repository index, load and unload")
def grpc_repository(context: Context) -> None:
    found = context.grpc.get_inference_statistics(context.deployment, context.version).model_stats
    equal([(one.name, one.version) for one in found], [(context.deployment, context.version)])
    times = found[0].inference_stats
    assert times.compute_infer.ns > 0 and found[0].batch_stats, found
    index = context.grpc.get_model_repository_index().models
    equal({one.state for one in index if (one.name, one.version) == (context.deployment, context.version)}, {"READY"})
    repository(context, context.grpc)


@check("grpc: log and trace settings, shared memory")
def grpc_settings(context: Context) -> None:
    log = context.grpc.get_log_settings(as_json=True)["settings"]
    verbose = log["log_verbose_level"].get("uint32_param", 0)
    equal(context.grpc.update_log_settings({"log_verbose_level": verbose}, as_json=True)["settings"], log)
    with raises(InferenceServerException, "log_file"):
        context.grpc.update_log_settings({"log_file": "/tmp/log"})
    trace = context.grpc.get_trace_settings(as_json=True)["settings"]
    equal(context.grpc.update_trace_settings(context.deployment, {"trace_rate": None}, as_json=True)["settings"], trace)
    with raises(InferenceServerException, "trace_file"):
        context.grpc.update_trace_settings(settings={"trace_file": "/tmp/trace.json"})
    equal(len(context.grpc.get_system_shared_memory_status().regions), 0)
    shared_memory(context.grpc)


def repository(context: Context, client: object) -> None:
    client.load_model(context.deployment)
    with raises(InferenceServerException, "registry"):
        client.load_model(context.deployment, config="{}")
    with raises(InferenceServerException, "no-such-model"):
        client.load_model("no-such-model")
    with raises(InferenceServerException, "rollout controller"):
        client.unload_model(context.deployment)
    client.unload_model("no-such-model")
    equal(client.is_model_ready(context.deployment), True)


def shared_memory(client: object) -> None:
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    with raises(InferenceServerException, "shared memory is not supported"):
        client.register_system_shared_memory("region", "/region", 8)


@check("grpc: requests at once; compressed")
def grpc_concurrent(context: Context) -> None:
    answers: queue.Queue = queue.Queue()
    tensor = grpc_input(context)
    for _ in range(16):
        take = lambda result, error: answers.put(error or result)
        context.grpc.async_infer(context.deployment, [tensor], take, model_version=context.version)
    for _ in range(16):
        context.same(answers.get(timeout=PATIENCE_S))
    for algorithm in ("gzip", "deflate"):
        context.same(context.infer_grpc(context.rows, model_version=context.version, compression_algorithm=algorithm))


@check("grpc: a stream is answered in order and outlives a bad request")
def grpc_stream(context: Context) -> None:
    answers: queue.Queue = queue.Queue()
    context.grpc.start_stream(lambda result, error: answers.put(error or result))
    try:
        for at in range(20):
            name = "no-such-input" if at == 7 else context.input_name
            tensor = grpc_input(context, name)
            context.grpc.async_stream_infer(
                context.deployment, [tensor], model_version=context.version, request_id=str(at)
            )
        for at in range(20):
            answer = answers.get(timeout=PATIENCE_S)
            if at == 7:
                assert isinstance(answer, InferenceServerException), f"the bad request was answered: {answer}"
                assert "no-such-input" in str(answer), answer
                continue
            context.same(answer)
            response = answer.get_response()
            equal((response.id, response.parameters["triton_final_response"].bool_param), (str(at), True))
    finally:
        context.grpc.stop_stream()


@check("http: asyncio client")
def http_asyncio(context: Context) -> None:
    async def run() -> None:
        async with triton_http_aio.InferenceServerClient(context.addresses[0]) as client:
            equal((await client.is_server_live(), await client.is_model_ready(context.deployment)), (True, True))
            tensor = triton_http.InferInput(context.input_name, context.rows.shape, "FP32")
            tensor.set_data_from_numpy(context.rows)
            ask = [client.infer(context.deployment, [tensor], model_version=context.version) for _ in range(8)]
            for answer in await asyncio.gather(*ask):
                context.same(answer)
            assert (await client.get_inference_statistics(context.deployment))["model_stats"], "no statistics"

    asyncio.run(run())


@check("grpc: asyncio client, single and streamed")
def grpc_asyncio(context: Context) -> None:
    async def run() -> None:
        async with triton_grpc_aio.InferenceServerClient(context.addresses[1]) as client:
            equal((await client.is_server_ready(), await client.is_model_ready(context.deployment)), (True, True))
            tensor = grpc_input(context)
            ask = [client.infer(context.deployment, [tensor], model_version=context.version) for _ in range(8)]
            for answer in await asyncio.gather(*ask):
                context.same(answer)

            async def requests():
                for _ in range(8):
                    yield {"model_name": context.deployment, "inputs": [tensor], "model_version": context.version}

            count = 0
            async for result, error in client.stream_infer(requests()):
                equal(error, None)
                context.same(result)
                count += 1
            equal(count, 8)

    asyncio.run(run())


def grpc_input(context: Context, name: str = "") -> triton_grpc.InferInput:
    tensor = triton_grpc.InferInput(name or context.input_name, context.rows.shape, "FP32")
    tensor.set_data_from_numpy(context.rows)
    return tensor


def identity(triton: object, client: object, deployment: str, tensors: dict, text: tuple[str, ...] = ()) -> None:
    """Fails unless every tensor comes back as it went; those of the types in `text` go as JSON."""
    inputs, outputs = [], []
    for kind, values in tensors.items():
        binary = {"binary_data": kind not in text} if triton is triton_http else {}
        inputs.append(triton.InferInput(f"{kind.lower()}_in", values.shape, kind))
        inputs[-1].set_data_from_numpy(values, **binary)
        outputs.append(triton.InferRequestedOutput(f"{kind.lower()}_out", **binary))
    result = client.infer(deployment, inputs, outputs=outputs)
    for kind, values in tensors.items():
        found = result.as_numpy(f"{kind.lower()}_out")
        if kind == "BYTES":
            texts = [one.decode() if isinstance(one, bytes) else one for one in found.tolist()]
            equal(texts, values.tolist(), kind)
        else:
            equal(found.dtype, values.dtype, kind)
            np.testing.assert_array_equal(found, values, err_msg=kind)


@check_with("identities", "http: every datatype, binary and as JSON")
def http_datatypes(context: Context) -> None:
    identity(triton_http, context.http, context.identities, IDENTITIES)
    # Half precision has no JSON form.
    text = tuple(kind for kind in IDENTITIES if kind != "FP16")
    identity(triton_http, context.http, context.identities, IDENTITIES, text)


@check_with("identities", "grpc: every datatype")
def grpc_datatypes(context: Context) -> None:
    identity(triton_grpc, context.grpc, context.identities, IDENTITIES)


@check_with("brain", "http and grpc: BF16")
def brain_floats(context: Context) -> None:
    import ml_dtypes

    tensors = {"BF16": np.array([1.0, -2.5], ml_dtypes.bfloat16)}
    identity(triton_http, context.http, context.brain, tensors)
    identity(triton_grpc, context.grpc, context.brain, tensors)


@check_with("classes", "http and grpc: classification")
def classification(context: Context) -> None:
    scores = np.array([[0.018394, 0.9, 0.5], [-1, -3, -2]], np.float32)
    expected = [[b"0.900000:1", b"0.500000:2"], [b"-1.000000:0", b"-2.000000:2"]]
    for triton, client in ((triton_http, context.http), (triton_grpc, context.grpc)):
        tensor = triton.InferInput("scores_in", scores.shape, "FP32")
        tensor.set_data_from_numpy(scores)
        wanted = [triton.InferRequestedOutput("scores", class_count=2)]
        equal(client.infer(context.classes, [tensor], outputs=wanted).as_numpy("scores").tolist(), expected)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--http", default="127.0.0.1:8000", metavar="HOST:PORT")
    parser.add_argument("--grpc", default="127.0.0.1:8001", metavar="HOST:PORT")
    parser.add_argument("--deployment", required=True)
    parser.add_argument("--rows", required=True, metavar="JSON", help="a file with rows, such as traffic.json")
    for option in ("identities", "brain", "classes"):
        parser.add_argument(f"--{option}", default="", metavar="DEPLOYMENT", help="check more with this deployment")
    parser.add_argument("--only", metavar="TEXT", help="run the checks whose name contains this")
    parser.add_argument("--verbose", action="store_true", help="show where a failed check stopped")
    arguments = parser.parse_args()
    rows = read_rows(arguments.rows)
    # A URL of the platform's list of endpoints is as good as HOST:PORT.
    http, grpc = (address.split("://")[-1].rstrip("/") for address in (arguments.http, arguments.grpc))
    with triton_http.InferenceServerClient(http, concurrency=8) as http_client, \
            triton_grpc.InferenceServerClient(grpc) as grpc_client:
        options = {option: getattr(arguments, option) for option in ("identities", "brain", "classes")}
        context = Context(http_client, grpc_client, arguments.deployment, rows, (http, grpc), **options)
        for option, name, function in further:
            if options[option]:
                check(name)(function)
        return checks.run(context, arguments.only, arguments.verbose)


if __name__ == "__main__":
    sys.exit(main())
