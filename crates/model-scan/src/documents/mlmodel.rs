//! MLflow's description of a model. `mlflow.pyfunc.load_model` imports the module that it names, puts its
//! folder of code on Python's path, and joins its paths to the model's folder, so every entry of a flavor is
//! held against what MLflow writes for models without code of their own.

use std::io;

use super::{tree::Tree, yaml};
use crate::{
    input::Input,
    path,
    report::Code,
    scanner::{Place, Scanner},
};

/// Entries of the document itself, in all versions of MLflow up to 3.17. None of them is loaded.
const TOP_KEYS: &[&str] = &[
    "artifact_path",
    "auth_policy",
    "databricks_runtime",
    "env_vars",
    "flavors",
    "is_signature_from_type_hint",
    "metadata",
    "mlflow_version",
    "model_id",
    "model_size_bytes",
    "model_uuid",
    "prompts",
    "resources",
    "run_id",
    "saved_input_example_info",
    "signature",
    "type_hint_from_example",
    "utc_time_created",
];
/// Modules of MLflow that load a file of the model and nothing else. `mlflow.pyfunc.model` is none of them:
/// it loads a class of the user.
const LOADERS: &[&str] = &["mlflow.lightgbm", "mlflow.onnx", "mlflow.sklearn", "mlflow.xgboost"];
/// Methods of the model that pyfunc may call.
const PREDICT_FUNCTIONS: &[&str] = &[
    "predict",
    "predict_proba",
    "predict_log_proba",
    "predict_joint_log_proba",
    "decision_function",
    "score",
    "score_samples",
    "transform",
];
/// Classes that MLflow makes and loads a file into.
const MODEL_CLASSES: &[&str] = &[
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMModel",
    "lightgbm.sklearn.LGBMRanker",
    "lightgbm.sklearn.LGBMRegressor",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBModel",
    "xgboost.sklearn.XGBRFClassifier",
    "xgboost.sklearn.XGBRFRegressor",
    "xgboost.sklearn.XGBRanker",
    "xgboost.sklearn.XGBRegressor",
];
/// Options of a session of ONNX Runtime that change no more than how it computes.
const SESSION_OPTIONS: &[&str] = &[
    "enable_cpu_mem_arena",
    "enable_mem_pattern",
    "enable_mem_reuse",
    "execution_mode",
    "execution_order",
    "graph_optimization_level",
    "inter_op_num_threads",
    "intra_op_num_threads",
    "log_severity_level",
    "log_verbosity_level",
    "use_deterministic_compute",
];
/// Ends of names of files that Python unpickles.
const PICKLE_SUFFIXES: &[&str] = &[".pkl", ".pickle", ".cloudpickle", ".joblib", ".skops"];

/// Ends of names of files that the flavors load. Text is none of them: as a pickle it could import a module.
const MODEL_SUFFIXES: &[&str] = &[
    ".pkl",
    ".pickle",
    ".cloudpickle",
    ".joblib",
    ".skops",
    ".onnx",
    ".xgb",
    ".ubj",
    ".json",
    ".bst",
    ".model",
    ".lgb",
];

/// How the value of an entry is held against what MLflow writes.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// Nothing is made of it.
    Data,
    /// There has to be none.
    Absent,
    OneOf(&'static [&'static str]),
    /// A file or folder of the model with one of these ends of names; any where there are none.
    File(&'static [&'static str]),
    Environment,
    Providers,
    SessionOptions,
}

/// The entries of each flavor that is understood.
fn rule(flavor: &str, key: &str) -> Option<Rule> {
    Some(match (flavor, key) {
        (_, "code") => Rule::Absent,
        ("onnx", "data") => Rule::File(&[".onnx"]),
        ("onnx", "providers") => Rule::Providers,
        ("onnx", "onnx_session_options") => Rule::SessionOptions,
        ("sklearn", "pickled_model") => Rule::File(PICKLE_SUFFIXES),
        ("xgboost", "data") => Rule::File(&[".xgb", ".ubj", ".json", ".bst", ".model"]),
        ("lightgbm", "data") => Rule::File(&[".lgb", ".pkl", ".skops", ".joblib"]),
        ("xgboost" | "lightgbm", "model_class") => Rule::OneOf(MODEL_CLASSES),
        ("sklearn" | "lightgbm", "serialization_format" | "skops_trusted_types")
        | ("onnx", "onnx_version")
        | ("sklearn", "sklearn_version")
        | ("xgboost", "xgb_version" | "model_format")
        | ("lightgbm", "lgb_version")
        | ("python_function", "python_version" | "cloudpickle_version") => Rule::Data,
        ("python_function", "loader_module") => Rule::OneOf(LOADERS),
        ("python_function", "predict_fn") => Rule::OneOf(PREDICT_FUNCTIONS),
        ("python_function", "model_path") => Rule::File(PICKLE_SUFFIXES),
        ("python_function", "data") => Rule::File(MODEL_SUFFIXES),
        ("python_function", "env") => Rule::Environment,
        ("python_function", "streamable") => Rule::OneOf(&["false", "true"]),
        _ => return None,
    })
}

/// Reads the document and checks every entry.
pub(super) fn scan(scanner: &mut Scanner<'_>, input: &mut Input<'_>, place: Place<'_>) -> io::Result<()> {
    let Some(tree) = yaml::read(scanner, input, place)? else { return Ok(()) };
    if !matches!(tree, Tree::Map(_)) {
        scanner.find(Code::NotUnderstood, place.path, "it is not a map of flavors and facts");
    }
    for (key, value) in tree.entries() {
        match &**key {
            "flavors" => check_flavors(scanner, place, value),
            "saved_input_example_info" => check_example(scanner, place, value),
            known if TOP_KEYS.contains(&known) => {}
            other => {
                let detail = format!("its entry `{}` is none that MLflow writes", path::shown(other));
                scanner.find(Code::NotUnderstood, place.path, detail);
            }
        }
    }
    Ok(())
}

