"""Predictions from a deployment with NVIDIA's Triton client, over HTTP (binary and JSON) and gRPC.

    python predict_tritonclient.py --deployment demo --row 17.99,10.38,122.8,...
    python predict_tritonclient.py --deployment demo --row @traffic/traffic.json     # the first rows of prepare.py
"""

import argparse
import json

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--deployment", required=True)
parser.add_argument("--row", required=True, metavar="NUMBERS", help="numbers with commas, or @FILE with rows as JSON")
parser.add_argument("--outputs", default="label,probabilities", metavar="NAMES", help="outputs to ask for [default: label,probabilities]")
parser.add_argument("--http", default="127.0.0.1:8000")
parser.add_argument("--grpc", default="127.0.0.1:8001")
arguments = parser.parse_args()

if arguments.row.startswith("@"):
    with open(arguments.row[1:], encoding="utf-8") as handle:
        document = json.load(handle)
    rows = document["rows"][:5] if isinstance(document, dict) else document
else:
    rows = [[float(number) for number in arguments.row.split(",")]]
outputs = arguments.outputs.split(",")
features = np.array(rows, dtype=np.float32)  # a null in the file becomes NaN: a missing value

with triton_http.InferenceServerClient(arguments.http) as client:
    for binary in (True, False):
        tensor = triton_http.InferInput("input", features.shape, "FP32")
        tensor.set_data_from_numpy(features, binary_data=binary)
        wanted = [triton_http.InferRequestedOutput(name, binary_data=binary) for name in outputs]
        result = client.infer(arguments.deployment, [tensor], outputs=wanted, request_id="http-1")
        version = result.get_response()["model_version"]
        print(f"HTTP {'binary' if binary else 'JSON'}: version {version} answers {result.as_numpy('label').tolist()}")

with triton_grpc.InferenceServerClient(arguments.grpc) as client:
    tensor = triton_grpc.InferInput("input", features.shape, "FP32")
    tensor.set_data_from_numpy(features)
    result = client.infer(arguments.deployment, [tensor], request_id="grpc-1")
    version = result.get_response().model_version
    print(f"gRPC: version {version} answers {result.as_numpy('label').tolist()}")
    print(f"{outputs[-1]} of the first row: {np.round(result.as_numpy(outputs[-1])[0], 4).tolist()}")
