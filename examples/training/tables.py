"""Tables for the training example: loading, encoding as numbers, and one fixed split.

Both `train.py` and `prepare.py` read a table through this module, so that the rows of the live traffic are
never among the rows a model was trained on.

How a CSV becomes numbers (what was done to each column is kept as an `encoding`, logged as `slipway/features.json`):

* a number column stays as it is; an infinite value counts as missing;
* true/false becomes 1/0;
* a text column with up to MAX_ONE_HOT_VALUES values becomes one 0/1 column for each, named `column=value`;
  a missing text is 0 in all of them;
* a text column with more values becomes one column of their positions in alphabetical order; missing stays missing;
* a text column where most rows differ (an identifier, a date, free text), a column without any value and an index that
  pandas wrote are left out.

Labels that are text or numbers become 0..k-1 in their sorted order; a row without a label is left out.
"""

from __future__ import annotations

import csv
import hashlib
import os
import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd

MAX_ONE_HOT_VALUES = 8
MAX_ORDINAL_VALUES = 200
# A text column is an identifier when more than this share of its values occur once.
IDENTIFIER_SHARE = 0.5
MAX_CLASSES = 100
MIN_ROWS = 40
# The split does not depend on --seed: every version is trained and judged on the same rows.
SPLIT_SEED = 20
TRAIN_SHARE = 0.5
LIVE_SHARE = 0.3
SEPARATORS = (",", ";", "\t", "|")
BUILT_IN = ("breast_cancer", "digits", "iris", "wine")


class TableError(Exception):
    """A table that cannot be used, with a message for the person who chose it."""


@dataclass
class Table:
    """A classification table: numbers, labels 0..k-1, and how both came about."""

    name: str
    source: str
    feature_names: list[str]
    features: np.ndarray  # float32, rows x columns, NaN where a value is missing
    labels: np.ndarray  # int64
    classes: list[str]  # what the label numbers stand for
    encodings: list[dict]
    digest: str

    @property
    def class_count(self) -> int:
        return len(self.classes)


@dataclass
class Split:
    """Row numbers of the three parts of a table."""

    train: np.ndarray
    live: np.ndarray  # live traffic, and the test set of every version
    recent: np.ndarray  # live traffic that has been labelled by the time of a retraining


def load(name_or_path: str, label: str | None = None) -> Table:
    """Loads a built-in data set by its name, or a CSV file by its path."""
    if name_or_path in BUILT_IN and not os.path.exists(name_or_path):
        return _built_in(name_or_path)
    if not os.path.isfile(name_or_path):
        names = ", ".join(BUILT_IN)
        raise TableError(f"--data-set {name_or_path!r} is neither a file nor one of the built-in data sets ({names})")
    if label is None:
        raise TableError(f"--label is needed with a CSV file: which column of {name_or_path!r} is to be predicted?")
    return _csv(name_or_path, label)


