"""The training profile: how features and predictions were distributed when a model was trained.

Log it with the run that registers the model, and drift of live traffic is measured against it:

    profile = slipway_profile.profile(names, features, {"label": predictions})
    mlflow.log_text(json.dumps(profile), "slipway/profile.json")

Features are a table (rows x columns) of numbers, strings, booleans or a mixture: a NumPy array, a pandas or polars data frame, or
lists. For a model with several input tensors they are a dict of tensor name to table or column:

    profile(None, {"num": frame[["age", "income"]], "region": frame["region"]}, {"label": predictions})

NaN, infinities, None and pandas' NA and NaT are missing values.

The document (`slipway.profile/1`):

    {"schema": "slipway.profile/1", "rows": 398, "distinct_rows": 398,
     "features": [{"name": "mean radius", "kind": "numeric", "missing_rate": 0.0, "min": 7.0, "max": 28.1,
                   "edges": [9.905, 11.02, ...], inner edges of the bins, ascending, none twice: just above the deciles
                   "counts": [40, 40, ...],      one more than edges; a value on an edge counts in the bin above it
                   "sample": [7.0, 7.7, ...]},   up to 512 order statistics, evenly spaced, ascending
                  {"name": "island", "kind": "categorical", "missing_rate": 0.01, "tensor": "cat", "index": 0,
                   "values": ["Biscoe", "Dream"], "counts": [160, 120]}],  the 200 most frequent values
     "predictions": [{"name": "label", "kind": "categorical", "values": ["0", "1"], "counts": [150, 248]}]}

Booleans are categorical, with the values "False" and "True". A numeric column without any value has missing_rate 1 and null for min
and max, no edges, counts [0] and an empty sample. `tensor` and `index` are there where features came as a dict of tensors.
"""

from __future__ import annotations

import numbers

import numpy as np

SCHEMA = "slipway.profile/1"
PATH = "slipway/profile.json"
BINS = 10
MAX_SAMPLE = 512
MAX_CATEGORIES = 200


def profile(feature_names=None, features=None, predictions=None, classes: dict[str, list] | None = None,
            categorical: list[str] = ()) -> dict:
    """Profile of a table and of a model's answers to it.

    feature_names: a name for each column; None for a data frame's own names, or "0", "1", ... With a dict of tensors: a dict of
        tensor name to names, or None.
    features: the table, or a dict of tensor name to table; see the module.
    predictions: a dict of output name to the answers, one a row (or rows x classes, profiled column by column).
    classes: every value that a prediction can take, by output name, so that one which did not occur is counted as 0.
    categorical: names of columns of numbers that are categories, such as codes.
    """
    columns = _columns(feature_names, features)
    if not columns:
        raise ValueError("features has no columns: expected a table of rows x columns")
    rows = {len(values) for _, values, _ in columns}
    if len(rows) != 1:
        raise ValueError(f"the columns of features have different numbers of rows: {sorted(rows)}")
    answers = {name: classes_of for name, classes_of in (classes or {}).items()}
    profiled = [{"name": name, **place, **column(values, name, name in categorical)} for name, values, place in columns]
    return {
        "schema": SCHEMA,
        "rows": rows.pop(),
        "distinct_rows": _distinct_rows([values for _, values, _ in columns]),
        "features": profiled,
        "predictions": [
            entry for name, values in (predictions or {}).items() for entry in _prediction(name, values, answers.get(name, []))
        ],
    }


def column(values, name: str = "", categorical: bool = False) -> dict:
    """Distribution of one column, by the kind of its values: numeric, or categorical for strings and booleans."""
    values = _array(values)
    kind = values.dtype.kind
    if kind == "b":
        return categories(values, [False, True])
    if kind in "iuf":
        return categories(values, [], ~_finite(values)) if categorical else numeric(values)
    if kind not in "OUS":
        raise TypeError(f"column {name!r} has values of type {values.dtype}: convert them to numbers, strings or booleans first")
    missing = np.array([_is_missing(value) for value in values], dtype=bool)
    known = values[~missing]
    if len(known) == 0:
        return numeric(np.full(len(values), np.nan))
    if all(isinstance(value, (bool, np.bool_)) for value in known):
        return categories(values, [False, True], missing)
    if not categorical and all(isinstance(value, numbers.Real) for value in known):
        filled = np.full(len(values), np.nan)
        filled[~missing] = known.astype(np.float64)
        return numeric(filled)
    odd = next((value for value in known if not isinstance(value, (str, bytes, bool, np.bool_, numbers.Real))), None)
    if odd is not None:
        raise TypeError(f"column {name!r} has a value of type {type(odd).__name__}: convert it to numbers, strings or booleans first")
    return categories(values, [], missing)


def numeric(values: np.ndarray) -> dict:
    """Distribution of numbers; NaN and infinities count as missing."""
    values = np.asarray(values)
    known = np.sort(values[_finite(values)])
    missing_rate = 1.0 - len(known) / len(values) if len(values) else 0.0
    entry = {"kind": "numeric", "missing_rate": missing_rate}
    if len(known) == 0:
        return {**entry, "min": None, "max": None, "edges": [], "counts": [0], "sample": []}
    # An edge lies half-way between a decile and the next greater value, so that no value of the table is on an edge
    # and a different last digit (FP32 written as a decimal number) never moves a value into another bin.
    distinct = np.unique(known.astype(np.float64))
    deciles = np.searchsorted(distinct, np.quantile(known.astype(np.float64), np.arange(1, BINS) / BINS, method="lower"))
    below = np.unique(np.minimum(deciles, len(distinct) - 2)) if len(distinct) > 1 else np.array([], dtype=int)
    edges = np.unique(distinct[below] / 2 + distinct[below + 1] / 2)
    counts = np.bincount(np.searchsorted(edges, known.astype(np.float64), side="right"), minlength=len(edges) + 1)
    positions = np.linspace(0, len(known) - 1, min(len(known), MAX_SAMPLE)).round().astype(int)
    return {
        **entry,
        "min": _number(known[0]),
        "max": _number(known[-1]),
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "sample": [_number(value) for value in known[positions]],
    }


