"""Makes files at random, loads each with the real loaders in a child process, and records what that ran.

    python examples/model_scan/differential.py crates/model-scan/tests/differential.xz

A file is a payload in a container, with bytes before or behind it, under some name. Loaders are Python's `pickle` (in C and in
Python), `joblib` and `numpy`. The payloads make a folder or import a module; an audit hook sees that and stops it. The tests of
crates/model-scan hold the scan against the record: where something ran, the file must not be safe.

The record is a sequence of `<length of the name> <name> <1 where something ran> <length> <bytes>`, with lengths as 32-bit numbers in
little-endian order, compressed as xz.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import pathlib
import pickle
import random
import resource
import struct
import sys
import tarfile
import tempfile
import warnings
import zipfile
import zlib

import joblib
import numpy as np

FILES = 1_000
SEED = 7
MEMORY_BYTES = 1 << 30
CPU_SECONDS = 2
MODULES = ("scan_marker", "this")
FOLDER = b"/tmp/scan-marker"
NAMES = [
    "model.pkl", "model.joblib", "notes.txt", "README.md", "model.onnx", "labels.csv", "conda.yaml", "MLmodel",
    "requirements.txt", "x.json", "model.lgb", "model.ubj", "weights.bin", "model.npy", "model.npz", "model.z", "a.yaml",
    "x.jsonl", "plain",
]
PREFIXES = [b"N0", b"]0", b"(1", b"K\x010", b"\x80\x04", b"I1\n0", b"V\n0"]
LEADING = [b"\0", b" ", b"\n", b"\xef\xbb\xbf", b"x", b"#\n"]


def short(text):
    return b"\x8c" + bytes([len(text)]) + text


def calls(module, name):
    frame = short(module) + b"\x94" + short(name) + b"\x94h\x00h\x01\x93" + short(FOLDER) + b"\x85R."
    return [
        b"c%s\n%s\n(S'%s'\ntR." % (module, name, FOLDER),
        b"(S'%s'\ni%s\n%s\n." % (FOLDER, module, name),
        b"(c%s\n%s\nS'%s'\no." % (module, name, FOLDER),
        b"\x80\x04" + short(module) + short(name) + b"\x93" + short(FOLDER) + b"\x85R.",
        b"\x80\x02c%s\n%s\nq\x00U%c%s\x85q\x01R." % (module, name, len(FOLDER), FOLDER),
        b"\x80\x04\x95" + struct.pack("<Q", len(frame)) + frame,
        b"\x80\x04" + short(module) + short(name) + b"\x93" + short(FOLDER) + b"\x85\x81.",
    ]


def payloads():
    made = calls(b"os", b"mkdir") + calls(b"posix", b"mkdir") + calls(b"scan_marker", b"run")
    made += [
        b"cscan_marker\nrun\n.", b"(iscan_marker\nrun\n.", b"\x80\x04\x8c\x0bscan_marker\x8c\x03run\x930N.",
        b"cscan_marker\nrun\n0(lp0\n.", b"cthis\nd\n.", b"cthis\nd\n and text", b"cthis\nd\nq",
    ]
    made += [pickle.dumps({"a": [1, 2]}, protocol) for protocol in range(6)]
    out = io.BytesIO()
    joblib.dump([np.arange(5.0)], out)
    return [*made, out.getvalue()]


def alone(data, rnd):
    lc, lp, pb = rnd.choice([(3, 0, 2), (0, 0, 0), (4, 0, 0), (0, 4, 4), (1, 1, 1), (2, 2, 3)])
    size = 4096 << rnd.randrange(12)
    filters = [{"id": lzma.FILTER_LZMA1, "preset": 1, "dict_size": size, "lc": lc, "lp": lp, "pb": pb}]
    packed = bytearray(lzma.compress(data, lzma.FORMAT_ALONE, filters=filters))
    if rnd.random() < 0.3:
        packed[1:5] = struct.pack("<I", rnd.choice([4096, 1 << 16, 1 << 26, 3 << 20]))
    if rnd.random() < 0.2:
        packed[5:13] = struct.pack("<Q", len(data))
    return bytes(packed)


def old_joblib(data, rnd):
    count = len(data)
    digits = rnd.choice([f"{count:#x}", f"{count:x}", f"0X{count:x}", f"+{count:x}", f" {count:x}", f"0_0{count:x}"])
    return b"ZF" + digits.encode().ljust(19) + rnd.choice([b"", b" "]) + zlib.compress(data, rnd.choice([0, 1, 9]))


def zlib_window(data, rnd):
    packer = zlib.compressobj(6, zlib.DEFLATED, rnd.choice([9, 10, 12, 15]))
    return packer.compress(data) + packer.flush()


def split(pack):
    def packed(data, rnd):
        at = rnd.randrange(1, max(len(data), 2))
        return pack(data[:at]) + pack(data[at:])

    return packed


def array(data, _=None):
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def arrays(data, rnd):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rnd.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        archive.writestr(rnd.choice(["a.npy", "A.NPY", "x/arr_0.npy", "arr_0"]), array(data))
    return out.getvalue()


def tarred(data, rnd):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=rnd.choice(["w", "w:gz", "w:xz"])) as archive:
        info = tarfile.TarInfo("model.pkl")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


CONTAINERS = [
    lambda data, rnd: data,
    lambda data, rnd: data,
    lambda data, rnd: zlib.compress(data, rnd.choice([0, 1, 6, 9])),
    lambda data, rnd: gzip.compress(data),
    lambda data, rnd: bz2.compress(data, rnd.randrange(1, 10)),
    lambda data, rnd: lzma.compress(data, check=rnd.choice([lzma.CHECK_NONE, lzma.CHECK_CRC32, lzma.CHECK_SHA256])),
    alone, old_joblib, zlib_window, split(gzip.compress), split(zlib.compress), split(bz2.compress), split(lzma.compress),
    lambda data, rnd: gzip.compress(b"") + gzip.compress(data),
    lambda data, rnd: zlib.compress(data + b"\0" * 50, 0)[: -rnd.randrange(1, 9)],
    lambda data, rnd: gzip.compress(data)[:-8] + b"abcdefgh",
    array, arrays, tarred,
]


def make(rnd):
    pool = payloads()
    data = rnd.choice(pool)
    if rnd.random() < 0.15:
        data = rnd.choice(pool) + data
    if rnd.random() < 0.1:
        data = rnd.choice(PREFIXES) + data
    data = rnd.choice(CONTAINERS)(data, rnd)
    if rnd.random() < 0.08:
        data = rnd.choice(CONTAINERS)(data, rnd)
    if rnd.random() < 0.15:
        data += rnd.choice([b"\0", b"\0" * 512, b"tail", b"\n", rnd.choice(pool)])
    if rnd.random() < 0.08:
        data = rnd.choice(LEADING) + data
    if rnd.random() < 0.08:
        at = rnd.randrange(len(data))
        data = data[:at] + bytes([data[at] ^ 1 << rnd.randrange(8)]) + data[at + 1:]
    return rnd.choice(NAMES), data


class Stopped(BaseException):
    """Something would have run."""


def load(path, report):
    """Loads a file with every loader, and reports each time something runs. In a process of its own."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))

    def hook(event, arguments):
        if event in ("os.mkdir", "os.system", "subprocess.Popen", "os.exec"):
            os.write(report, b"1")
            raise Stopped
        if event == "import" and arguments[0].split(".")[0] in MODULES:
            os.write(report, b"1")
            raise Stopped

    def opened(read):
        with open(path, "rb") as file:
            return read(file)

    sys.addaudithook(hook)
    for loader in [
        lambda: opened(pickle.load), lambda: opened(pickle._load), lambda: joblib.load(path),
        lambda: np.load(path, allow_pickle=True), lambda: list(np.load(path, allow_pickle=True).items()),
    ]:
        try:
            loader()
        except (Exception, Stopped):
            pass


def ran(path):
    out, report = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            load(path, report)
        finally:
            os._exit(0)
    os.close(report)
    with open(out, "rb") as answers:
        found = answers.read()
    os.waitpid(child, 0)
    return bool(found)


def main(target):
    warnings.simplefilter("ignore")
    rnd = random.Random(SEED)
    record, count = io.BytesIO(), 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file")
        for _ in range(FILES):
            name, data = make(rnd)
            pathlib.Path(path).write_bytes(data)
            did = ran(path)
            count += did
            record.write(struct.pack("<I", len(name)) + name.encode() + bytes([did]) + struct.pack("<I", len(data)) + data)
    pathlib.Path(target).write_bytes(lzma.compress(record.getvalue(), preset=9))
    print(json.dumps({"files": FILES, "ran": count}))


if __name__ == "__main__":
    main(sys.argv[1])
