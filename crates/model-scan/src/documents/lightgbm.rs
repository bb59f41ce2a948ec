//! LightGBM models as text, as `src/boosting/gbdt_model_text.cpp` writes them: lines of keys and values,
//! trees, importances, parameters, and the categories of pandas as JSON.

use std::io;

use crate::{
    input::Input,
    path,
    report::Code,
    scanner::{Place, Scanner},
};

/// A line holds all thresholds of a tree, or all names of features.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;
const FIRST_LINE: &[u8] = b"tree\n";
/// Lines that stand alone.
const SECTIONS: &[&str] = &[
    "tree",
    "average_output",
    "end of trees",
    "feature_importances:",
    "parameters:",
    "end of parameters",
    "",
];
/// Parameters that name files; a model has no use for them.
const FILE_PARAMETERS: &[&str] =
    &["machine_list_filename", "parser_config_file", "forcedbins_filename", "forcedsplits_filename"];

/// Whether a file begins as such a model does.
pub(super) fn begins(head: &[u8]) -> bool {
    head.starts_with(FIRST_LINE)
}

/// Reads a model to its end.
pub(super) fn scan(scanner: &mut Scanner<'_>, input: &mut Input<'_>, place: Place<'_>) -> io::Result<()> {
    if !begins(&input.peek(0, FIRST_LINE.len())?) {
        scanner.find(Code::NotUnderstood, place.path, "it does not begin as a LightGBM model in text does");
        return Ok(());
    }
    while input.remaining() > 0 {
        let at = input.position();
        let Some(line) = line(input)? else {
            let detail = format!("the line at byte {at} is longer than {MAX_LINE_BYTES} bytes");
            scanner.find(Code::NotUnderstood, place.path, detail);
            return Ok(());
        };
        if let Err(why) = check(&line) {
            scanner.find(Code::NotUnderstood, place.path, format!("the line at byte {at} {why}"));
            return Ok(());
        }
    }
    Ok(())
}

/// The next line without its end; none where it is too long.
fn line(input: &mut Input<'_>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    while let Some(byte) = input.byte()? {
        if byte == b'\n' {
            break;
        }
        if line.len() == MAX_LINE_BYTES {
            return Ok(None);
        }
        line.push(byte);
    }
    Ok(Some(line))
}

fn check(line: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(line).map_err(|_| "is not UTF-8".to_owned())?;
    if text.chars().any(char::is_control) {
        return Err("has control characters".to_owned());
    }
    if SECTIONS.contains(&text) {
        return Ok(());
    }
    if let Some(json) = text.strip_prefix("pandas_categorical:") {
        return serde_json::from_str::<serde::de::IgnoredAny>(json)
            .map(drop)
            .map_err(|error| format!("has categories that are not JSON: {error}"));
    }
    if let Some(parameter) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let (name, value) = parameter.split_once(':').ok_or("is not a parameter")?;
        if FILE_PARAMETERS.contains(&name) && !value.trim().is_empty() {
            return Err(format!("names a file in `{name}`"));
        }
        return is_name(name).then_some(()).ok_or_else(|| "is not a parameter".to_owned());
    }
    let shown = path::shown(text);
    let (name, _) = text.split_once('=').ok_or_else(|| format!("is not understood: `{shown}`"))?;
    // The importances are listed by the names of features, which are anything without blanks.
    let is_feature = !name.is_empty() && !name.contains(' ');
    is_feature.then_some(()).ok_or_else(|| format!("is not understood: `{shown}`"))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|sign| sign.is_ascii_alphanumeric() || sign == '_')
}
