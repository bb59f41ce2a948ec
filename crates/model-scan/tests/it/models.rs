//! Models of scikit-learn, XGBoost and LightGBM: ordinary ones are safe, and what they consist of is no way
//! in.
//!
//! `tests/models.tar.xz` holds pickles and joblib dumps that `examples/model_scan/probe_models.py` wrote.

use std::{collections::BTreeSet, io::Cursor, path::PathBuf};

use slipway_model_scan::{
    Code, Format, Policy, Report, Verdict, listed_globals, listed_versions, scan, scan_path,
};

use crate::{assert_safe, codes, scan_bytes};

/// An import of a global, as protocol 0 writes it.
fn global(name: &str) -> Vec<u8> {
    let (module, attribute) = name.rsplit_once('.').unwrap_or(("builtins", name));
    format!("c{module}\n{attribute}\n").into_bytes()
}

fn pickle(parts: &[&[u8]]) -> Report {
    scan_bytes("model.pkl", &[b"\x80\x02".as_slice(), &parts.concat(), b"."].concat())
}

fn entries(permission: &str) -> Vec<&'static str> {
    let listed = listed_globals().filter(|(listed, _)| *listed == permission);
    // What constructs plain data may be called whatever this list says.
    let data = Policy::data_only().allowed_globals;
    listed.map(|(_, name)| name).filter(|name| !data.contains(*name)).collect()
}

#[track_caller]
fn assert_refused(report: &Report, what: &str) {
    assert_eq!(report.verdict, Verdict::Unsafe, "{what} is not refused");
}

#[test]
fn ordinary_models_are_safe() {
    let archive = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/models.tar.xz");
    let report = scan_path(&archive, &Policy::default()).unwrap();
    assert_safe(&report);
    assert_eq!((report.format, report.counts.members), (Format::Xz, 361));
    assert!(report.counts.pickles >= 360, "{:?}", report.counts);
    for used in [
        "sklearn.pipeline.Pipeline",
        "sklearn.compose._column_transformer.ColumnTransformer",
        "sklearn.model_selection._search.GridSearchCV",
        "sklearn.tree._tree.Tree",
        "xgboost.core.Booster",
        "lightgbm.basic.Booster",
    ] {
        assert!(report.globals.contains(&used.to_owned()), "{used}");
    }
    let strict = scan_path(&archive, &Policy::data_only()).unwrap();
    assert_eq!(codes(&strict), [Code::GlobalNotAllowed].into());
}

#[test]
fn the_list_says_what_it_was_made_with() {
    let versions: Vec<&str> = listed_versions().collect();
    assert!(versions.len() > 1 && versions.iter().all(|line| line.contains("sklearn ")), "{versions:?}");
    let names: BTreeSet<&str> = listed_globals().map(|(_, name)| name).collect();
    assert_eq!(names.len(), listed_globals().count(), "no name is there twice");
    for permission in ["reference", "instance", "class", "call"] {
        assert!(!entries(permission).is_empty(), "{permission}");
    }
}

#[test]
fn an_instance_of_a_listed_class_gets_its_state_once() {
    for name in entries("class").into_iter().chain(entries("instance")) {
        let made = [global(name), b")\x81".to_vec()].concat();
        assert_safe(&pickle(&[&made, b"}b"]));
        // The first state can hold a function as `__setstate__`, which the second one would be given to.
        assert_refused(&pickle(&[&made, b"}bU\x04evilb"]), name);
        // The first state can hold a function as `append` or `extend`.
        assert_refused(&pickle(&[&made, b"}bU\x04evila"]), name);
        assert_refused(&pickle(&[&made, b"}b(U\x04evile"]), name);
    }
}

