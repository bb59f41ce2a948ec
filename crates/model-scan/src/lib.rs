//! Decides whether uploaded model files are safe to load, without ever loading them.
//!
//! ```
//! use std::io::Cursor;
//! use slipway_model_scan::{Code, Policy, Verdict, scan};
//!
//! let pickle = b"cos\nsystem\n(S'id'\ntR.";
//! let report = scan("weights.onnx", Cursor::new(pickle), &Policy::default())?;
//! assert_eq!(report.verdict, Verdict::Unsafe);
//! assert_eq!(report.findings[0].code, Code::DangerousGlobal);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Threat model
//!
//! The uploader controls every byte and the name, and wants code to run when someone loads the file with
//! Python's `pickle`, `joblib`, `numpy`, `torch`, `skops` or Keras, wants an unpacker to write outside its
//! folder, or wants this scan to take all memory or time. Therefore:
//!
//! - Content decides what a file is, never its name, and a file is tried as everything that a loader could
//!   take it for: a pickle at its first byte, a tar header in its first block, a zip directory at its end.
//! - Pickles are followed opcode by opcode on a symbolic stack and memo, and only imports that the [`Policy`]
//!   lists may be made and called. What is not a constant, such as a computed name, counts as unsafe.
//! - The classes that ordinary models of scikit-learn, XGBoost and LightGBM consist of are listed with what a
//!   pickle may do with each ([`listed_globals`]): most may be made without their constructor and get their
//!   state once, functions may be referred to but not called.
//! - A file is safe only when all of its content was understood and is allowed. What is no pickle, archive,
//!   array or graph has to be a document that its name says it is, and is read to its end; everything else is
//!   [`Verdict::Unverified`].
//! - Whatever two readers could read differently is refused: a zip archive whose directory and local headers
//!   disagree, a member that is there twice, bytes before the beginning or after the end.
//! - Whether a file carries code that a loader runs is a fact of its own ([`LoaderCode`]).
//! - Nothing is allocated by a length that a file states, and every kind of work has a limit ([`Limits`]), so
//!   a scan ends. Files are read as streams; only compressed content goes through a temporary file.
//!
//! # What is not covered
//!
//! - Allowed globals are trusted with any arguments but a few: `torch._utils._rebuild_tensor_v2` or
//!   `numpy.ndarray` may be asked for much memory, and flaws in native code of numpy, torch, scikit-learn,
//!   XGBoost or LightGBM, which parse states and models from memory, are not looked for.
//! - What a model does with data after it was loaded: a stored model may answer anything.
//! - Which packages a list of requirements names: an installer runs their code.
//! - HDF5, SavedModel, TensorFlow Lite, and compressed streams other than gzip, zlib, bzip2, xz and LZMA are
//!   not read, so they are unverified.
//! - Fields within the graph of an ONNX model that its format does not have are skipped; those of the model
//!   itself are not.
//! - Where a joblib dump holds an array of objects and is loaded with Python's own loader instead, which
//!   takes that array for opcodes, dangerous imports are found, but others that are not on the list may stay
//!   unseen.
//! - Text that begins like an import of a module which is neither Python's own nor that of a package for
//!   models, and is no whole pickle, counts as text under the name of text.
//! - Files of one model are judged one by one; of the others only the names are known ([`Context`]).

mod compressed;
mod context;
mod documents;
mod examine;
mod globals;
mod input;
mod listed;
mod npy;
mod onnx;
mod path;
mod pickle;
mod policy;
mod report;
mod safetensors;
mod scanner;
mod sniff;
mod source;
mod tar;
mod zip;

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::Path,
};

pub use context::Context;
pub use listed::{listed_globals, listed_versions};
pub use policy::{
    FREE_INFLATED_BYTES, Limits, MAX_INFLATE_RATIO, MAX_INFLATED_BYTES, MAX_MEMBERS, MAX_NESTING_DEPTH,
    MAX_OPCODES, Policy,
};
pub use report::{
    Code, Counts, Finding, Format, LoaderCode, MAX_FINDINGS, MAX_REPORTED_GLOBALS, Report, Verdict,
};

/// Looks at a file of this name. Blocks, and reads the file more than once.
///
/// # Errors
///
/// Where the file, or the temporary file for compressed content, cannot be read or written. What is wrong
/// with the content is never an error; it stands in the report.
pub fn scan(name: &str, file: impl Read + Seek, policy: &Policy) -> io::Result<Report> {
    scan_within(name, file, policy, &Context::default())
}

/// Looks at a file of a model, whose other files the context names. `name` is the file's path within the
/// model.
///
/// # Errors
///
/// Those of [`scan`].
pub fn scan_within(
    name: &str,
    mut file: impl Read + Seek,
    policy: &Policy,
    context: &Context,
) -> io::Result<Report> {
    examine::scan(name, &mut file, policy, context)
}

/// Looks at the file at a path, as [`scan`] does.
///
/// # Errors
///
/// Those of [`scan`], and where the file cannot be opened.
pub fn scan_path(path: impl AsRef<Path>, policy: &Policy) -> io::Result<Report> {
    let path = path.as_ref();
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    scan(&name, File::open(path)?, policy)
}
