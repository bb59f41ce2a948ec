//! Keys by which loaders take code, templates or the names of classes from a document of JSON or YAML.

use super::tree::Tree;
use crate::{path, report::Code, scanner::Scanner};

/// Keys whose value is a template or code.
const CODE_KEYS: &[&str] = &["chat_template", "chat_templates", "cells", "__reduce__", "entry_points"];
/// Keys whose value names what a loader imports. Those of jsonpickle begin with `py/`.
const REFERENCE_KEYS: &[&str] = &[
    "auto_map",
    "trust_remote_code",
    "custom_pipelines",
    "_target_",
    "__class__",
    "__module__",
    "__loader__",
    "__type__",
    "@class",
    "$type",
    "class_path",
    "_class_name",
    "loader_module",
    "model_code_path",
    "code_paths",
    "code_path",
    "python_model",
    "keras_module",
    "pickle_module",
    "registered_name",
];
/// Keys whose value names a class where it has dots.
const TYPE_KEYS: &[&str] = &[
    "type", "_type", "class", "cls", "target", "factory", "callable", "function", "import", "module",
    "loader",
];

/// Reports every such key.
pub(super) fn check(scanner: &mut Scanner<'_>, path: &str, tree: &Tree) {
    let is_keras = tree.has_key("class_name");
    tree.each_map(&mut |map| {
        for (key, value) in map.entries() {
            if value == &Tree::Null || (is_keras && matches!(&**key, "registered_name" | "module")) {
                continue;
            }
            check_entry(scanner, path, key, value);
        }
        // How LangChain writes an object.
        if map.get("lc").is_some() && map.get("id").is_some() {
            let detail = "it has an object of LangChain, whose loader imports a class by its `id`";
            scanner.find(Code::LoaderReference, path, detail);
        }
    });
}

fn check_entry(scanner: &mut Scanner<'_>, path: &str, key: &str, value: &Tree) {
    let shown = path::shown(key);
    if CODE_KEYS.contains(&key) {
        let detail = format!("its key `{shown}` holds a template or code");
        scanner.find(Code::SourceCode, path, detail);
    } else if REFERENCE_KEYS.contains(&key) || key.starts_with("py/") {
        let detail = format!("its key `{shown}` names a class or module that a loader imports");
        scanner.find(Code::LoaderReference, path, detail);
    } else if let Some(text) = value.as_text().filter(|text| TYPE_KEYS.contains(&key) && is_dotted(text)) {
        let named = path::shown(text);
        let detail = format!("its key `{shown}` names `{named}`, which a loader may import");
        scanner.find(Code::LoaderReference, path, detail);
    }
}

/// Whether text is names with dots between them, as those of modules and classes are.
fn is_dotted(text: &str) -> bool {
    let is_name = |part: &str| {
        part.chars().all(|sign| sign.is_alphanumeric() || sign == '_')
            && part.chars().next().is_some_and(|first| !first.is_ascii_digit())
    };
    text.contains('.') && text.split(['.', ':']).all(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_classes_have_dots() {
        assert!(is_dotted("sentence_transformers.models.Transformer") && is_dotted("os.path:join"));
        assert!(!is_dotted("tensor") && !is_dotted("1.5") && !is_dotted("a b.c") && !is_dotted("a..b"));
    }
}