def load_encoded(path: str, table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Loads further labelled rows that are already numbers: a CSV with the table's feature names and `label`."""
    expected = [*table.feature_names, "label"]
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            header = next(csv.reader(handle), [])
            if header != expected:
                raise TableError(f"--extra-data {path!r} must have the columns {expected}, in this order; "
                                 f"it has {header}")
            rows = pd.read_csv(handle, header=None, dtype=np.float64).to_numpy()
    except (OSError, ValueError) as error:
        raise TableError(f"--extra-data {path!r} cannot be read as numbers: {error}") from error
    if rows.shape[0] == 0 or rows.shape[1] != len(expected):
        raise TableError(f"--extra-data {path!r} must hold rows of {len(expected)} numbers; its shape is {rows.shape}")
    labels = rows[:, -1]
    if not np.isin(labels, np.arange(table.class_count)).all():
        raise TableError(f"--extra-data {path!r}: column 'label' must hold the numbers 0 to {table.class_count - 1}")
    return _as_float32(rows[:, :-1]), labels.astype(np.int64)


def save_encoded(path: str, table: Table, features: np.ndarray, labels: np.ndarray) -> None:
    """Writes rows in the form that `load_encoded` reads."""
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow([*table.feature_names, "label"])
        for row, label in zip(features, labels):
            writer.writerow([*("" if np.isnan(value) else str(value) for value in row), int(label)])


def split(table: Table) -> Split:
    """The fixed split of a table; the shares of the classes are kept where each class has enough rows."""
    from sklearn.model_selection import train_test_split

    def divide(rows: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        smallest = np.bincount(table.labels[rows], minlength=table.class_count).min()
        stratify = table.labels[rows] if smallest * min(share, 1 - share) >= 1 else None
        return tuple(train_test_split(rows, train_size=share, random_state=SPLIT_SEED, stratify=stratify))

    train, held_out = divide(np.arange(len(table.labels)), TRAIN_SHARE)
    live, recent = divide(held_out, LIVE_SHARE / (1 - TRAIN_SHARE))
    return Split(train, live, recent)


def _built_in(name: str) -> Table:
    from sklearn import datasets

    loaded = getattr(datasets, f"load_{name}")()
    feature_names = [str(feature) for feature in loaded.feature_names]
    encodings = [{"column": feature, "kind": "number", "features": [feature]} for feature in feature_names]
    return _finish(name, f"sklearn.datasets.load_{name}", loaded.data, feature_names, encodings,
                   loaded.target.astype(np.int64), [str(class_name) for class_name in loaded.target_names])


def _csv(path: str, label: str) -> Table:
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            header = handle.readline()
        separator = max(SEPARATORS, key=header.count)
        frame = pd.read_csv(path, sep=separator, encoding="utf-8-sig", skipinitialspace=True, low_memory=False)
    except (OSError, ValueError) as error:
        raise TableError(f"{path!r} cannot be read as a CSV file: {error}") from error
    frame.columns = [str(column).strip() for column in frame.columns]
    if label not in frame.columns:
        raise TableError(f"column {label!r} (--label) is not in {path!r}; its columns are: {', '.join(frame.columns)}")
    unlabelled = int(frame[label].isna().sum())
    if unlabelled:
        print(f"{unlabelled} rows without a label are left out", file=sys.stderr)
        frame = frame[frame[label].notna()].reset_index(drop=True)
    labels, classes = _encode_labels(frame[label], label)
    columns, names, encodings = [], [], []
    for column in frame.columns.drop(label):
        encoding, values = _encode(frame[column])
        # A text value may make a name that another column has.
        encoding["features"] = [_unused(feature, names) for feature in encoding["features"]]
        encodings.append(encoding)
        names.extend(encoding["features"])
        columns.extend(values)
    if not columns:
        raise TableError(f"no column of {path!r} other than {label!r} can be used as a feature")
    name = os.path.splitext(os.path.basename(path))[0]
    return _finish(name, os.path.abspath(path), np.column_stack(columns), names, encodings, labels, classes)


def _unused(name: str, names: list[str]) -> str:
    while name in names:
        name += "_"
    return name


def _encode_labels(column: pd.Series, label: str) -> tuple[np.ndarray, list[str]]:
    if pd.api.types.is_bool_dtype(column):
        column = column.astype(int)
    elif not pd.api.types.is_numeric_dtype(column):
        column = column.astype(str).str.strip()
    values = sorted(column.unique())
    if len(values) < 2:
        found = f"only the value '{values[0]}'" if values else "no value"
        raise TableError(f"the label column {label!r} has {found}: at least 2 classes are needed")
    if len(values) > MAX_CLASSES:
        raise TableError(f"the label column {label!r} has {len(values)} different values; this script trains "
                         f"classifiers of at most {MAX_CLASSES} classes. For a quantity, make a column of ranges first")
    numbers = {value: number for number, value in enumerate(values)}
    labels = column.map(numbers).to_numpy(dtype=np.int64)
    shown = [str(int(value)) if isinstance(value, float) and value.is_integer() else str(value) for value in values]
    return labels, shown


def _encode(column: pd.Series) -> tuple[dict, list[np.ndarray]]:
    """What a column becomes: a description, and the numbers of its feature columns."""
    name = str(column.name)
    known = column.dropna()
    dropped = {"column": name, "kind": "dropped", "features": []}
    if known.empty:
        return {**dropped, "reason": "no value"}, []
    if name.startswith("Unnamed:"):
        return {**dropped, "reason": "index"}, []
    if pd.api.types.is_bool_dtype(column):
        return {"column": name, "kind": "boolean", "features": [name]}, [column.to_numpy(dtype=np.float64)]
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return {"column": name, "kind": "number", "features": [name]}, [numbers]
    text = column.where(column.isna(), column.astype(str).str.strip())
    values = sorted(text.dropna().unique())
    if {value.lower() for value in values} <= {"true", "false"}:
        numbers = text.map(lambda value: float(value.lower() == "true"), na_action="ignore")
        return {"column": name, "kind": "boolean", "features": [name]}, [numbers.to_numpy(dtype=np.float64)]
    if len(values) <= MAX_ONE_HOT_VALUES:
        features = [f"{name}={value}" for value in values]
        encoding = {"column": name, "kind": "one-hot", "values": values, "features": features}
        return encoding, [(text == value).to_numpy(dtype=np.float64) for value in values]
    single = int((text.value_counts() == 1).sum())
    if len(values) > MAX_ORDINAL_VALUES or single > IDENTIFIER_SHARE * len(known):
        return {**dropped, "reason": f"{len(values)} different texts"}, []
    numbers = text.map({value: number for number, value in enumerate(values)})
    encoding = {"column": name, "kind": "ordinal", "values": values, "features": [name]}
    return encoding, [numbers.to_numpy(dtype=np.float64)]


def _finish(name: str, source: str, features: np.ndarray, feature_names: list[str], encodings: list[dict],
            labels: np.ndarray, classes: list[str]) -> Table:
    if len(labels) < MIN_ROWS:
        raise TableError(f"{source!r} has {len(labels)} labelled rows; at least {MIN_ROWS} are needed")
    features = _as_float32(features)
    content = hashlib.sha256(repr(feature_names).encode() + features.tobytes() + labels.tobytes())
    return Table(name, source, feature_names, features, labels, classes, encodings, content.hexdigest()[:32])


def _as_float32(features: np.ndarray) -> np.ndarray:
    """The model computes in FP32: what it cannot hold counts as missing."""
    limit = float(np.finfo(np.float32).max)
    features = np.where(np.abs(features) <= limit, features, np.nan)
    return np.ascontiguousarray(features, dtype=np.float32)
