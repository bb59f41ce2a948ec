"""Exercises a deployment with KServe's own inference clients: v1 and v2 over REST, and gRPC.

    python check_kserve_client.py --http http://127.0.0.1:8000 --grpc 127.0.0.1:8001 --deployment demo --rows traffic.json

Prints `ok NAME` or `FAIL NAME: why` for each check; exits with 1 if any failed. The deployment must serve a model with
one FP32 input [rows, columns]; `--rows` is a JSON list of rows, or the traffic.json of prepare.py. `--identities` names a
deployment that gives every datatype back unchanged (`<type>_in` to `<type>_out`). Needs kserve-requirements.txt.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
import httpx
import numpy as np

# Importing kserve reads the command line, as if it were its model server's.
ARGUMENTS, sys.argv[1:] = sys.argv[1:], []

from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from checks import Checks, equal, raises
from inference_data import IDENTITIES as INFERENCE_IDENTITIES
from inference_data import read_rows

checks = Checks()


@dataclass
class Context:
    """Where the server is, the rows, and what the first answer said."""

    http: str
    grpc: str
    deployment: str
    rows: np.ndarray
    identities: str = ""
    input_name: str = ""
    outputs: tuple[str, ...] = ()
    answers: tuple[np.ndarray, ...] = ()

    def rest(self, protocol: str, **options: object) -> InferenceRESTClient:
        return InferenceRESTClient(RESTConfig(protocol=protocol, retries=0, **options))

    def grpc_client(self) -> InferenceGRPCClient:
        return InferenceGRPCClient(self.grpc, channel_args=[("grpc.enable_retries", 0)])

    def request(self, rows: np.ndarray | None = None, binary: bool = True, **options: object) -> InferRequest:
        """A request with `rows`, or with all of them."""
        rows = self.rows if rows is None else rows
        tensor = InferInput(options.pop("name", self.input_name), list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows, binary_data=binary)
        return InferRequest(options.pop("model", self.deployment), [tensor], **options)

    def same(self, response: object, rows: slice = slice(None)) -> None:
        """Fails unless the response has the answers of the first request."""
        found = {one.name: one.as_numpy() for one in response.outputs}
        equal(tuple(found), self.outputs, "outputs")
        for name, expected in zip(self.outputs, self.answers):
            equal(found[name].shape, expected[rows].shape, f"shape of {name}")
            if np.issubdtype(expected.dtype, np.floating):
                np.testing.assert_allclose(found[name], expected[rows], rtol=1e-4, atol=1e-5, err_msg=name)
            else:
                equal(found[name].tolist(), expected[rows].tolist(), name)


def check(name: str) -> Callable:
    """Registers a check that is a coroutine: the clients are asynchronous alone."""

    def add(function: Callable[[Context], Awaitable[None]]) -> Callable:
        def run(context: Context) -> None:
            asyncio.run(function(context))

        run.__name__ = function.__name__
        checks.check(name)(run)
        return function

    return add


@check("v2: live, ready, model ready")
async def v2_health(context: Context) -> None:
    async with context.rest("v2") as client:
        equal((await client.is_server_live(context.http), await client.is_server_ready(context.http)), (True, True))
        equal(await client.is_model_ready(context.http, context.deployment), True)
        equal(await client.is_model_ready(context.http, "no-such-model"), False)


@check("v2: infer as JSON")
async def v2_json(context: Context) -> None:
    metadata = httpx.get(f"{context.http}/v2/models/{context.deployment}").json()
    context.input_name = metadata["inputs"][0]["name"]
    context.outputs = tuple(one["name"] for one in metadata["outputs"])
    async with context.rest("v2") as client:
        sent = context.request(binary=False, request_id="check-1")
        headers: dict[str, str] = {}
        response = await client.infer(context.http, sent, model_name=context.deployment, response_headers=headers)
    equal((response.model_name, response.id), (context.deployment, "check-1"))
    assert headers["content-type"].startswith("application/json"), headers
    context.answers = tuple(one.as_numpy() for one in response.outputs)
    for name, answer in zip(context.outputs, context.answers):
        equal(answer.shape[0], len(context.rows), f"rows of {name}")


@check("v2: infer with binary tensors, both ways")
async def v2_binary(context: Context) -> None:
    async with context.rest("v2") as client:
        for parameters in (None, {"binary_data_output": True}, {"binary_data_output": False}):
            sent = context.request(parameters=parameters)
            context.same(await client.infer(context.http, sent, model_name=context.deployment))
        wanted = [RequestedOutput(context.outputs[0], {"binary_data": True})]
        sent = context.request(request_outputs=wanted)
        response = await client.infer(context.http, sent, model_name=context.deployment)
        equal([one.name for one in response.outputs], [context.outputs[0]])
        equal(response.outputs[0].as_numpy().tolist(), context.answers[0].tolist())


@check("v2: a request as a dict, and requests at once")
async def v2_dict(context: Context) -> None:
    tensor = {
        "name": context.input_name,
        "shape": list(context.rows.shape),
        "datatype": "FP32",
        "data": context.rows.tolist(),
    }
    async with context.rest("v2") as client:
        ask = [client.infer(context.http, {"inputs": [tensor]}, model_name=context.deployment) for _ in range(8)]
        for response in await asyncio.gather(*ask):
            context.same(response)


@check("v1: live, model ready, predict")
async def v1_predict(context: Context) -> None:
    rows = context.rows.tolist()
    async with context.rest("v1") as client:
        equal(await client.is_server_live(context.http), True)
        equal(await client.is_model_ready(context.http, context.deployment), True)
        for instances in (rows, [{context.input_name: row} for row in rows]):
            answer = await client.infer(context.http, {"instances": instances}, model_name=context.deployment)
            equal(len(answer["predictions"]), len(rows), "predictions")
            for at, prediction in enumerate(answer["predictions"]):
                of_row = prediction if isinstance(prediction, dict) else {context.outputs[0]: prediction}
                equal(set(of_row), set(context.outputs), "outputs")
                for name, expected in zip(context.outputs, context.answers):
                    np.testing.assert_allclose(of_row[name], expected[at], rtol=1e-4, atol=1e-5, err_msg=name)
        # An inference graph is called by its address, whatever the protocol.
        address = f"{context.http}/v1/models/{context.deployment}:predict"
        answer = await client.infer(address, {"instances": rows[:2]}, is_graph_endpoint=True)
        equal(len(answer["predictions"]), 2)


@check("v1: refusals carry their status and their reason")
async def v1_refusals(context: Context) -> None:
    async with context.rest("v1") as client:
        with raises(httpx.HTTPStatusError, "404", "no-such-model"):
            await client.infer(context.http, {"instances": [[1.0]]}, model_name="no-such-model")
        with raises(httpx.HTTPStatusError, "404", "no-such-model"):
            await client.is_model_ready(context.http, "no-such-model")
        with raises(httpx.HTTPStatusError, "400", "instances"):
            await client.infer(context.http, {"instance": []}, model_name=context.deployment)
        with raises(httpx.HTTPStatusError, "501"):
            await client.explain(context.http, context.deployment, {"instances": context.rows.tolist()})


@check("v2: refusals carry their status and their reason")
async def v2_refusals(context: Context) -> None:
    rows = context.rows[:2]
    async with context.rest("v2") as client:
        refused = [
            ("400", context.input_name, context.request(np.hstack([rows, rows[:, :1]]))),
            ("400", "no-such-input", context.request(rows, name="no-such-input")),
            ("400", "no-such-output", context.request(rows, request_outputs=[RequestedOutput("no-such-output")])),
        ]
        for status, named, sent in refused:
            with raises(httpx.HTTPStatusError, status, named):
                await client.infer(context.http, sent, model_name=context.deployment)
        with raises(httpx.HTTPStatusError, "404", "no-such-model"):
            await client.infer(context.http, context.request(rows), model_name="no-such-model")
        sent = context.request(rows)
        context.same(await client.infer(context.http, sent, model_name=context.deployment), slice(2))


@check("grpc: live, ready, model ready")
async def grpc_health(context: Context) -> None:
    async with context.grpc_client() as client:
        equal((await client.is_server_live(), await client.is_server_ready()), (True, True))
        equal(await client.is_model_ready(context.deployment), True)
        equal(await client.is_model_ready("no-such-model"), False)


@check("grpc: infer, raw and typed contents, with metadata")
async def grpc_infer(context: Context) -> None:
    async with context.grpc_client() as client:
        response = await client.infer(context.request(request_id="check-2"), headers=(("x-request-id", "check-3"),))
        equal((response.model_name, response.id), (context.deployment, "check-2"))
        context.same(response)
        typed = context.request(binary=False)
        typed.inputs[0].data = context.rows.flatten().tolist()
        context.same(await client.infer(typed, timeout=10.0))
        named = context.request(context.rows[:1], model_version=response.model_version)
        context.same(await client.infer(named), slice(1))
        wanted = context.request(request_outputs=[RequestedOutput(context.outputs[0])])
        equal([one.name for one in (await client.infer(wanted)).outputs], [context.outputs[0]])


@check("grpc: refusals carry their code and their reason")
async def grpc_refusals(context: Context) -> None:
    rows = context.rows[:2]
    async with context.grpc_client() as client:
        refused = [
            ("INVALID_ARGUMENT", context.input_name, context.request(np.hstack([rows, rows[:, :1]]))),
            ("INVALID_ARGUMENT", "no-such-input", context.request(rows, name="no-such-input")),
            ("NOT_FOUND", "no-such-model", context.request(rows, model="no-such-model")),
            ("NOT_FOUND", "999999", context.request(rows, model_version="999999")),
        ]
        for code, named, sent in refused:
            with raises(grpc.RpcError, code, named):
                await client.infer(sent)
        context.same(await client.infer(context.request(rows)), slice(2))


# Its JSON has no NaN and no infinities, and it sends and gives text as bytes.
IDENTITIES = INFERENCE_IDENTITIES | {
    "FP32": np.array([0.5, -1.25], np.float32),
    "FP64": np.array([0.1, -2.5], np.float64),
    "BYTES": np.array([b"x", "Grüße".encode()], object),
}


def identity_request(model: str, text: tuple[str, ...]) -> InferRequest:
    """Every datatype in one request; those in `text` go as JSON or as typed contents."""
    inputs = []
    for kind, values in IDENTITIES.items():
        tensor = InferInput(f"{kind.lower()}_in", list(values.shape), kind)
        tensor.set_data_from_numpy(values, binary_data=kind not in text)
        inputs.append(tensor)
    return InferRequest(model, inputs, parameters={"binary_data_output": not text} if model else None)


def same_identities(response: object, kinds: tuple[str, ...] = tuple(IDENTITIES)) -> None:
    found = {one.name: one for one in response.outputs}
    for kind in kinds:
        one, expected = found[f"{kind.lower()}_out"], IDENTITIES[kind]
        equal(one.datatype, kind)
        values = one.as_numpy()
        if kind == "BYTES":
            texts = [value.decode() if isinstance(value, bytes) else value for value in values.tolist()]
            equal(texts, [value.decode() for value in expected.tolist()], kind)
        else:
            equal(values.dtype, expected.dtype, kind)
            np.testing.assert_array_equal(values, expected, err_msg=kind)


async def v2_datatypes(context: Context) -> None:
    # Half precision has no JSON form.
    text = tuple(kind for kind in IDENTITIES if kind != "FP16")
    async with context.rest("v2") as client:
        same_identities(
            await client.infer(context.http, identity_request(context.identities, ()), model_name=context.identities)
        )
        sent = identity_request(context.identities, text)
        sent.request_outputs = [RequestedOutput(f"{kind.lower()}_out") for kind in text]
        same_identities(await client.infer(context.http, sent, model_name=context.identities), text)


async def grpc_datatypes(context: Context) -> None:
    async with context.grpc_client() as client:
        same_identities(await client.infer(identity_request(context.identities, ())))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--http", default="http://127.0.0.1:8000", metavar="URL")
    parser.add_argument("--grpc", default="127.0.0.1:8001", metavar="HOST:PORT")
    parser.add_argument("--deployment", required=True)
    parser.add_argument("--rows", required=True, metavar="JSON", help="a file with rows, such as traffic.json")
    parser.add_argument("--identities", default="", metavar="DEPLOYMENT", help="check more with this deployment")
    parser.add_argument("--only", metavar="TEXT", help="run the checks whose name contains this")
    parser.add_argument("--verbose", action="store_true", help="show where a failed check stopped")
    arguments = parser.parse_args(ARGUMENTS)
    # The client logs every refusal with a stack; the refusals here are meant.
    logging.disable(logging.ERROR)
    context = Context(
        arguments.http.rstrip("/"),
        arguments.grpc.split("://")[-1].rstrip("/"),
        arguments.deployment,
        np.nan_to_num(read_rows(arguments.rows)),
        arguments.identities,
    )
    if arguments.identities:
        check("v2: every datatype, binary and as JSON")(v2_datatypes)
        check("grpc: every datatype")(grpc_datatypes)
    return checks.run(context, arguments.only, arguments.verbose)


if __name__ == "__main__":
    sys.exit(main())
