"""Exercises a deployment with NVIDIA's Triton client over HTTP and gRPC, and compares the answers.

    python check_triton_client.py --http 127.0.0.1:8000 --grpc 127.0.0.1:8001 --deployment demo --rows traffic.json

Prints `ok NAME` or `FAIL NAME: why` for each check; exits with 1 if any failed. The deployment must serve a model with
one FP32 input [rows, columns]; `--rows` is a JSON list of rows, or the traffic.json of prepare.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from checks import Checks, equal, raises

MAX_ROWS = 50

checks = Checks()
check = checks.check


@dataclass
class Context:
    """Both clients, the rows, and what the metadata said."""

    http: triton_http.InferenceServerClient
    grpc: triton_grpc.InferenceServerClient
    deployment: str
    rows: np.ndarray
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


def read_rows(path: str) -> np.ndarray:
    with open(path, encoding="utf-8") as handle:
        document = json.load(handle)
    rows = document["rows"] if isinstance(document, dict) else document
    return np.array(rows[:MAX_ROWS], dtype=np.float32)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--http", default="127.0.0.1:8000", metavar="HOST:PORT")
    parser.add_argument("--grpc", default="127.0.0.1:8001", metavar="HOST:PORT")
    parser.add_argument("--deployment", required=True)
    parser.add_argument("--rows", required=True, metavar="JSON", help="a file with rows, such as traffic.json")
    parser.add_argument("--only", metavar="TEXT", help="run the checks whose name contains this")
    parser.add_argument("--verbose", action="store_true", help="show where a failed check stopped")
    arguments = parser.parse_args()
    rows = read_rows(arguments.rows)
    # A URL of the platform's list of endpoints is as good as HOST:PORT.
    http, grpc = (address.split("://")[-1].rstrip("/") for address in (arguments.http, arguments.grpc))
    with triton_http.InferenceServerClient(http, concurrency=8) as http_client, \
            triton_grpc.InferenceServerClient(grpc) as grpc_client:
        context = Context(http_client, grpc_client, arguments.deployment, rows)
        return checks.run(context, arguments.only, arguments.verbose)


if __name__ == "__main__":
    sys.exit(main())
