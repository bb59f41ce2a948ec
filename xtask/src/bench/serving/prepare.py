"""Makes what the benchmark of serving needs: models, a disk cache that names them, and the bodies of requests.

    python prepare.py FOLDER

writes `models/<name>.onnx`, `cache/` as serving keeps it (so that neither registry nor S3 is needed), `bodies/<name>.{json,grpc}`,
and `tokens.json` with the token `bench-token`.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FEATURES = 30
TOKENS, WIDTH, HEADS, INNER, LAYERS, WORDS = 32, 128, 8, 512, 4, 2000


def save(path, nodes, inputs, outputs, weights):
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, initializer=weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def perceptron(path, random):
    """x [n,30] -> 64 -> 32 -> probabilities [n,2], label [n]."""
    nodes, weights, before = [], [], "x"
    for at, (rows, columns) in enumerate([(FEATURES, 64), (64, 32), (32, 2)]):
        weights.append(numpy_helper.from_array(random.normal(0, 0.3, (rows, columns)).astype(np.float32), f"w{at}"))
        weights.append(numpy_helper.from_array(random.normal(0, 0.1, columns).astype(np.float32), f"b{at}"))
        nodes.append(helper.make_node("Gemm", [before, f"w{at}", f"b{at}"], [f"layer{at}"]))
        before = f"layer{at}"
        if at < 2:
            nodes.append(helper.make_node("Relu", [before], [f"active{at}"]))
            before = f"active{at}"
    nodes.append(helper.make_node("Softmax", [before], ["probabilities"], axis=1))
    nodes.append(helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0))
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2]),
               helper.make_tensor_value_info("label", TensorProto.INT64, ["n"])]
    save(path, nodes, [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])], outputs, weights)


def trees(path, random):
    """200 trees of depth 5 over 30 numbers, as gradient boosting gives them: x -> label, probabilities."""
    depth, count = 5, 200
    inner, total = 2**depth - 1, 2 ** (depth + 1) - 1
    fields = {key: [] for key in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")}
    leaves = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(count):
        for node in range(total):
            split = node < inner
            values = (tree, node, int(random.integers(FEATURES)) if split else 0, float(random.normal()) if split else 0.0,
                      "BRANCH_LEQ" if split else "LEAF", 2 * node + 1 if split else 0, 2 * node + 2 if split else 0)
            for key, value in zip(fields, values):
                fields[key].append(value)
            if not split:
                for key, value in zip(leaves, (tree, node, 0, float(random.normal(0, 0.1)))):
                    leaves[key].append(value)
    attributes = {f"nodes_{key}": values for key, values in fields.items()} | {f"class_{key}": values for key, values in leaves.items()}
    node = helper.make_node("TreeEnsembleClassifier", ["x"], ["label", "probabilities"], domain="ai.onnx.ml",
                            classlabels_int64s=[0, 1], post_transform="LOGISTIC", **attributes)
    graph = helper.make_graph(
        [node], "trees", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
         helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def encoder(path, random):
    """Tokens [n,32] -> 4 layers of attention and 128/512 feed-forward -> the mean vector [n,128]; about 55 MFLOP a row."""
    nodes, weights, count = [], [], [0]

    def weight(*shape, scale=0.05):
        count[0] += 1
        name = f"weight{count[0]}"
        weights.append(numpy_helper.from_array(random.normal(0, scale, shape).astype(np.float32), name))
        return name

    def constant(values, kind=np.int64):
        count[0] += 1
        name = f"constant{count[0]}"
        weights.append(numpy_helper.from_array(np.array(values, kind), name))
        return name

    def node(kind, inputs, **attributes):
        count[0] += 1
        nodes.append(helper.make_node(kind, inputs, [f"value{count[0]}"], **attributes))
        return f"value{count[0]}"

    def linear(value, rows, columns):
        return node("Add", [node("MatMul", [value, weight(rows, columns)]), weight(columns)])

    def normal(value):
        return node("LayerNormalization", [value, constant(np.ones(WIDTH), np.float32), constant(np.zeros(WIDTH), np.float32)])

    def heads(value):
        split = node("Reshape", [value, constant([0, TOKENS, HEADS, WIDTH // HEADS])])
        return node("Transpose", [split], perm=[0, 2, 1, 3])

    value = node("Gather", [weight(WORDS, WIDTH, scale=1.0), "tokens"])
    for _ in range(LAYERS):
        query, key, content = (heads(linear(value, WIDTH, WIDTH)) for _ in range(3))
        scores = node("MatMul", [query, node("Transpose", [key], perm=[0, 1, 3, 2])])
        scaled = node("Mul", [scores, constant((WIDTH // HEADS) ** -0.5, np.float32)])
        mixed = node("MatMul", [node("Softmax", [scaled], axis=-1), content])
        joined = node("Reshape", [node("Transpose", [mixed], perm=[0, 2, 1, 3]), constant([0, TOKENS, WIDTH])])
        value = normal(node("Add", [value, linear(joined, WIDTH, WIDTH)]))
        inner = node("Relu", [linear(value, WIDTH, INNER)])
        value = normal(node("Add", [value, linear(inner, INNER, WIDTH)]))
    nodes.append(helper.make_node("ReduceMean", [value], ["vector"], axes=[1], keepdims=0))
    save(path, nodes, [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["n", TOKENS])],
         [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", WIDTH])], weights)


def linear(path, random):
    """x [n,30] -> score [n,1]: the fourth small model, for the figure of the memory."""
    weights = [numpy_helper.from_array(random.normal(size=(FEATURES, 1)).astype(np.float32), "w")]
    save(path, [helper.make_node("MatMul", ["x", "w"], ["score"])],
         [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
         [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])], weights)


def varint(number):
    data = b""
    while number > 127:
        data += bytes([number & 127 | 128])
        number >>= 7
    return data + bytes([number])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def bodies(folder, name, values, datatype, tensor):
    """One row, as JSON and as a framed `inference.ModelInferRequest` with raw contents."""
    shape = [1, values.shape[0]]
    request = {"inputs": [{"name": tensor, "shape": shape, "datatype": datatype, "data": [round(float(value), 3) if datatype == "FP32" else int(value) for value in values]}]}
    (folder / f"{name}.json").write_text(json.dumps(request, separators=(",", ":")))
    described = field(1, tensor.encode()) + field(2, datatype.encode()) + field(3, b"".join(map(varint, shape)))
    message = field(1, name.encode()) + field(5, described) + field(7, values.tobytes())
    (folder / f"{name}.grpc").write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)


def cache(folder, models):
    """The folder as serving leaves it: blobs by hash, a manifest for each version, and the last tables."""
    tables = {}
    for part in ("blobs", "versions", "part"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for path in models:
        data = path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        (folder / "blobs" / sha256).write_bytes(data)
        line = f"model.onnx\0{sha256}\0{len(data)}\n"
        digest = "sha256:" + hashlib.sha256(line.encode()).hexdigest()
        version = folder / "versions" / digest.replace(":", "-")
        version.mkdir(exist_ok=True)
        file = {"path": "model.onnx", "size_bytes": len(data), "sha256": sha256, "blob_key": ""}
        (version / "manifest.json").write_text(json.dumps({"onnx_path": "model.onnx", "files": [file]}))
        table = {"deployment": path.stem, "model": path.stem, "revision": 1, "decided_at_unix_ms": 0,
                 "stable": {"version": "1", "digest": digest}}
        tables[path.stem] = {"wanted": table, "active": table}
    (folder / "tables.json").write_text(json.dumps(tables))


def main():
    folder, random = Path(sys.argv[1]), np.random.default_rng(7)
    for part in ("models", "bodies"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    paths = {make.__name__: folder / "models" / f"{make.__name__}.onnx" for make in (perceptron, trees, encoder, linear)}
    for make in (perceptron, trees, encoder, linear):
        make(paths[make.__name__], random)
    row = random.normal(size=FEATURES).round(3).astype(np.float32)
    for name in ("perceptron", "trees", "linear"):
        bodies(folder / "bodies", name, row, "FP32", "x")
    bodies(folder / "bodies", "encoder", random.integers(0, WORDS, TOKENS), "INT64", "tokens")
    cache(folder / "cache", paths.values())
    digest = hashlib.sha256(b"bench-token").hexdigest()
    (folder / "tokens.json").write_text(json.dumps({"tokens": [{"name": "bench", "sha256": digest, "models": ["*"]}]}))


main()
