//! Models that name their classes in JSON: the `schema.json` of skops and the `config.json` of Keras 3. Their loaders
//! import what these names say.

use std::io;

use serde_json::{Map, Value};

use crate::{globals, input::Input, path, report::Code, scanner::Scanner};

/// A document that names classes.
const MAX_DOCUMENT_BYTES: u64 = 64 * 1024 * 1024;

/// Types that skops makes from data alone.
const SKOPS_DATA_TYPES: &[&str] = &[
    "builtins.bool",
    "builtins.bytearray",
    "builtins.bytes",
    "builtins.dict",
    "builtins.float",
    "builtins.int",
    "builtins.list",
    "builtins.set",
    "builtins.slice",
    "builtins.str",
    "builtins.tuple",
    "builtins.NoneType",
    "collections.OrderedDict",
    "collections.defaultdict",
    "numpy.bool",
    "numpy.bool_",
    "numpy.dtype",
    "numpy.float16",
    "numpy.float32",
    "numpy.float64",
    "numpy.int16",
    "numpy.int32",
    "numpy.int64",
    "numpy.int8",
    "numpy.ndarray",
    "numpy.ma.MaskedArray",
    "numpy.str_",
    "numpy.uint16",
    "numpy.uint32",
    "numpy.uint64",
    "numpy.uint8",
    "numpy.random.mtrand.RandomState",
    "scipy.sparse._csc.csc_matrix",
    "scipy.sparse._csr.csr_matrix",
];

/// The nodes of skops; each is read by a class of the library that does with the names what its own name says.
const SKOPS_LOADERS: &[&str] = &[
    "BunchNode",
    "BytearrayNode",
    "BytesNode",
    "CachedNode",
    "DefaultDictNode",
    "DictNode",
    "DictWithDeprecatedKeysNode",
    "DTypeNode",
    "FunctionNode",
    "JsonNode",
    "ListNode",
    "LossNode",
    "MaskedArrayNode",
    "MethodNode",
    "NdArrayNode",
    "ObjectNode",
    "OrderedDictNode",
    "PartialNode",
    "RandomGeneratorNode",
    "RandomStateNode",
    "SGDNode",
    "SetNode",
    "SliceNode",
    "SparseMatrixNode",
    "TreeNode",
    "TupleNode",
    "TypeNode",
    "_DictWithDeprecatedKeysNode",
    "_LossNode",
    "_BunchNode",
];

/// Modules of Keras that hold its layers and what they are configured by, and nothing that reaches further.
const KERAS_PARTS: &[&str] = &[
    "activations",
    "constraints",
    "dtype_policies",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "regularizers",
];

/// Looks at every type that a skops archive would make.
pub(crate) fn scan_skops(scanner: &mut Scanner<'_>, input: &mut Input<'_>, path: &str) -> io::Result<()> {
    scan(scanner, input, path, check_skops)
}

/// Looks at every class that a Keras archive would make.
pub(crate) fn scan_keras(scanner: &mut Scanner<'_>, input: &mut Input<'_>, path: &str) -> io::Result<()> {
    scan(scanner, input, path, check_keras)
}

type Check = fn(&mut Scanner<'_>, &str, &Map<String, Value>);

fn scan(scanner: &mut Scanner<'_>, input: &mut Input<'_>, path: &str, check: Check) -> io::Result<()> {
    if input.length() > MAX_DOCUMENT_BYTES {
        let detail = format!("it has {} bytes; {MAX_DOCUMENT_BYTES} is the limit", input.length());
        scanner.find(Code::LimitExceeded, path, detail);
        return Ok(());
    }
    let bytes = input.peek(0, MAX_DOCUMENT_BYTES as usize)?;
    // The parser's own bound on depth makes the walk below bounded too.
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(document) => walk(scanner, path, &document, check),
        Err(error) => scanner.find(Code::CannotBeFollowed, path, format!("it is no JSON: {error}")),
    }
    Ok(())
}

fn walk(scanner: &mut Scanner<'_>, path: &str, value: &Value, check: Check) {
    match value {
        Value::Object(object) => {
            check(scanner, path, object);
            object.values().for_each(|inner| walk(scanner, path, inner, check));
        }
        Value::Array(items) => items.iter().for_each(|inner| walk(scanner, path, inner, check)),
        _ => {}
    }
}

fn judge(scanner: &mut Scanner<'_>, path: &str, module: &str, name: &str) {
    scanner.name_global(globals::canonical(module, name));
    if let Some((code, detail)) = globals::judge(scanner.policy, module, name) {
        scanner.find(code, path, detail);
    }
}

fn check_skops(scanner: &mut Scanner<'_>, path: &str, node: &Map<String, Value>) {
    let text = |key: &str| node.get(key).and_then(Value::as_str);
    let named = ["__module__", "__class__", "__loader__"].iter().any(|key| node.contains_key(*key));
    if named {
        match (text("__module__"), text("__class__"), text("__loader__")) {
            (Some(module), Some(class), Some(loader)) => {
                if !SKOPS_LOADERS.contains(&loader) {
                    let detail = format!("its node `{}` is none that is followed", path::shown(loader));
                    scanner.find(Code::CannotBeFollowed, path, detail);
                }
                if !SKOPS_DATA_TYPES.contains(&globals::canonical(module, class).as_str()) {
                    judge(scanner, path, module, class);
                }
            }
            _ => {
                let detail = "a node lacks one of `__module__`, `__class__` and `__loader__` as strings";
                scanner.find(Code::CannotBeFollowed, path, detail);
            }
        }
    }
    // A function or operator by another name than that of its node.
    if let (Some(module), Some(function)) = (text("module_path"), text("function")) {
        judge(scanner, path, module, function);
    }
}

fn check_keras(scanner: &mut Scanner<'_>, path: &str, node: &Map<String, Value>) {
    let Some(class) = node.get("class_name").and_then(Value::as_str) else { return };
    if class.to_lowercase().contains("lambda") || class == "__bytes__" {
        let detail = format!(
            "its layer `{}` holds compiled Python; layers of Keras were expected",
            path::shown(class)
        );
        scanner.find(Code::EmbeddedCode, path, detail);
        return;
    }
    match node.get("module") {
        None | Some(Value::Null) => match node.get("registered_name").and_then(Value::as_str) {
            Some(registered) if registered.contains('>') => judge(scanner, path, "registered", registered),
            _ => {}
        },
        Some(Value::String(module)) => {
            let part = module.strip_prefix("keras.src.").or_else(|| module.strip_prefix("keras."));
            let part = part.and_then(|part| part.split('.').next()).unwrap_or(module);
            let is_part = module == "keras" || (module.starts_with("keras.") && KERAS_PARTS.contains(&part));
            let is_data =
                module == "builtins" && SKOPS_DATA_TYPES.contains(&format!("builtins.{class}").as_str());
            if !(is_part || is_data) {
                judge(scanner, path, module, class);
            }
        }
        Some(_) => scanner.find(Code::CannotBeFollowed, path, "the module of a class is no string"),
    }
}