def categories(values, classes: list = (), missing: np.ndarray | None = None) -> dict:
    """Distribution of categories. Beyond the 200 most frequent ones, values are counted in `rows` alone."""
    values = _array(values)
    missing = np.zeros(len(values), dtype=bool) if missing is None else missing
    counts = {_text(value): 0 for value in classes}
    for value in values[~missing]:
        text = _text(value)
        counts[text] = counts.get(text, 0) + 1
    kept = sorted(counts, key=lambda text: -counts[text])[:MAX_CATEGORIES] if len(counts) > MAX_CATEGORIES else list(counts)
    return {
        "kind": "categorical",
        "missing_rate": float(missing.mean()) if len(values) else 0.0,
        "values": kept,
        "counts": [counts[text] for text in kept],
    }


def _columns(names, features) -> list[tuple[str, np.ndarray, dict]]:
    """Name, values and place of each column."""
    if isinstance(features, dict):
        if names is not None and not isinstance(names, dict):
            raise TypeError("feature_names of a dict of tensors is a dict of tensor name to names, or None")
        columns = []
        for tensor, table in features.items():
            own, table = _table(table, (names or {}).get(tensor), tensor)
            columns += [(name, values, {"tensor": tensor, "index": i}) for i, (name, values) in enumerate(zip(own, table))]
        taken = [name for name, _, _ in columns]
        # Two tensors may have columns of one name.
        return [(name if taken.count(name) == 1 else f"{place['tensor']}.{name}", values, place) for name, values, place in columns]
    own, table = _table(features, names, None)
    return [(name, values, {}) for name, values in zip(own, table)]


def _table(table, names, tensor) -> tuple[list[str], list[np.ndarray]]:
    """Names and columns of a table, or of one column of a tensor."""
    if hasattr(table, "columns") and hasattr(table, "shape"):  # pandas, polars
        own = [str(name) for name in table.columns]
        columns = [_array(table[name]) for name in table.columns]
    else:
        array = _array(table)
        if array.ndim == 1 and tensor is not None:
            array = array.reshape(-1, 1)
        if array.ndim != 2:
            raise ValueError(f"expected a table of rows x columns, got an array of shape {array.shape}")
        columns = [array[:, i] for i in range(array.shape[1])]
        single = getattr(table, "name", None) or tensor
        own = [str(single)] if len(columns) == 1 and single else [f"{tensor}[{i}]" if tensor else str(i) for i in range(len(columns))]
    if names is not None:
        if len(names) != len(columns):
            raise ValueError(f"{len(names)} feature names for {len(columns)} columns" + (f" of tensor {tensor!r}" if tensor else ""))
        own = [str(name) for name in names]
    return own, columns


def _prediction(name: str, values, classes: list) -> list[dict]:
    values = _array(values)
    if values.ndim == 2 and values.shape[1] > 1:
        return [{"name": f"{name}[{i}]", "tensor": name, "index": i, **column(values[:, i], name)} for i in range(values.shape[1])]
    values = values.reshape(-1)
    if values.dtype.kind == "f":
        return [{"name": name, **numeric(values)}]
    if values.dtype.kind == "O":
        entry = column(values, name, categorical=not any(isinstance(value, float) for value in values))
        if entry["kind"] == "numeric":
            return [{"name": name, **entry}]
    missing = np.array([_is_missing(value) for value in values], dtype=bool)
    # In the order of the values, whatever came first.
    entry = categories(values[~missing][np.argsort(values[~missing].astype(str), kind="stable")], classes)
    return [{"name": name, **entry, "missing_rate": float(missing.mean()) if len(values) else 0.0}]


def _array(values) -> np.ndarray:
    """Values as NumPy has them, strings and mixtures as objects."""
    if isinstance(values, np.ndarray):
        return values
    if hasattr(values, "to_numpy"):
        array = values.to_numpy()
        return array if array.dtype.kind in "biufOUSMmc" else array.astype(object)
    array = np.asarray(values)
    # NumPy makes strings of a mixture of strings and numbers, and of None a number is not missing any more.
    return np.asarray(values, dtype=object) if array.dtype.kind in "US" else array


def _finite(values: np.ndarray) -> np.ndarray:
    return np.isfinite(values) if values.dtype.kind == "f" else np.ones(len(values), dtype=bool)


def _is_missing(value) -> bool:
    if value is None:
        return True
    if isinstance(value, (str, bytes, bool)):
        return False
    if isinstance(value, numbers.Real):
        return not np.isfinite(float(value))
    return type(value).__name__ in ("NAType", "NaTType")


def _distinct_rows(columns: list[np.ndarray]) -> int:
    """Different rows, missing values being equal."""
    codes = []
    for values in columns:
        if values.dtype.kind in "OUS":
            known: dict[str, int] = {}
            text = ["" if _is_missing(value) else "=" + _text(value) for value in values]
            codes.append(np.array([known.setdefault(value, len(known)) for value in text]))
        else:
            codes.append(np.unique(values, return_inverse=True, equal_nan=True)[1].reshape(-1))
    return int(len(np.unique(np.stack(codes, axis=1), axis=0)))


def _text(value) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _number(value) -> float:
    """The shortest decimal that means the same number in the precision it came in."""
    return float(str(value))
