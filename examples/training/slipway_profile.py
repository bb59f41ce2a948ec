"""The training profile: how features and predictions were distributed when a model was trained.

Log it with the run that registers the model, and drift of live traffic is measured against it:

    profile = slipway_profile.profile(names, features, {"label": predictions})
    mlflow.log_text(json.dumps(profile), "slipway/profile.json")

The document (`slipway.profile/1`):

    {"schema": "slipway.profile/1", "rows": 398,
     "features": [{"name": "mean radius", "missing_rate": 0.0, "min": 7.0, "max": 28.1,
                   "edges": [9.905, 11.02, ...], inner edges of the bins, ascending, none twice: just above the deciles
                   "counts": [40, 40, ...],      one more than edges; a value on an edge counts in the bin below it
                   "sample": [7.0, 7.7, ...]}],  up to 512 order statistics, evenly spaced, ascending
     "predictions": [{"name": "label", "kind": "categorical", "values": ["0", "1"], "counts": [150, 248]}]}

A numeric prediction has "kind": "numeric" and otherwise the fields of a feature. A feature without any value has
missing_rate 1 and null for min and max, no edges, counts [0] and an empty sample.
"""

from __future__ import annotations

import numpy as np

SCHEMA = "slipway.profile/1"
PATH = "slipway/profile.json"
BINS = 10
MAX_SAMPLE = 512


def profile(feature_names: list[str], features: np.ndarray, predictions: dict[str, np.ndarray],
            classes: dict[str, list] | None = None) -> dict:
    """Profile of a table (rows x features, NaN where a value is missing) and of a model's answers to it.

    `classes` names every value that a prediction can take, so that one which did not occur is counted as 0.
    """
    features = np.asarray(features)
    if features.ndim != 2 or features.shape[1] != len(feature_names):
        raise ValueError(f"{len(feature_names)} feature names for an array of shape {features.shape}")
    return {
        "schema": SCHEMA,
        "rows": int(features.shape[0]),
        "features": [{"name": name, **numeric(features[:, i])} for i, name in enumerate(feature_names)],
        "predictions": [
            {"name": name, **_prediction(np.asarray(values), (classes or {}).get(name, []))}
            for name, values in predictions.items()
        ],
    }


def numeric(values: np.ndarray) -> dict:
    """Distribution of numbers; NaN and infinities count as missing."""
    known = np.sort(values[np.isfinite(values)])
    missing_rate = 1.0 - len(known) / len(values) if len(values) else 0.0
    if len(known) == 0:
        return {"missing_rate": missing_rate, "min": None, "max": None, "edges": [], "counts": [0], "sample": []}
    # An edge lies half-way between a decile and the next greater value, so that no value of the table is on an edge
    # and a different last digit (FP32 written as a decimal number) never moves a value into another bin.
    distinct = np.unique(known).astype(np.float64)
    deciles = np.searchsorted(distinct, np.quantile(known, np.arange(1, BINS) / BINS, method="lower"))
    below = np.unique(np.minimum(deciles, len(distinct) - 2)) if len(distinct) > 1 else np.array([], dtype=int)
    edges = distinct[below] / 2 + distinct[below + 1] / 2
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    positions = np.linspace(0, len(known) - 1, min(len(known), MAX_SAMPLE)).round().astype(int)
    return {
        "missing_rate": missing_rate,
        "min": _number(known[0]),
        "max": _number(known[-1]),
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "sample": [_number(value) for value in known[positions]],
    }


def _prediction(values: np.ndarray, classes: list) -> dict:
    if np.issubdtype(values.dtype, np.floating):
        return {"kind": "numeric", **numeric(values)}
    counts = {str(value): 0 for value in classes}
    for value, count in zip(*np.unique(values, return_counts=True)):
        counts[str(value)] = int(count)
    return {"kind": "categorical", "values": list(counts), "counts": list(counts.values())}


def _number(value: np.floating) -> float:
    """The shortest decimal that means the same number in the precision it came in."""
    return float(str(value))