fn check_flavors(scanner: &mut Scanner<'_>, place: Place<'_>, flavors: &Tree) {
    if !matches!(flavors, Tree::Map(_) | Tree::Null) {
        scanner.find(Code::NotUnderstood, place.path, "its `flavors` are not a map");
    }
    for (flavor, entries) in flavors.entries() {
        let shown = path::shown(flavor);
        if !matches!(&**flavor, "onnx" | "sklearn" | "xgboost" | "lightgbm" | "python_function") {
            let detail = format!("its flavor `{shown}` loads the model in a way that is not understood");
            scanner.find(Code::LoaderReference, place.path, detail);
            continue;
        }
        if !matches!(entries, Tree::Map(_) | Tree::Null) {
            scanner.find(Code::NotUnderstood, place.path, format!("its flavor `{shown}` is not a map"));
        }
        for (key, value) in entries.entries() {
            check_entry(scanner, place, flavor, key, value);
        }
    }
}

fn check_entry(scanner: &mut Scanner<'_>, place: Place<'_>, flavor: &str, key: &str, value: &Tree) {
    let entry = format!("{}.{}", path::shown(flavor), path::shown(key));
    let Some(rule) = rule(flavor, key) else {
        let detail =
            format!("its entry `{entry}` may make a loader run code; MLflow writes none for such models");
        scanner.find(Code::LoaderReference, place.path, detail);
        return;
    };
    let holds = match rule {
        Rule::Data => true,
        _ if value == &Tree::Null => true,
        Rule::Absent => false,
        Rule::OneOf(allowed) => value.as_text().is_some_and(|text| allowed.contains(&text)),
        Rule::File(suffixes) => return check_file(scanner, place, &entry, value, suffixes),
        Rule::Environment => return check_environment(scanner, place, &entry, value),
        Rule::Providers => list(value).is_some_and(|items| items.iter().all(is_provider)),
        Rule::SessionOptions => {
            value.entries().iter().all(|(key, value)| {
                SESSION_OPTIONS.contains(&&**key) && !matches!(value, Tree::List(_) | Tree::Map(_))
            }) && matches!(value, Tree::Map(_))
        }
    };
    if !holds {
        let shown = value
            .as_text()
            .map_or_else(|| "a list or map".to_owned(), |text| format!("`{}`", path::shown(text)));
        let detail =
            format!("its entry `{entry}` is {shown}, by which a loader may run code that is not MLflow's");
        scanner.find(Code::LoaderReference, place.path, detail);
    }
}

fn list(value: &Tree) -> Option<&[Tree]> {
    match value {
        Tree::List(items) => Some(items),
        _ => None,
    }
}

fn is_provider(item: &Tree) -> bool {
    item.as_text()
        .and_then(|name| name.strip_suffix("ExecutionProvider"))
        .is_some_and(|name| !name.is_empty() && name.chars().all(|sign| sign.is_ascii_alphanumeric()))
}

/// Paths are joined to the model's folder, and an absolute one replaces it.
fn check_file(scanner: &mut Scanner<'_>, place: Place<'_>, entry: &str, value: &Tree, suffixes: &[&str]) {
    let Some(file) = value.as_text() else {
        scanner.find(Code::NotUnderstood, place.path, format!("its entry `{entry}` is not a path"));
        return;
    };
    let shown = path::shown(file);
    if path::leaves_folder(file) {
        let detail = format!("its entry `{entry}` leads out of the model's folder: `{shown}`");
        scanner.find(Code::ReferenceOutside, place.path, detail);
    } else if !suffixes.is_empty() && !suffixes.iter().any(|suffix| file.ends_with(suffix)) {
        let detail =
            format!("its entry `{entry}` names `{shown}`, which is not a file that this flavor loads");
        scanner.find(Code::LoaderReference, place.path, detail);
    } else if !scanner.context.files.is_empty() && !scanner.context.has(&beside(place.name, file)) {
        let detail = format!("its entry `{entry}` names `{shown}`, but there is no such file");
        scanner.find(Code::NotUnderstood, place.path, detail);
    }
}

/// A path that is relative to the folder of a file.
fn beside(name: &str, file: &str) -> String {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let parts = folder.split('/').chain(file.split('/'));
    parts.filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/")
}

/// The environment's files, which are judged by themselves.
fn check_environment(scanner: &mut Scanner<'_>, place: Place<'_>, entry: &str, value: &Tree) {
    let named: Vec<&Tree> = match value {
        Tree::Map(entries) => entries.iter().map(|(_, file)| file).collect(),
        other => vec![other],
    };
    for file in named {
        // Other files of that kind are not held against the same rules.
        if matches!(file.as_text(), Some("conda.yaml" | "python_env.yaml")) {
            check_file(scanner, place, entry, file, &[]);
        } else {
            let detail =
                format!("its entry `{entry}` names another file than conda.yaml and python_env.yaml");
            scanner.find(Code::LoaderReference, place.path, detail);
        }
    }
}

fn check_example(scanner: &mut Scanner<'_>, place: Place<'_>, info: &Tree) {
    for key in ["artifact_path", "serving_input_path"] {
        if let Some(file) = info.get(key).filter(|file| **file != Tree::Null) {
            check_file(scanner, place, key, file, &[".json"]);
        }
    }
}