#[test]
fn no_listed_global_can_be_called_but_those_that_are_meant_to() {
    for name in ["class", "instance", "reference"].into_iter().flat_map(entries) {
        let import = global(name);
        assert_refused(&pickle(&[&import, b"U\x0b/etc/passwd\x85R"]), name);
        assert_refused(&pickle(&[&import, b")R"]), name);
        assert_refused(&pickle(&[b"(", &import, b"U\x0b/etc/passwdo"]), name);
        let (module, attribute) = name.rsplit_once('.').unwrap();
        assert_refused(
            &pickle(&[b"(U\x0b/etc/passwd", format!("i{module}\n{attribute}\n").as_bytes()]),
            name,
        );
        // Its own attributes stay what they are.
        assert_refused(&pickle(&[&import, b"}U\x01aU\x01bsb"]), name);
        // What it has inside is not reached by its name.
        assert_refused(&pickle(&[&global(&format!("{name}.__init__.__globals__"))]), name);
        assert_refused(&pickle(&[format!("c{module}\n{attribute}.load\n").as_bytes()]), name);
    }
    for name in entries("reference") {
        assert_safe(&pickle(&[b"]", &global(name), b"a"]));
        assert_refused(&pickle(&[&global(name), b")\x81"]), name);
    }
    for name in entries("instance") {
        let import = global(name);
        for kept in [b"a".as_slice(), b"\x85a", b"\x85\x85a"] {
            assert_refused(&pickle(&[b"]", &import, kept]), name);
        }
        assert_refused(&pickle(&[b"}U\x0c__setstate__", &import, b"s"]), name);
        assert_refused(&pickle(&[b"(U\x0c__setstate__", &import, b"d"]), name);
    }
    for name in entries("call") {
        assert_safe(&pickle(&[&global(name), b")R"]));
    }
}

#[test]
fn instances_of_old_protocols_are_made_of_listed_classes_and_plain_bases_alone() {
    let made = |class: &str, base: &str| {
        pickle(&[&global("copyreg._reconstructor"), &global(class), &global(base), b"N\x87R}b"])
    };
    let class = "sklearn.linear_model._logistic.LogisticRegression";
    assert_safe(&made(class, "builtins.object"));
    assert_safe(&pickle(&[
        &global("copy_reg._reconstructor"),
        &global(class),
        &global("__builtin__.object"),
        b"N\x87R}b",
    ]));
    assert_safe(&made("sklearn.utils._bunch.Bunch", "builtins.dict"));
    for (class, base) in [
        (class, "sklearn.tree._tree.Tree"),
        (class, "numpy.memmap"),
        (class, "numpy.log1p"),
        ("xgboost.core.Booster", "builtins.object"),
        ("numpy.log1p", "builtins.object"),
        ("subprocess.Popen", "builtins.object"),
        ("tempfile._TemporaryFileCloser", "builtins.object"),
    ] {
        assert_refused(&made(class, base), &format!("{class} of {base}"));
    }
    assert_refused(&pickle(&[&global("copyreg._reconstructor"), b"NNN\x87R"]), "no class");
    assert_refused(&pickle(&[&global("copyreg._reconstructor"), &global(class), b"\x85R"]), "no base");
}

#[test]
fn a_dict_with_a_default_makes_nothing_but_listed_classes() {
    let made = |default: &[u8]| pickle(&[&global("collections.defaultdict"), default, b"\x85R"]);
    assert_safe(&made(&global("collections.OrderedDict")));
    assert_safe(&made(&global("builtins.list")));
    assert_safe(&made(b"N"));
    for name in ["os.getcwd", "numpy.log1p", "xgboost.core.Booster", "sklearn.datasets._base.load_files"] {
        assert_refused(&made(&global(name)), name);
    }
    assert_refused(&pickle(&[&global("collections.defaultdict"), b"NN\x86R"]), "two arguments");
}

