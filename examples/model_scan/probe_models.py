"""Fits ordinary models of scikit-learn, XGBoost and LightGBM and pickles them, for the list of safe globals.

    python probe_models.py FOLDER      # writes FOLDER/<model>.pkl (protocols 2 and 5) and .joblib

Used by `safe_globals.py`, and by hand to make test files.
"""

from __future__ import annotations

import pickle
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np

ROWS = 80
SEED = 0
PROTOCOLS = (2, 5)


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(SEED)
    features = random.normal(size=(ROWS, 4))
    return features, (features[:, 0] + features[:, 1] > 0).astype(int), features @ np.arange(4.0)


def _estimators() -> dict[str, object]:
    """Every estimator of scikit-learn that fits a plain table with its default parameters."""
    from sklearn.utils import all_estimators

    made = {}
    for name, cls in all_estimators():
        try:
            made[name] = cls()
        except TypeError:
            pass  # It wants another estimator: see `_composed`.
    return made


def _composed() -> dict[str, object]:
    from sklearn import (
        calibration, compose, ensemble, feature_extraction, feature_selection, gaussian_process, impute, kernel_approximation,
        linear_model, model_selection, multiclass, multioutput, naive_bayes, neighbors, pipeline, preprocessing, svm, tree,
    )
    from sklearn.gaussian_process import kernels
    from sklearn.metrics import make_scorer, f1_score

    logistic = linear_model.LogisticRegression()
    scaled = pipeline.make_pipeline(preprocessing.StandardScaler(), logistic)
    columns = compose.ColumnTransformer(
        [
            ("numbers", pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler()), [0, 1]),
            ("powers", preprocessing.PolynomialFeatures(), slice(2, 3)),
        ],
        remainder="passthrough",
    )
    forest = ensemble.RandomForestClassifier(n_estimators=3, random_state=SEED)
    return {
        "pipeline": scaled,
        "columns": pipeline.make_pipeline(columns, logistic),
        "selected_by_dtype": compose.make_column_transformer(
            (preprocessing.StandardScaler(), compose.make_column_selector(dtype_include=np.number)),
        ),
        "union": pipeline.make_union(preprocessing.MinMaxScaler(), preprocessing.RobustScaler()),
        "grid": model_selection.GridSearchCV(logistic, {"C": [0.1, 1.0], "class_weight": [None, "balanced"]}, cv=3),
        "grid_scored": model_selection.GridSearchCV(
            forest, {"max_depth": [2, 3]}, scoring={"accuracy": "accuracy", "f1": make_scorer(f1_score)}, refit="f1", cv=2
        ),
        "grid_auc": model_selection.GridSearchCV(
            svm.SVC(), {"C": [1.0]}, scoring="roc_auc", cv=model_selection.StratifiedKFold(2, shuffle=True, random_state=1)
        ),
        "randomized": model_selection.RandomizedSearchCV(forest, {"max_depth": range(1, 4)}, n_iter=2, cv=2, random_state=SEED),
        "calibrated": calibration.CalibratedClassifierCV(naive_bayes.GaussianNB(), cv=2),
        "calibrated_isotonic": calibration.CalibratedClassifierCV(tree.DecisionTreeClassifier(), method="isotonic", cv=2),
        "voting": ensemble.VotingClassifier([("a", logistic), ("b", forest)], voting="soft"),
        "stacking": ensemble.StackingClassifier([("a", logistic), ("b", forest)], cv=2),
        "bagging": ensemble.BaggingClassifier(tree.DecisionTreeClassifier(), n_estimators=3, random_state=SEED),
        "boosting": ensemble.AdaBoostClassifier(n_estimators=3),
        "one_vs_rest": multiclass.OneVsRestClassifier(logistic),
        "output_code": multiclass.OutputCodeClassifier(logistic, random_state=SEED),
        "multi_output": multioutput.MultiOutputRegressor(linear_model.Ridge()),
        "chain": multioutput.ClassifierChain(logistic),
        "kbest": pipeline.make_pipeline(feature_selection.SelectKBest(feature_selection.f_classif, k=2), logistic),
        "mutual": feature_selection.SelectPercentile(feature_selection.mutual_info_classif, percentile=50),
        "rfe": feature_selection.RFE(logistic, n_features_to_select=2),
        "from_model": feature_selection.SelectFromModel(forest),
        "target": compose.TransformedTargetRegressor(linear_model.LinearRegression(), func=np.log1p, inverse_func=np.expm1),
        "function": preprocessing.FunctionTransformer(np.log1p),
        "function_none": preprocessing.FunctionTransformer(),
        "gaussian_process": gaussian_process.GaussianProcessRegressor(
            1.0 * kernels.RBF() + kernels.WhiteKernel() + kernels.Matern(nu=1.5) * kernels.RationalQuadratic()
        ),
        "svr": svm.SVR(),
        "neighbors_ball": neighbors.KNeighborsClassifier(algorithm="ball_tree", metric="manhattan"),
        "neighbors_kd": neighbors.KNeighborsRegressor(algorithm="kd_tree"),
        "density": neighbors.KernelDensity(),
        "outliers": neighbors.LocalOutlierFactor(novelty=True),
        "gradient": ensemble.GradientBoostingClassifier(n_estimators=3, random_state=np.random.RandomState(3)),
        "gradient_regressor": ensemble.GradientBoostingRegressor(n_estimators=3, loss="huber"),
        "histogram": ensemble.HistGradientBoostingClassifier(max_iter=3),
        "histogram_poisson": ensemble.HistGradientBoostingRegressor(max_iter=3, loss="squared_error"),
        "sgd_log": linear_model.SGDClassifier(loss="log_loss"),
        "sgd_huber": linear_model.SGDRegressor(loss="huber"),
        "sgd_outliers": linear_model.SGDOneClassSVM(),
        "ridge_cv": linear_model.RidgeCV(),
        "logistic_cv": linear_model.LogisticRegressionCV(cv=2, Cs=2),
        "splines": preprocessing.SplineTransformer(),
        "quantiles": preprocessing.QuantileTransformer(n_quantiles=10),
        "bins": preprocessing.KBinsDiscretizer(n_bins=3),
        "random_trees": ensemble.RandomTreesEmbedding(n_estimators=3),
        "isolation": ensemble.IsolationForest(n_estimators=3),
        "generator": kernel_approximation.RBFSampler(random_state=np.random.RandomState(1)),
    }


