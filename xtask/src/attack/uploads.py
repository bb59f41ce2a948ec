"""Uploads of someone who may register models. Prints one line of JSON for each attempt: its door, and what it achieved where it did.

No payload does anything: each would only import a module or call `os.getpid`.
"""
import gzip
import io
import json
import lzma
import os
import struct
import time
import uuid
import zipfile
import zlib

import numpy as np
import requests
from onnx import TensorProto, helper

ENDPOINTS = json.load(open(os.environ["SLIPWAY_ENDPOINTS"]))
SESSION = requests.Session()
SESSION.headers["authorization"] = "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"]
CALL = b"cos\ngetpid\n(tR."
IMPORT = b"cattack_module\nthing\n."


def at(service):
    address = ENDPOINTS[service]
    return address if "://" in address else "http://" + address


def mlflow(path, body):
    answer = SESSION.post(f"{at('registry')}/api/2.0/mlflow/{path}", json=body, timeout=60)
    answer.raise_for_status()
    return answer.json()


def say(door, attempt, open_):
    print(json.dumps({"door": door, "open": f"{attempt}: {open_}" if open_ else None}), flush=True)


EXPERIMENT = mlflow("experiments/create", {"name": f"uploads-{uuid.uuid4().hex[:8]}"})["experiment_id"]


def register(name, files):
    """A version of these files, as its card shows it; None where it was refused."""
    run = mlflow("runs/create", {"experiment_id": EXPERIMENT, "start_time": 1})["run"]["info"]["run_id"]
    for path, content in files.items():
        url = f"{at('registry')}/api/2.0/mlflow-artifacts/artifacts/{EXPERIMENT}/{run}/artifacts/model/{path}"
        SESSION.put(url, data=content, timeout=60).raise_for_status()
    SESSION.post(f"{at('registry')}/api/2.0/mlflow/registered-models/create", json={"name": name}, timeout=60)
    body = {"name": name, "source": f"runs:/{run}/model"}
    answer = SESSION.post(f"{at('registry')}/api/2.0/mlflow/model-versions/create", json=body, timeout=60)
    if not answer.ok:
        return None
    version = answer.json()["model_version"]["version"]
    for _ in range(300):
        card = SESSION.get(f"{at('registry')}/api/v1/models/{name}/versions/{version}", timeout=60).json()
        if card.get("status") != "PENDING_REGISTRATION" and card.get("scan"):
            return card
        time.sleep(0.1)
    raise RuntimeError(f"{name}/{version} was not scanned: {card}")


def zipped(files, prefix=b""):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return prefix + buffer.getvalue()


def zstd(content):
    """A frame with one raw block (RFC 8878, 3.1.1)."""
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(content)]) + struct.pack("<I", (len(content) << 3) | 1)[:3] + content


def old_joblib(content, digits):
    return b"ZF" + digits.encode().ljust(19) + zlib.compress(content)


def lzma_alone(content, dictionary):
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": dictionary}]
    return lzma.compress(content, format=lzma.FORMAT_ALONE, filters=filters)


def keras(layer):
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": [layer]}}
    return json.dumps(config).encode()


