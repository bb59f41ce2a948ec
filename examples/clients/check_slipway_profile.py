"""The profile helper: numbers, strings, booleans, missing values, data frames and several tensors."""

from __future__ import annotations

import json
import pathlib
import sys

import numpy as np
import pandas as pd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "training"))
import slipway_profile  # noqa: E402


def features(*arguments, **more) -> dict[str, dict]:
    profile = slipway_profile.profile(*arguments, **more)
    assert json.loads(json.dumps(profile, allow_nan=False)) == profile, "it is JSON"
    for entry in profile["features"] + profile["predictions"]:
        assert sum(entry["counts"]) <= profile["rows"], entry
        assert len(entry["counts"]) == (len(entry["values"]) if entry["kind"] == "categorical" else len(entry["edges"]) + 1), entry
    return {entry["name"]: entry for entry in profile["features"] + profile["predictions"]}


def check_kinds() -> None:
    frame = pd.DataFrame({
        "number": [1.0, None, 3.0, 4.0], "text": ["x", None, "y", "x"], "flag": [True, False, True, True],
        "whole": pd.array([1, None, 3, 3], dtype="Int64"), "level": pd.Categorical(["q", "r", "q", "q"]),
        "maybe": pd.array([True, None, False, True], dtype="boolean"), "empty": [None] * 4,
    })
    found = features(None, frame, {"label": np.array([0, 1, 1, 1]), "score": np.random.rand(4, 2)}, classes={"label": [0, 1, 2]})
    kinds = {name: (entry["kind"], entry["missing_rate"]) for name, entry in found.items()}
    assert kinds == {
        "number": ("numeric", 0.25), "text": ("categorical", 0.25), "flag": ("categorical", 0.0), "whole": ("numeric", 0.25),
        "level": ("categorical", 0.0), "maybe": ("categorical", 0.25), "empty": ("numeric", 1.0), "label": ("categorical", 0.0),
        "score[0]": ("numeric", 0.0), "score[1]": ("numeric", 0.0),
    }, kinds
    assert (found["flag"]["values"], found["flag"]["counts"]) == (["False", "True"], [1, 3])
    assert (found["text"]["values"], found["text"]["counts"]) == (["x", "y"], [2, 1])
    assert (found["label"]["values"], found["label"]["counts"]) == (["0", "1", "2"], [1, 3, 0])
    assert (found["score[1]"]["tensor"], found["score[1]"]["index"]) == ("score", 1)
    assert features(["code"], np.array([[1], [2], [2]]), categorical=["code"])["code"]["counts"] == [1, 2]


def check_tables() -> None:
    strings = features(["island"], np.array([["Dream"], ["Biscoe"]], dtype=object), {})
    assert strings["island"]["kind"] == "categorical"
    mixed = features(["a", "b"], [[1, "x"], [2.5, "y"], [None, None]])
    assert (mixed["a"]["kind"], mixed["b"]["kind"], mixed["a"]["max"]) == ("numeric", "categorical", 2.5), mixed
    tensors = features(None, {"num": np.random.rand(5, 2), "region": np.array(list("aabbc"))})
    assert {name: (entry["tensor"], entry["index"]) for name, entry in tensors.items()} == {
        "num[0]": ("num", 0), "num[1]": ("num", 1), "region": ("region", 0)}
    many = features(["id"], [[f"user-{i}"] for i in range(1_000)])
    assert len(many["id"]["values"]) == 200
    assert slipway_profile.profile(["a", "b"], [[1, "x"], [1, "x"], [2, None], [2, None]])["distinct_rows"] == 2


def check_edges() -> None:
    for base in (0.0, 2e7, 9e15):
        values = base + np.arange(1_000.0)
        entry = slipway_profile.numeric(values)
        again = np.bincount(np.searchsorted(entry["edges"], values, side="right"), minlength=len(entry["counts"]))
        assert again.tolist() == entry["counts"], "the counts are those of the edges"


def check_refusals() -> None:
    for expected, arguments in [
        ("column 't' has values of type datetime64", (["t"], pd.DataFrame({"t": pd.to_datetime(["2026-01-01"])}))),
        ("column 'o' has a value of type list", (["o"], pd.DataFrame({"o": [[1], None]}))),
        ("2 feature names for 1 columns", (["a", "b"], [[1], [2]])),
        ("expected a table of rows x columns", (["a"], np.zeros(3))),
    ]:
        try:
            slipway_profile.profile(*arguments)
        except (TypeError, ValueError) as error:
            assert expected in str(error), (expected, error)
        else:
            raise AssertionError(f"not refused: {expected}")


if __name__ == "__main__":
    check_kinds()
    check_tables()
    check_edges()
    check_refusals()
    print("the profile helper is fine")
