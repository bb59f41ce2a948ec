//! What is left when a file is no pickle, archive, array or graph: text and documents. Each kind is known by
//! its name *and* read to its end; everything else is not understood.

mod conda;
mod json;
mod keras;
mod lightgbm;
mod marks;
mod mlmodel;
mod requirements;
mod skops;
mod text;
mod tree;
mod ubjson;
mod yaml;

use std::io;

use crate::{
    input::Input,
    path,
    report::{Code, Format},
    scanner::{Place, Role, Scanner},
};

/// A document that is kept in memory while it is read.
const MAX_DOCUMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of an unknown file that a finding shows.
const SHOWN_BYTES: usize = 8;
/// What a torch archive says about itself in a member takes no more.
const MAX_NOTE_BYTES: u64 = 64;

/// Ends of names of text that no loader runs.
const TEXT_SUFFIXES: &[&str] = &[".txt", ".md", ".rst", ".csv", ".tsv", ".log", ".adoc", ".labels"];
/// Whole names of such text.
const TEXT_NAMES: &[&str] = &["readme", "license", "licence", "notice", "authors", "changelog", "copying"];

/// What a file is by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mlmodel,
    Conda,
    PythonEnv,
    Requirements,
    Yaml,
    Json,
    /// Values one after another: JSON lines, and the bundles of signatures.
    JsonLines,
    Text,
    Lightgbm,
    Xgboost,
    Tensorflow,
}

/// Reads a file as the document that its name says it is.
pub(crate) fn scan(scanner: &mut Scanner<'_>, input: &mut Input<'_>, place: Place<'_>) -> io::Result<Format> {
    match place.role {
        Role::Numbers => return Ok(Format::Other),
        Role::TorchNote => return scan_note(scanner, input, place),
        Role::File | Role::TorchPickle | Role::Weights => {}
    }
    if input.length() == 0 {
        return Ok(Format::Empty);
    }
    let head = input.peek(0, SHOWN_BYTES)?;
    let Some(kind) = kind_of(place.name, &head) else {
        // A document that weights are read from is a document all the same.
        if place.role == Role::Weights {
            return Ok(Format::Weights);
        }
        unknown(scanner, place, &head);
        return Ok(Format::Other);
    };
    match kind {
        Kind::Mlmodel => mlmodel::scan(scanner, input, place).map(|()| Format::Mlmodel),
        Kind::Conda => conda::scan_conda(scanner, input, place).map(|()| Format::Requirements),
        Kind::PythonEnv => conda::scan_python_env(scanner, input, place).map(|()| Format::Requirements),
        Kind::Requirements => requirements::scan(scanner, input, place).map(|()| Format::Requirements),
        Kind::Yaml => yaml::scan(scanner, input, place).map(|()| Format::Yaml),
        Kind::Json | Kind::JsonLines => {
            json::scan(scanner, input, place, kind == Kind::JsonLines).map(|()| Format::Json)
        }
        Kind::Text => text::scan(scanner, input, place).map(|()| Format::Text),
        Kind::Lightgbm => lightgbm::scan(scanner, input, place).map(|()| Format::Lightgbm),
        Kind::Xgboost => ubjson::scan(scanner, input, place).map(|()| Format::Xgboost),
        Kind::Tensorflow => {
            let detail =
                "it is a TensorFlow graph, whose operators may read and write files, and is not read";
            scanner.find(Code::GraphProgram, place.path, detail);
            Ok(Format::Tensorflow)
        }
    }
}

fn kind_of(name: &str, head: &[u8]) -> Option<Kind> {
    let exact = path::file_name(name);
    let name = exact.to_lowercase();
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    Some(match () {
        // MLflow finds it by exactly this name.
        () if exact == "MLmodel" => Kind::Mlmodel,
        () if matches!(
            name.as_str(),
            "conda.yaml" | "conda.yml" | "environment.yaml" | "environment.yml"
        ) =>
        {
            Kind::Conda
        }
        () if matches!(name.as_str(), "python_env.yaml" | "python_env.yml") => Kind::PythonEnv,
        () if requirements::is_name(&name) => Kind::Requirements,
        () if exact == "registered_model_meta" || ends(&[".yaml", ".yml"]) => Kind::Yaml,
        () if ends(&[".json", ".geojson"]) => Kind::Json,
        () if ends(&[".jsonl", ".ndjson", ".sig", ".sigstore"]) => Kind::JsonLines,
        () if ends(&[".lgb", ".lgbm"]) => Kind::Lightgbm,
        () if ends(&[".txt", ".model"]) && lightgbm::begins(head) => Kind::Lightgbm,
        () if ends(&[".ubj", ".xgb", ".model", ".bst"]) && head.starts_with(b"{") => Kind::Xgboost,
        () if ends(&[".pb", ".pbtxt", ".tflite"]) => Kind::Tensorflow,
        () if ends(TEXT_SUFFIXES) || TEXT_NAMES.contains(&name.as_str()) => Kind::Text,
        () => return None,
    })
}

fn unknown(scanner: &mut Scanner<'_>, place: Place<'_>, head: &[u8]) {
    let shown: Vec<String> = head.iter().map(|byte| format!("{byte:02x}")).collect();
    let detail = format!(
        "from byte 0 on it is not understood: it begins with {}, and its name `{}` is not that of a document \
         which is read to its end",
        shown.join(" "),
        path::shown(path::file_name(place.name)),
    );
    scanner.find(Code::NotUnderstood, place.path, detail);
}

/// The version or byte order of a torch archive.
fn scan_note(scanner: &mut Scanner<'_>, input: &mut Input<'_>, place: Place<'_>) -> io::Result<Format> {
    let bytes = input.peek(0, MAX_NOTE_BYTES as usize)?;
    let is_plain = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'\n'));
    if input.length() > MAX_NOTE_BYTES || !is_plain {
        let detail = "a number or a word was expected, as torch writes it";
        scanner.find(Code::NotUnderstood, place.path, detail);
    }
    Ok(Format::Text)
}

/// All of a document as text. Where it is too long or not UTF-8, that is reported.
fn read_text(
    scanner: &mut Scanner<'_>,
    input: &mut Input<'_>,
    place: Place<'_>,
) -> io::Result<Option<String>> {
    if input.length() > MAX_DOCUMENT_BYTES {
        let detail =
            format!("it has {} bytes; documents up to {MAX_DOCUMENT_BYTES} are read", input.length());
        scanner.find(Code::NotUnderstood, place.path, detail);
        return Ok(None);
    }
    let bytes = input.peek(0, MAX_DOCUMENT_BYTES as usize)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => {
            let detail = format!("it is not UTF-8 from byte {} on", error.utf8_error().valid_up_to());
            scanner.find(Code::NotUnderstood, place.path, detail);
            Ok(None)
        }
    }
}

/// The first character that ends a line for some readers and not for others, with the byte where it stands.
fn odd_line_end(text: &str) -> Option<(usize, char)> {
    text.char_indices().find(|(_, sign)| {
        matches!(sign, '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}' | '\0')
    })
}