def _texts() -> dict[str, object]:
    """Fitted models that do not take a plain table."""
    from sklearn import compose, feature_extraction, impute, linear_model, pipeline, preprocessing
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer

    texts, labels = ["append the file", "extend a list", "add more words", "no words"], [0, 1, 0, 1]
    strings = np.array([["a", "x"], ["b", "y"], ["a", "z"], ["c", "x"]], dtype=object)
    encoders = [preprocessing.OneHotEncoder(handle_unknown="ignore"), preprocessing.OrdinalEncoder()]
    return {
        "words": pipeline.make_pipeline(TfidfVectorizer(), linear_model.LogisticRegression()).fit(texts, labels),
        "counts": CountVectorizer(ngram_range=(1, 2)).fit(texts),
        "hashes": HashingVectorizer(n_features=16).fit(texts),
        "dicts": feature_extraction.DictVectorizer().fit([{"a": 1, "b": "x"}]),
        "labels": preprocessing.LabelEncoder().fit(["a", "b"]),
        "binary_labels": preprocessing.LabelBinarizer(sparse_output=True).fit(["a", "b", "c"]),
        "label_sets": preprocessing.MultiLabelBinarizer().fit([("a", "b"), ("c",)]),
        "one_hot": encoders[0].fit(strings),
        "ordinal": encoders[1].fit(strings),
        "target_encoder": preprocessing.TargetEncoder(cv=2).fit(np.tile(strings, (5, 1)), np.tile(labels, 5)),
        "missing_strings": impute.SimpleImputer(strategy="most_frequent").fit(strings),
        "mixed_columns": compose.ColumnTransformer(
            [("one_hot", preprocessing.OneHotEncoder(), [0]), ("ordinal", preprocessing.OrdinalEncoder(), [1])]
        ).fit(strings),
    }


def _boosted(features: np.ndarray, classes: np.ndarray, values: np.ndarray) -> dict[str, object]:
    made = {}
    try:
        import xgboost

        small = {"n_estimators": 3, "max_depth": 2}
        made |= {
            "xgb_classifier": xgboost.XGBClassifier(**small).fit(features, classes),
            "xgb_regressor": xgboost.XGBRegressor(**small).fit(features, values),
            "xgb_ranker": xgboost.XGBRanker(**small).fit(features, classes, group=[ROWS]),
            "xgb_forest": xgboost.XGBRFClassifier(**small).fit(features, classes),
            "xgb_stopped": xgboost.XGBClassifier(early_stopping_rounds=2, **small).fit(
                features, classes, eval_set=[(features, classes)], verbose=False
            ),
            "xgb_booster": xgboost.train({"max_depth": 2}, xgboost.DMatrix(features, values), 2),
        }
    except ImportError:
        print("xgboost is not installed", file=sys.stderr)
    try:
        import lightgbm

        small = {"n_estimators": 3, "num_leaves": 4, "verbose": -1}
        made |= {
            "lgbm_classifier": lightgbm.LGBMClassifier(**small).fit(features, classes),
            "lgbm_regressor": lightgbm.LGBMRegressor(**small).fit(features, values),
            "lgbm_ranker": lightgbm.LGBMRanker(**small).fit(features, classes, group=[ROWS]),
            "lgbm_evaluated": lightgbm.LGBMClassifier(**small).fit(features, classes, eval_set=[(features, classes)]),
            "lgbm_booster": lightgbm.train({"verbose": -1, "num_leaves": 4}, lightgbm.Dataset(features, values), 2),
        }
    except ImportError:
        print("lightgbm is not installed", file=sys.stderr)
    return made


def models() -> dict[str, object]:
    """Fitted models by name. What does not fit the data is left out."""
    warnings.filterwarnings("ignore")
    features, classes, values = data()
    fitted: dict[str, object] = {}
    for name, model in {**_estimators(), **_composed()}.items():
        for inputs, target in ((features, classes), (np.abs(features), classes), (features, values), (features, values[:, None])):
            try:
                fitted[name] = model.fit(inputs, target)
                break
            except Exception:  # noqa: BLE001 - another kind of target, or of input
                continue
    fitted |= _texts()
    fitted |= _boosted(features, classes, values)
    return fitted


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in models().items():
        for protocol in PROTOCOLS:
            try:
                (folder / f"{name}.p{protocol}.pkl").write_bytes(pickle.dumps(model, protocol))
            except Exception as error:  # noqa: BLE001
                print(f"{name} cannot be pickled: {error}", file=sys.stderr)
        try:
            joblib.dump(model, folder / f"{name}.joblib")
        except Exception as error:  # noqa: BLE001
            print(f"{name} cannot be dumped: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
