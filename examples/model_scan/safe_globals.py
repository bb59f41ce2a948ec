"""Writes the list of globals that pickles of scikit-learn, XGBoost, LightGBM, numpy and scipy models may use.

    python safe_globals.py > list.txt                                   # for the packages that are installed here
    python safe_globals.py --merge ../../crates/model-scan/lists/python_models.txt > list.txt   # and what was listed before
    python safe_globals.py --check list.txt                             # every model of probe_models.py needs only these

Each line of the list is a permission and a name:

    class       a class that only holds data: a pickle may make an instance without calling its constructor, set the state
                of the instance once, and refer to the class
    instance    as `class`, but the pickle may not refer to it elsewhere: its constructor reads files
    call        a function or class that a pickle may call with any arguments, and refer to
    reference   a function that a pickle may refer to, and not call

A class is listed where it belongs to a family below and nothing that runs while it is unpickled, kept or thrown away is its
own: no `__new__`, `__setstate__`, `__reduce__`, `__setattr__`, `__del__` or property setter, unless `REVIEWED` says why it is
harmless. What is left out, and why, goes to standard error. A reader of the list must also hold that a pickle can put any
listed name where a method is expected (`instance.__dict__["__setstate__"] = name`): functions have to be harmless with any
arguments, and so do the constructors of what is listed as `class`.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import io
import pickle
import pickletools
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

warnings.filterwarnings("ignore")

PERMISSIONS = ("reference", "instance", "class", "call")
PACKAGES = ("sklearn", "xgboost", "lightgbm", "numpy", "scipy", "joblib", "skops")
HOOKS = (
    "__new__", "__setstate__", "__reduce__", "__reduce_ex__", "__setattr__", "__del__", "__getattr__", "__getattribute__",
    "__getnewargs__", "__getnewargs_ex__", "__init_subclass__",
)
# Modules whose classes are not models, or that read files, start processes, plot or test.
SKLEARN_LEFT_OUT = (
    ".tests", ".externals", ".datasets", ".conftest", "._build_utils", ".experimental", ".utils.", "._plot", ".callback",
    ".inspection", "._testing",
)
# Bases of everything that a fitted model holds.
SKLEARN_BASES = ("sklearn.base.BaseEstimator", "sklearn.gaussian_process.kernels.Kernel", "sklearn.model_selection._split.BaseCrossValidator",
                 "sklearn.model_selection._split.BaseShuffleSplit", "sklearn.model_selection._split._RepeatedSplits",
                 "sklearn._loss.loss.BaseLoss", "sklearn._loss.link.BaseLink", "sklearn.metrics._scorer._BaseScorer",
                 "sklearn.neural_network._stochastic_optimizers.BaseOptimizer", "sklearn.ensemble._gb_losses.LossFunction")
# Classes without such a base.
CLASSES = (
    "sklearn._loss.link.Interval",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.cluster._birch._CFNode",
    "sklearn.cluster._birch._CFSubcluster",
    "sklearn.cluster._bisect_k_means._BisectingTree",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.compose._column_transformer._RemainderColsList",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.feature_selection._rfe._RFEState",
    "sklearn.gaussian_process.kernels.Hyperparameter",
    "sklearn.impute._iterative._ImputerTriplet",
    "sklearn.linear_model._linear_loss.LinearModelLoss",
    "sklearn.metrics._scorer._MultimetricScorer",
    "sklearn.metrics._scorer._PassthroughScorer",
    "sklearn.model_selection._search.ParameterGrid",
    "sklearn.model_selection._search.ParameterSampler",
    "sklearn.model_selection._search_successive_halving._SubsampleMetaSplitter",
    "sklearn.model_selection._split._CVIterableWrapper",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils._encode.MissingValues",
    "sklearn.utils._encode._nandict",
    "sklearn.utils._metadata_requests.MetadataRequest",
    "sklearn.utils._metadata_requests.MethodMetadataRequest",
    "scipy.interpolate._bsplines.BSpline",
    "scipy.optimize._optimize.OptimizeResult",
    "scipy.sparse._bsr.bsr_matrix", "scipy.sparse._bsr.bsr_array",
    "scipy.sparse._coo.coo_matrix", "scipy.sparse._coo.coo_array",
    "scipy.sparse._csc.csc_matrix", "scipy.sparse._csc.csc_array",
    "scipy.sparse._csr.csr_matrix", "scipy.sparse._csr.csr_array",
    "scipy.sparse._dia.dia_matrix", "scipy.sparse._dia.dia_array",
    "scipy.sparse._lil.lil_matrix", "scipy.sparse._lil.lil_array",
    "numpy.ma.MaskedArray", "numpy.ma.core.MaskedArray",
    "numpy.random._mt19937.MT19937", "numpy.random._pcg64.PCG64", "numpy.random._pcg64.PCG64DXSM",
    "numpy.random._philox.Philox", "numpy.random._sfc64.SFC64", "numpy.random.bit_generator.SeedSequence",
    "builtins.object", "builtins.bool", "builtins.int", "builtins.float", "builtins.str", "builtins.list", "builtins.dict",
    "builtins.tuple", "collections.OrderedDict", "collections.Counter",
)
# Extension types that are found by what they are made by: a function of their module, or themselves.
CALLS = (
    "builtins.range",
    "numpy.ma.core._mareconstruct",
    "numpy.random._pickle.__bit_generator_ctor",
    "numpy.random._pickle.__generator_ctor",
    "numpy.random._pickle.__randomstate_ctor",
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
    "sklearn.metrics._dist_metrics.newObj",
    "sklearn.neighbors._ball_tree.newObj",
    "sklearn.neighbors._kd_tree.newObj",
    "sklearn.tree._tree.Tree",
)
CALL_PREFIXES = (("sklearn._loss._loss", "Cy"), ("sklearn._loss._loss", "__pyx_unpickle_Cy"))
SGD_LOSSES = (
    "Hinge", "SquaredHinge", "ModifiedHuber", "EpsilonInsensitive", "SquaredEpsilonInsensitive", "Huber", "SquaredLoss", "Log",
    "Regression", "Classification",
)
# Their instances hold a callable of Python, or are for the library's own tests.
CALLS_LEFT_OUT = ("PyFuncDistance", "Pytest")
# Read a file where their constructor is given one.
INSTANCES = ("xgboost.core.Booster", "lightgbm.basic.Booster")
FUNCTION_MODULES = ("sklearn.metrics", "sklearn.metrics.pairwise")
FUNCTIONS_LEFT_OUT = ("make_scorer", "get_scorer", "get_scorer_names", "check_scoring")
FUNCTIONS = (
    "sklearn.cluster._kmeans._kmeans_single_elkan",
    "sklearn.cluster._kmeans._kmeans_single_lloyd",
    "scipy._lib.array_api_compat.numpy._aliases.asarray",
    "sklearn.feature_selection._mutual_info.mutual_info_classif",
    "sklearn.feature_selection._mutual_info.mutual_info_regression",
    "sklearn.feature_selection._univariate_selection.chi2",
    "sklearn.feature_selection._univariate_selection.f_classif",
    "sklearn.feature_selection._univariate_selection.f_oneway",
    "sklearn.feature_selection._univariate_selection.f_regression",
    "sklearn.feature_selection._univariate_selection.r_regression",
    "numpy.asarray", "numpy.clip", "numpy.mean", "numpy.median", "numpy.nan_to_num", "numpy.std", "numpy.sum", "numpy.var",
)
# What runs while these are unpickled, kept or thrown away, and why that is harmless.
REVIEWED = {
    "sklearn.base.BaseEstimator.__setstate__": "compares versions and updates __dict__",
    "sklearn.base.BaseEstimator.__init_subclass__": "makes methods of a new class; no pickle makes one",
    "sklearn.isotonic.IsotonicRegression.__setstate__": "interpolates between two stored arrays",
    "sklearn.frozen._frozen.FrozenEstimator.__getattr__": "passes on to the estimator that it holds",
    "sklearn.compose._column_transformer.ColumnTransformer._transformers": "sets a list",
    "sklearn.feature_extraction.text.TfidfVectorizer.idf_": "sets an array",
    "sklearn.gaussian_process.kernels.CompoundKernel.theta": "sets numbers",
    "sklearn.gaussian_process.kernels.Exponentiation.theta": "sets numbers",
    "sklearn.gaussian_process.kernels.Kernel.theta": "sets numbers",
    "sklearn.gaussian_process.kernels.KernelOperator.theta": "sets numbers",
    "sklearn.linear_model._passive_aggressive.PassiveAggressiveClassifier.__new__": "warns of a deprecation",
    "sklearn.linear_model._passive_aggressive.PassiveAggressiveRegressor.__new__": "warns of a deprecation",
    "sklearn.utils._repr_html.base._HTMLDocumentationLinkMixin._doc_link_template": "sets a string",
    "sklearn.utils._estimator_html_repr._HTMLDocumentationLinkMixin._doc_link_template": "sets a string",
    "sklearn.utils._metadata_requests._MetadataRequester.__init_subclass__": "makes methods of a new class; no pickle makes one",
    "sklearn.utils._set_output._SetOutputMixin.__init_subclass__": "wraps methods of a new class; no pickle makes one",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor.__setstate__": "updates __dict__ and converts an array",
    "sklearn.utils._metadata_requests.MetadataRequest.__getattr__": "reads a request of the object",
    "scipy.interpolate._bsplines.BSpline.t": "sets an array", "scipy.interpolate._bsplines.BSpline.c": "sets an array",
    "scipy.sparse._coo.coo_matrix.__setstate__": "updates __dict__ and renames old attributes",
    "numpy.ma.MaskedArray.__reduce__": "is not called by loading",
    "sklearn.utils._bunch.Bunch.__setstate__": "does nothing",
    "sklearn.utils._bunch.Bunch.__setattr__": "sets an item of the dict",
    "sklearn.utils._bunch.Bunch.__getattr__": "reads an item of the dict",
    "sklearn.linear_model._stochastic_gradient.BaseSGD.coef_": "sets an array",
    "sklearn.linear_model._stochastic_gradient.BaseSGD.intercept_": "sets an array",
    "scipy.optimize._optimize.OptimizeResult.__getattr__": "reads an item of the dict",
    "scipy._lib._util._RichResult.__getattr__": "reads an item of the dict",
    "scipy.optimize._optimize.OptimizeResult.__setattr__": "sets an item of the dict",
    "scipy._lib._util._RichResult.__setattr__": "sets an item of the dict",
    "scipy.sparse._base.spmatrix.__getattr__": "transposes or converts the matrix",
    "scipy.sparse._base._spbase.__getattr__": "transposes or converts the matrix",
    "numpy.ma.MaskedArray.__new__": "makes an array of data", "numpy.ma.MaskedArray.__setstate__": "sets data, mask and fill value",
    "numpy.ma.core.MaskedArray.__new__": "makes an array of data",
    "numpy.ma.core.MaskedArray.__setstate__": "sets data, mask and fill value",
    "numpy.ma.core.MaskedArray.__setattr__": "sets an attribute, and the mask where that is its name",
    "numpy.ma.core.MaskedArray.__reduce__": "is not called by loading",
    "lightgbm.basic.Booster.__setstate__": "parses a model from a string in memory",
    "lightgbm.basic.Booster.__del__": "frees the model that it parsed",
    "xgboost.core.Booster.__setstate__": "parses a model from a buffer in memory",
    "xgboost.core.Booster.__del__": "frees the model that it parsed",
    "xgboost.core.Booster.feature_names": "sets names", "xgboost.core.Booster.feature_types": "sets names",
    "xgboost.core.Booster.best_iteration": "sets a number", "xgboost.core.Booster.best_score": "sets a number",
    "lightgbm.sklearn._LGBMModelBase.n_features_in_": "sets a number", "lightgbm.sklearn.LGBMModel.n_features_in_": "sets a number",
    "lightgbm.sklearn.LGBMModel.feature_names_in_": "is deleted as an attribute",
}
# Modules of extension types and of Python itself, whose constructors take data and nothing else.
REVIEWED_MODULES = ("numpy.random.", "builtins", "collections", "numpy")
# Setters of shapes, types, masks and arrays.
REVIEWED_SETTERS = ("scipy.sparse.", "numpy.ma.")


def left_out(name: str, why: str) -> None:
    print(f"left out: {name}: {why}", file=sys.stderr)


def find(name: str) -> object | None:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return None


def full_name(thing: object) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def objections(cls: type) -> list[str]:
    """What of a class runs while an instance is unpickled, kept or thrown away, and is not reviewed."""
    found = []
    for part in cls.__mro__:
        if part.__module__ in REVIEWED_MODULES or part.__module__.startswith(REVIEWED_MODULES[0]):
            continue
        if part.__module__ in ("abc", "typing", "collections.abc"):
            continue
        names = [hook for hook in HOOKS if hook in part.__dict__]
        setters = [
            name for name, value in part.__dict__.items() if isinstance(value, property) and value.fset is not None
        ]
        if f"{part.__module__}.".startswith(REVIEWED_SETTERS):
            setters = []
        if issubclass(part, tuple) and hasattr(part, "_fields"):
            names = []  # A named tuple.
        found += [f"{full_name(part)}.{name}" for name in names + setters if f"{full_name(part)}.{name}" not in REVIEWED]
    return found


def modules_of(package: str, without: tuple[str, ...]) -> Iterator[object]:
    root = importlib.import_module(package)
    for info in pkgutil.walk_packages(root.__path__, f"{package}."):
        if any(part in f"{info.name}." for part in without):
            continue
        try:
            yield importlib.import_module(info.name)
        except Exception as error:  # noqa: BLE001 - an optional dependency is not installed
            left_out(info.name, f"{type(error).__name__}: {error}")


def own_classes(module: object) -> Iterator[type]:
    for value in list(vars(module).values()):
        if inspect.isclass(value) and value.__module__ == module.__name__:
            yield value


def classes() -> Iterator[str]:
    bases = tuple(base for base in map(find, SKLEARN_BASES) if base is not None)
    candidates = {cls for module in modules_of("sklearn", SKLEARN_LEFT_OUT) for cls in own_classes(module) if issubclass(cls, bases)}
    for package in ("xgboost", "lightgbm"):
        try:
            module = importlib.import_module(f"{package}.sklearn")
        except ImportError:
            continue
        candidates |= {cls for cls in own_classes(module) if issubclass(cls, bases)}
    for cls in sorted(candidates, key=full_name):
        against = objections(cls)
        if against or "<locals>" in full_name(cls):
            left_out(full_name(cls), ", ".join(against) or "it is local")
        else:
            yield full_name(cls)
    for name in CLASSES:
        cls = find(name)
        if cls is None:
            continue
        against = objections(cls)
        if against:
            left_out(name, ", ".join(against))
        else:
            yield name
    # Distances are made by `newObj` of the class.
    for module in ("sklearn.metrics._dist_metrics", "sklearn.neighbors._ball_tree", "sklearn.neighbors._kd_tree"):
        for cls in own_classes(importlib.import_module(module)):
            is_made = "Distance" in cls.__name__ or cls.__name__.removesuffix("64").removesuffix("32") in ("KDTree", "BallTree")
            if is_made and not cls.__name__.startswith(CALLS_LEFT_OUT):
                yield full_name(cls)


def calls() -> Iterator[str]:
    yield from (name for name in CALLS if find(name) is not None)
    for module, prefix in CALL_PREFIXES:
        found = find(module)
        found = found or importlib.import_module(module)
        for name, value in vars(found).items():
            if name.startswith(prefix):
                yield f"{module}.{name}"
                # Extension types of some releases give themselves a module without its package.
                yield f"{getattr(value, '__module__', module)}.{name}"
    sgd = importlib.import_module("sklearn.linear_model._sgd_fast")
    yield from (f"{sgd.__name__}.{name}" for name in SGD_LOSSES if hasattr(sgd, name))


def functions() -> Iterator[str]:
    import numpy

    for module in map(importlib.import_module, FUNCTION_MODULES):
        for name, value in vars(module).items():
            is_own = inspect.isfunction(value) and value.__module__.startswith("sklearn.metrics.")
            if is_own and not name.startswith("_") and name not in FUNCTIONS_LEFT_OUT:
                yield full_name(value)
    yield from (name for name in FUNCTIONS if find(name) is not None)
    yield from (f"numpy.{name}" for name, value in vars(numpy).items() if isinstance(value, numpy.ufunc))
    # As the types of columns.
    yield from (
        f"numpy.{name}" for name, value in vars(numpy).items()
        if inspect.isclass(value) and issubclass(value, numpy.generic) and value.__module__ == "numpy"
    )


def canonical(name: str) -> str:
    """The name of numpy 1 and of Python 3, by which the scan compares."""
    name = name.replace("__builtin__.", "builtins.").replace("builtins.xrange", "builtins.range")
    return "numpy.core" + name.removeprefix("numpy._core") if name.startswith("numpy._core") else name


def made_here() -> dict[str, str]:
    listed: dict[str, str] = {}
    for permission, names in (
        ("reference", functions()), ("class", classes()), ("instance", (name for name in INSTANCES if find(name))), ("call", calls()),
    ):
        for name in names:
            listed[canonical(name)] = permission
    return listed


def read(path: Path) -> tuple[dict[str, str], set[str]]:
    listed, versions = {}, set()
    for line in path.read_text().splitlines():
        if line.startswith("# made with: "):
            versions.add(line.removeprefix("# made with: "))
        elif line and not line.startswith("#"):
            permission, name = line.split()
            listed[name] = permission
    return listed, versions


def installed() -> str:
    versions = [f"python {sys.version_info.major}.{sys.version_info.minor}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.import_module(package).__version__}")
        except ImportError:
            pass
    return ", ".join(versions)


def imports(pickled: bytes) -> set[str]:
    """Names that a pickle of protocol 2 imports."""
    return {arg.replace(" ", ".") for op, arg, _ in pickletools.genops(io.BytesIO(pickled)) if op.name == "GLOBAL"}


def check(path: Path) -> int:
    import probe_models

    data = {
        "_codecs.encode", "builtins.bytearray", "builtins.bytes", "builtins.frozenset", "builtins.set", "builtins.slice",
        "collections.OrderedDict", "collections.defaultdict", "copyreg._reconstructor", "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar", "numpy.core.numeric._frombuffer", "numpy.dtype", "numpy.ndarray",
    }
    listed, failed = set(read(path)[0]) | data, 0
    models = probe_models.models()
    for name, model in models.items():
        missing = {canonical(imported) for imported in imports(pickle.dumps(model, 2))} - listed
        if missing:
            failed += 1
            print(f"{name} ({type(model).__name__}) needs {', '.join(sorted(missing))}")
    print(f"{len(models) - failed} of {len(models)} models need only what is listed")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--merge", type=Path, metavar="LIST", help="a list whose names, of other versions, are kept")
    parser.add_argument("--check", type=Path, metavar="LIST", help="fit models and compare what they import with the list")
    arguments = parser.parse_args()
    if arguments.check:
        return check(arguments.check)
    listed, versions = made_here(), {installed()}
    if arguments.merge:
        before, others = read(arguments.merge)
        # The narrower permission wins where versions differ.
        for name, permission in before.items():
            listed[name] = min(permission, listed.get(name, permission), key=PERMISSIONS.index)
        versions |= others
    print("# Globals that pickles of models may use, and how. Written by examples/model_scan/safe_globals.py, which explains")
    print("# the permissions; do not edit by hand.")
    for made_with in sorted(versions):
        print(f"# made with: {made_with}")
    for name in sorted(listed):
        print(f"{listed[name]} {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