def layers():
    inner = {"module": "torch.nn", "class_name": "Linear", "config": {}}
    return {
        "Lambda": {"class_name": "Lambda", "config": {"function": ["4wEAAAA=", None, None]}},
        "TorchModuleWrapper": {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"module": inner}},
        "TFSMLayer": {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp/x"}},
        "StringLookup": {"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}},
        "a function": {"module": "os", "class_name": "function", "config": "getpid", "registered_name": "function"},
        "a class of its own": {"module": "attack", "class_name": "Thing", "config": {}},
    }


def npy_of_objects():
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    return buffer.getvalue() + CALL


def code():
    """Files that run code in their loader."""
    yield "a pickle", {"model.pkl": CALL}
    yield "a pickle that only imports", {"model.pkl": IMPORT}
    yield "a second pickle", {"model.pkl": b"N." + CALL}
    yield "a pickle by another name", {"notes.txt": CALL}
    for dictionary in (1 << 12, 1 << 16, 1 << 23, 1 << 26):
        yield f"LZMA with a dictionary of {dictionary}", {"model.pkl": lzma_alone(CALL, dictionary)}
    yield "xz", {"model.joblib": lzma.compress(CALL)}
    yield "zlib", {"model.joblib": zlib.compress(CALL)}
    yield "gzip of two members", {"model.joblib": gzip.compress(b"") + gzip.compress(CALL)}
    for digits in (hex(len(CALL)), format(len(CALL), "x"), str(len(CALL))):
        yield f"ZF with the length {digits}", {"model.pkl": old_joblib(CALL, digits)}
    yield "zstd", {"model.pkl.zst": zstd(CALL)}
    yield "zstd behind a skippable frame", {"model.pkl.zst": b"\x50\x2a\x4d\x18\x04\0\0\0skip" + zstd(CALL)}
    yield "zip behind other bytes", {"model.pt": zipped({"archive/data.pkl": CALL}, prefix=b"\x93NUMPY" + b"\0" * 64)}
    yield "zip", {"model.pt": zipped({"archive/data.pkl": CALL, "archive/version": "3"})}
    yield "an array of objects", {"weights.npy": npy_of_objects()}
    for name, layer in layers().items():
        yield f"Keras with {name}", {"model.keras": zipped({"config.json": keras(layer), "metadata.json": "{}", "model.weights.h5": ""})}
        yield f"unzipped Keras with {name}", {"model/config.json": keras(layer), "model/metadata.json": b"{}"}
    yield "YAML with a Python tag", {"config.yaml": b"!!python/object/apply:os.getpid []\n"}
    yield "a TensorFlow graph", {"saved_model.pb": b"\x08\x01\x12\x04\x0a\x02\x08\x01"}
    loader = b"flavors:\n  python_function:\n    loader_module: attack\n    code: code\n"
    yield "MLmodel with a loader of its own", {"MLmodel": loader, "code/attack.py": b"import os\n"}
    yield "MLmodel with code only", {"MLmodel": b"flavors:\n  langchain:\n    model_code_path: agent.py\n", "agent.py": b"import os\n"}
    yield "a program", {"model.onnx": b"\x7fELF\x02\x01\x01" + b"\0" * 64}
    yield "a shared library", {"custom_ops.so": b"\x7fELF\x02\x01\x01" + b"\0" * 64}


def scans():
    for number, (name, files) in enumerate(code()):
        card = register(f"attack-scan-{number}", files)
        verdict = card and card["scan"]["verdict"]
        say("uploader: files that run code are not called safe", name, verdict if verdict == "safe" else None)


def onnx(location=None, **entries):
    """y = x + w; w lies at `location` where one is given."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], np.ones(4, np.float32).tobytes(), raw=True)
    if location is not None:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            entry = weight.external_data.add()
            entry.key, entry.value = key, str(value)
    info = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [info("x")], [info("y")], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def deploy(name):
    body = {"name": name, "model": name, "version": "1"}
    return SESSION.post(f"{at('rollout_controller')}/api/v1/deployments", json=body, timeout=60)


def answers(name):
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    try:
        return SESSION.post(f"{at('serving_http')}/v2/models/{name}/infer", json=body, timeout=10).ok
    except requests.ConnectionError:
        return False


def serving_process():
    return json.load(open(os.environ["SLIPWAY_ENDPOINTS"]))["pids"]["serving"]


def crashes():
    good = "attack-good"
    card = register(good, {"model.onnx": onnx()})
    assert card["scan"]["verdict"] == "safe" and card["servable"], card
    assert deploy(good).ok
    end = time.time() + 60
    while not answers(good):
        assert time.time() < end, "a harmless model is not served"
        time.sleep(0.2)
    before = serving_process()
    locations = {
        "an address of memory": ("*/_ORT_MEM_ADDR_/*", {"offset": 4096, "length": 16}),
        "an address of memory, spelled otherwise": ("./*/_ORT_MEM_ADDR_/*", {"offset": 4096, "length": 16}),
        "another folder": ("../../etc/passwd", {"length": 16}),
        "an absolute path": ("/etc/passwd", {"length": 16}),
        "a file that is too short": ("w.bin", {"offset": 0, "length": 16}),
        "an offset beyond the file": ("w.bin", {"offset": 1 << 40, "length": 16}),
    }
    door = "uploader: a model that crashes serving"
    for number, (name, (location, entries)) in enumerate(locations.items()):
        model = f"attack-crash-{number}"
        card = register(model, {"model.onnx": onnx(location, **entries), "w.bin": b"\0" * 8})
        say(door, name, "it is servable" if card and card["servable"] else None)
        if card:
            deploy(model)
    time.sleep(3)
    say(door, "the other models", None if answers(good) else "a harmless model does not answer any more")
    say(door, "the process", None if serving_process() == before and os.path.exists(f"/proc/{before}") else "serving was started again")


scans()
crashes()
