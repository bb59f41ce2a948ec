"""Makes live traffic from a table, for the demo and for trying things out.

    python prepare.py --data-set breast_cancer --out traffic/
    python prepare.py --data-set people.csv --label income --out traffic/

writes `traffic/traffic.json`:

    {"data_set": "breast_cancer", "feature_names": [...], "classes": ["malignant", "benign"],
     "rows": [[...], ...],          rows that train.py never trains on; null where a value is missing
     "labels": [0, 1, ...],         their true classes
     "shifted_rows": [[...], ...],  the same rows after the inputs have shifted, in the same order
     "train_rows": 284,             rows that train.py trains on
     "unseen_rows": 171,            the first rows, which no retraining on recent.csv sees either
     "shift": {"columns": [...], "delta": [...]}}   what was added to which columns

and `traffic/recent.csv`: the rows after the first `unseen_rows`, shifted and labelled, for `train.py --extra-data`.

The shift moves some columns by two to three standard deviations, chosen so that a model trained before it answers
clearly worse; one that is trained on rows from after it answers well again.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

import numpy as np

import tables

# Standard deviations that a column moves by.
SHIFT_SD = (2.0, 2.5, 3.0)
# Share of the columns that shift; at least MIN_SHIFTED_COLUMNS of those that vary.
SHIFTED_SHARE = 0.4
MIN_SHIFTED_COLUMNS = 3
# Wanted accuracy after the shift, as a share of the accuracy before: clearly worse, yet right more often than not, so
# that a model trained after the shift does not contradict the one before it on almost every row.
WANTED_ACCURACY = 0.7
# A shift this near to what is wanted is taken without trying other columns.
NEAR_ENOUGH = 0.1
# So many choices of columns are tried.
MAX_CHOICES = 8
MAX_LIVE_ROWS = 4000
QUICK_UPDATES = 450


def choose_shift(table: tables.Table, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The columns that shift and how far: of a few shifts tried on a model of the training rows, the one that does the
    wanted harm."""
    features, labels = table.features[rows].astype(np.float64), table.labels[rows]
    deviation = np.array([spread(column[np.isfinite(column)]) for column in features.T])
    varying = np.flatnonzero(deviation > 0)
    # A 0/1 column does not shift by standard deviations; it does so only where a table has no other.
    quantities = {name for encoding in table.encodings if encoding["kind"] in ("number", "ordinal")
                  for name in encoding["features"]}
    numeric = np.array([column for column in varying if table.feature_names[column] in quantities], dtype=int)
    varying = numeric if len(numeric) else varying
    if len(varying) == 0:
        raise tables.TableError("every feature has only one value: there is nothing to learn from or to shift")
    score = np.array([separation(features[:, column], labels) for column in varying])
    ranked = varying[np.argsort(-score, kind="stable")]
    count = min(len(varying), max(MIN_SHIFTED_COLUMNS, round(features.shape[1] * SHIFTED_SHARE)))
    starts = np.unique(np.linspace(0, len(varying) - count, MAX_CHOICES).astype(int))
    frequency = np.bincount(labels, minlength=table.class_count)
    model = quick_model(features, labels)
    wanted = WANTED_ACCURACY * model.score(features, labels)
    best = (np.inf, ranked[:count], np.zeros(count))
    for start in starts:
        columns = np.sort(ranked[start : start + count])
        for chosen in {int(frequency.argmax()), int(np.where(frequency > 0, frequency, np.inf).argmin())}:
            # All columns move towards one class, so that their effects add up.
            direction = np.array([towards(features[:, column], labels == chosen) for column in columns])
            for deviations in SHIFT_SD:
                delta = direction * few_digits(deviations * deviation[columns])
                shifted = features.copy()
                shifted[:, columns] += delta
                distance = abs(model.score(shifted, labels) - wanted)
                if distance < best[0]:
                    best = (distance, columns, delta)
        if best[0] < NEAR_ENOUGH:
            break
    return best[1], best[2]


def few_digits(values: np.ndarray) -> np.ndarray:
    """Rounds positive numbers to five binary digits: whole numbers that shift by them stay exact in FP32."""
    unit = 2.0 ** (np.floor(np.log2(values)) - 4)
    return np.round(values / unit) * unit


def spread(values: np.ndarray) -> float:
    """Standard deviation; judged by the middle half of the values where a long tail makes that smaller."""
    if len(values) == 0:
        return 0.0
    low, high = np.percentile(values, [25, 75])
    # Half of a normal distribution lies within 1.349 standard deviations.
    return float(min(values.std(), (high - low) / 1.349) or values.std())


def quick_model(features: np.ndarray, labels: np.ndarray):
    """A model like the one of train.py, to try shifts on."""
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(),
                          MLPClassifier((32,), batch_size=32, learning_rate_init=0.002, alpha=0.1, random_state=0,
                                        max_iter=max(5, QUICK_UPDATES * 32 // len(features))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is stopped early on purpose
        return model.fit(features[:MAX_LIVE_ROWS], labels[:MAX_LIVE_ROWS])


def separation(values: np.ndarray, labels: np.ndarray) -> float:
    """Variance between the classes over variance within them (a plain F statistic without its constants)."""
    known = np.isfinite(values)
    values, labels = values[known].astype(np.float64), labels[known]
    groups = [values[labels == label] for label in np.unique(labels)]
    between = sum(len(group) * (group.mean() - values.mean()) ** 2 for group in groups)
    within = sum(((group - group.mean()) ** 2).sum() for group in groups)
    return float(between / within) if within > 0 else float(between > 0) * 1e9


def towards(values: np.ndarray, chosen: np.ndarray) -> float:
    """+1 if the chosen rows have the greater values, else -1."""
    inside, outside = values[chosen & np.isfinite(values)], values[~chosen & np.isfinite(values)]
    if len(inside) == 0 or len(outside) == 0:
        return 1.0
    return 1.0 if inside.mean() >= outside.mean() else -1.0


def as_json(rows: np.ndarray) -> list[list[float | None]]:
    """Numbers with the digits that FP32 has; JSON has no NaN."""
    return [[None if np.isnan(value) else float(str(value)) for value in row] for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-set", required=True, help=f"a CSV file, or one of {', '.join(tables.BUILT_IN)}")
    parser.add_argument("--label", help="the column to predict (CSV only)")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where to write traffic.json and recent.csv")
    arguments = parser.parse_args()
    try:
        table = tables.load(arguments.data_set, arguments.label)
        parts = tables.split(table)
        columns, delta = choose_shift(table, parts.train)
    except tables.TableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    live, recent = parts.live[:MAX_LIVE_ROWS], parts.recent[:MAX_LIVE_ROWS]
    shifted = table.features.copy()
    shifted[:, columns] += delta.astype(np.float32)
    rows = np.concatenate([live, recent])
    traffic = {
        "data_set": table.name,
        "feature_names": table.feature_names,
        "classes": table.classes,
        "rows": as_json(table.features[rows]),
        "labels": table.labels[rows].tolist(),
        "shifted_rows": as_json(shifted[rows]),
        "train_rows": len(parts.train),
        "unseen_rows": len(live),
        "shift": {"columns": [table.feature_names[column] for column in columns], "delta": delta.tolist()},
    }
    folder = Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "traffic.json").write_text(json.dumps(traffic) + "\n")
    tables.save_encoded(str(folder / "recent.csv"), table, shifted[recent], table.labels[recent])
    print(f"{table.name}: {len(rows)} live rows ({len(live)} unseen by any training); "
          f"{len(columns)} of {len(table.feature_names)} columns shift")
    return 0


if __name__ == "__main__":
    sys.exit(main())
