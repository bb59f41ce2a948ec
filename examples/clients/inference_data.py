"""What the checks of inference clients send; shared by those of Triton's and of KServe's clients."""

from __future__ import annotations

import json

import numpy as np

MAX_ROWS = 50

IDENTITIES = {
    "BOOL": np.array([True, False]),
    "INT8": np.array([-128, 127], np.int8),
    "INT16": np.array([-(2**15), 2**15 - 1], np.int16),
    "INT32": np.array([-(2**31), 2**31 - 1], np.int32),
    "INT64": np.array([-(2**63), 2**63 - 1], np.int64),
    "UINT8": np.array([0, 255], np.uint8),
    "UINT16": np.array([0, 2**16 - 1], np.uint16),
    "UINT32": np.array([0, 2**32 - 1], np.uint32),
    "UINT64": np.array([0, 2**64 - 1], np.uint64),
    "FP16": np.array([0.1, np.nan], np.float16),
    "FP32": np.array([np.nan, np.inf], np.float32),
    "FP64": np.array([0.1, -np.inf], np.float64),
    "BYTES": np.array(["", "Grüße"], object),
}


def read_rows(path: str) -> np.ndarray:
    """The first rows of a JSON list, or of the traffic.json of prepare.py."""
    with open(path, encoding="utf-8") as handle:
        document = json.load(handle)
    rows = document["rows"] if isinstance(document, dict) else document
    return np.array(rows[:MAX_ROWS], dtype=np.float32)
