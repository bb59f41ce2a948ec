"""Deploys a model with KServe's own Python SDK: create, wait until ready, get, predict, patch, delete.

    python check_kserve_sdk.py --kubeconfig ~/.kube/config --namespace ml --storage-uri s3://models/fraud \
        --address 10.0.0.7:80 --features 2

Prints `ok NAME` or `FAIL NAME: why` for each check; exits with 1 if any failed. The operator must have
SLIPWAY_KSERVE_COMPAT=true. `--address` is where the host name of the service is answered, e.g. an ingress; by default it
is the address of the Service, which has to be reachable from here. Needs kserve-requirements.txt.
"""

from __future__ import annotations

import argparse
import sys

import requests

# Importing kserve reads the command line, as if it were its model server's.
ARGUMENTS, sys.argv[1:] = sys.argv[1:], []

from kserve import (
    KServeClient,
    V1beta1InferenceService,
    V1beta1InferenceServiceSpec,
    V1beta1ModelFormat,
    V1beta1ModelSpec,
    V1beta1PredictorSpec,
    constants,
)
from kubernetes import client as kubernetes
from kubernetes import config

from checks import Checks, equal

NAME = "kserve-sdk"
TIMEOUT_SECONDS = 180

checks = Checks()


class Context:
    """The client, and what the checks before have found."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.namespace = arguments.namespace
        self.client = KServeClient(config_file=arguments.kubeconfig)
        self.core = kubernetes.CoreV1Api(config.new_client_from_config(arguments.kubeconfig))

    def service(self, max_replicas: int = 1) -> V1beta1InferenceService:
        model = V1beta1ModelSpec(
            model_format=V1beta1ModelFormat(name="onnx"), storage_uri=self.arguments.storage_uri
        )
        predictor = V1beta1PredictorSpec(min_replicas=1, max_replicas=max_replicas, model=model)
        return V1beta1InferenceService(
            api_version=constants.KSERVE_V1BETA1,
            kind=constants.KSERVE_KIND_INFERENCESERVICE,
            metadata=kubernetes.V1ObjectMeta(name=NAME, namespace=self.namespace),
            spec=V1beta1InferenceServiceSpec(predictor=predictor),
        )

    def get(self) -> dict:
        return self.client.get(NAME, namespace=self.namespace)

    def address(self) -> str:
        if self.arguments.address:
            return self.arguments.address
        return f"{self.core.read_namespaced_service(NAME, self.namespace).spec.cluster_ip}:80"


@checks.check("create")
def create(context: Context) -> None:
    created = context.client.create(context.service(), namespace=context.namespace)
    equal(created["metadata"]["name"], NAME, "name")


@checks.check("wait_isvc_ready")
def ready(context: Context) -> None:
    context.client.wait_isvc_ready(NAME, namespace=context.namespace, timeout_seconds=TIMEOUT_SECONDS)
    equal(context.client.is_isvc_ready(NAME, namespace=context.namespace), True, "is_isvc_ready")


@checks.check("get")
def status(context: Context) -> None:
    found = context.get()["status"]
    conditions = {one["type"]: one["status"] for one in found["conditions"]}
    equal(conditions.get("PredictorReady"), "True", "PredictorReady")
    equal(found["url"], f"http://{NAME}.{context.namespace}", "url")
    traffic = found["components"]["predictor"]["traffic"]
    equal(sum(one["percent"] for one in traffic), 100, "percent of the traffic")


@checks.check("predict by host name")
def predict(context: Context) -> None:
    host = context.get()["status"]["url"].removeprefix("http://")
    row = [1.0] + [0.0] * (context.arguments.features - 1)
    url = f"http://{context.address()}/v1/models/{NAME}:predict"
    answer = requests.post(url, json={"instances": [row, row]}, headers={"Host": host}, timeout=30)
    equal(answer.status_code, 200, answer.text)
    equal(len(answer.json()["predictions"]), 2, "predictions")


@checks.check("patch")
def patch(context: Context) -> None:
    context.client.patch(NAME, context.service(max_replicas=2), namespace=context.namespace)
    context.client.wait_isvc_ready(NAME, namespace=context.namespace, timeout_seconds=TIMEOUT_SECONDS)
    equal(context.get()["spec"]["predictor"]["maxReplicas"], 2, "maxReplicas")


@checks.check("delete")
def delete(context: Context) -> None:
    context.client.delete(NAME, namespace=context.namespace)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--storage-uri", required=True)
    parser.add_argument("--address", default="", metavar="HOST:PORT")
    parser.add_argument("--features", type=int, default=2, help="columns of the model's input [default: 2]")
    return checks.run(Context(parser.parse_args(ARGUMENTS)))


if __name__ == "__main__":
    sys.exit(main())