/// Ways from the packages of models to files, processes and code. Each was found in their sources.
const GADGETS: [&str; 54] = [
    "builtins.getattr",
    "functools.partial",
    "functools.reduce",
    "joblib._parallel_backends.LokyBackend",
    "joblib.externals.cloudpickle.cloudpickle.loads",
    "joblib.externals.loky.cloudpickle_wrapper.CloudpickledObjectWrapper",
    "joblib.func_inspect.get_func_code",
    "joblib.load",
    "joblib.memory.Memory",
    "joblib.numpy_pickle.NDArrayWrapper",
    "joblib.numpy_pickle.load",
    "joblib.parallel.Parallel",
    "lightgbm.basic.Dataset",
    "lightgbm.basic._load_lib",
    "lightgbm.basic.ctypes",
    "lightgbm.dask._train",
    "numpy.DataSource",
    "numpy.core.memmap",
    "numpy.ctypeslib.load_library",
    "numpy.f2py.compile",
    "numpy.fromfile",
    "numpy.fromregex",
    "numpy.genfromtxt",
    "numpy.lib._npyio_impl.load",
    "numpy.lib.npyio.load",
    "numpy.load",
    "numpy.memmap",
    "numpy.testing._private.utils.runstring",
    "numpy.vectorize",
    "scipy.datasets._fetchers.ascent",
    "scipy.io.loadmat",
    "scipy.io.matlab._mio.loadmat",
    "scipy.sparse._matrix_io.load_npz",
    "scipy.stats._continuous_distns.norm_gen",
    "scipy.stats._distn_infrastructure.rv_continuous",
    "scipy.stats._distn_infrastructure.rv_continuous_frozen",
    "sklearn._min_dependencies.dependent_packages",
    "sklearn.datasets._base.load_files",
    "sklearn.datasets._openml.fetch_openml",
    "sklearn.datasets._svmlight_format_io.load_svmlight_file",
    "sklearn.externals._arff.load",
    "sklearn.metrics._dist_metrics.PyFuncDistance64",
    "sklearn.metrics._scorer.make_scorer",
    "sklearn.utils._joblib.Parallel",
    "sklearn.utils._testing.TempMemmap",
    "sklearn.utils._testing.check_docstring_parameters",
    "sklearn.utils.parallel._FuncWrapper",
    "skops.io._persist.load",
    "xgboost.core.DMatrix",
    "xgboost.core.DataIter",
    "xgboost.core.ExtMemQuantileDMatrix",
    "xgboost.core._load_lib",
    "xgboost.dask.train",
    "xgboost.tracker.RabitTracker",
];

#[test]
fn what_reaches_further_is_not_listed() {
    for name in GADGETS {
        assert!(listed_globals().all(|(_, listed)| listed != name), "{name}");
        let import = global(name);
        assert_refused(&pickle(&[&import]), name);
        assert_refused(&pickle(&[&import, b"U\x0b/etc/passwd\x85R"]), name);
        assert_refused(&pickle(&[&import, b")\x81}b"]), name);
        // As an attribute of a listed class, where the class would call it later.
        let held = pickle(&[
            &global("sklearn.preprocessing._function_transformer.FunctionTransformer"),
            b")\x81}U\x04func",
            &import,
            b"sb",
        ]);
        assert_refused(&held, name);
    }
}

#[test]
fn only_computing_functions_can_be_the_function_of_a_transformer() {
    let made = |function: &str| {
        let class = global("sklearn.preprocessing._function_transformer.FunctionTransformer");
        pickle(&[&class, b")\x81}U\x04func", &global(function), b"sb"])
    };
    assert_safe(&made("numpy.log1p"));
    for function in ["os.system", "__main__.my_function", "numpy.load", "builtins.eval"] {
        assert_refused(&made(function), function);
    }
}

#[test]
fn what_is_not_listed_is_named_with_the_setting() {
    let policy = Policy { setting: Some("SOME_SETTING"), ..Policy::default() };
    let bytes = b"\x80\x02cmy_package.models\nMyEstimator\n)\x81}b.";
    let report = scan("model.pkl", Cursor::new(bytes), &policy).unwrap();
    assert_eq!(codes(&report), [Code::GlobalNotAllowed].into());
    let detail = &report.findings[0].detail;
    assert!(
        detail.contains("`my_package.models.MyEstimator`") && detail.contains("SOME_SETTING"),
        "{detail}"
    );
    let allowed = policy.allow(["my_package.models.MyEstimator"]);
    assert_safe(&scan("model.pkl", Cursor::new(bytes), &allowed).unwrap());
}
