//! Documents of JSON, as Python reads and writes them: with `NaN` and `Infinity`.

use std::io::{self, BufReader, Read};

use serde::de::DeserializeSeed as _;

use super::{
    keras, marks, skops,
    tree::{Budget, Seed, Tree},
};
use crate::{
    input::Input,
    path,
    report::Code,
    scanner::{Place, Scanner},
};

/// Data that MLflow gives to a model; no loader takes names from it.
const EXAMPLES: &[&str] = &["input_example.json", "serving_input_example.json", "serving_input_payload.json"];
const BUFFER_BYTES: usize = 64 * 1024;

/// Reads one value, or several one after another, to the end, and holds their keys against those that loaders
/// look for.
pub(super) fn scan(
    scanner: &mut Scanner<'_>,
    input: &mut Input<'_>,
    place: Place<'_>,
    several: bool,
) -> io::Result<()> {
    let budget = Budget::default();
    let bytes = PythonNumbers::new(BufReader::with_capacity(BUFFER_BYTES, input));
    let mut parser = serde_json::Deserializer::from_reader(bytes);
    loop {
        let value = Seed(&budget).deserialize(&mut parser);
        let ended = match &value {
            Ok(_) if several => parser.end().is_ok(),
            Ok(_) => match parser.end() {
                Ok(()) => true,
                Err(error) => return refuse(scanner, place, error),
            },
            Err(_) => true,
        };
        match value {
            Ok(tree) => check(scanner, place, &tree),
            Err(error) => return refuse(scanner, place, error),
        }
        if ended {
            return Ok(());
        }
    }
}

fn refuse(scanner: &mut Scanner<'_>, place: Place<'_>, error: serde_json::Error) -> io::Result<()> {
    if error.is_io() {
        return Err(error.into());
    }
    scanner.find(Code::NotUnderstood, place.path, format!("it is not understood as JSON: {error}"));
    Ok(())
}

fn check(scanner: &mut Scanner<'_>, place: Place<'_>, tree: &Tree) {
    let name = path::file_name(place.name);
    if EXAMPLES.contains(&name) {
        return;
    }
    if name == "schema.json" && tree.has_key("__loader__") {
        skops::check(scanner, place.path, tree);
        return;
    }
    if tree.has_key("class_name") {
        keras::check(scanner, place.path, tree);
    }
    marks::check(scanner, place.path, tree);
}

/// Python's numbers that JSON does not have become zeros of the same length.
struct PythonNumbers<R> {
    source: R,
    in_text: bool,
    escaped: bool,
    /// Expected remainder of the current word.
    word: &'static [u8],
}

impl<R: Read> PythonNumbers<R> {
    fn new(source: R) -> Self {
        Self { source, in_text: false, escaped: false, word: b"" }
    }

    /// What stands for a byte.
    fn replace(&mut self, byte: u8) -> u8 {
        if self.in_text {
            self.in_text = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return byte;
        }
        if let Some((next, rest)) = self.word.split_first() {
            self.word = rest;
            // A sign that no document has makes the parser stop here.
            return if *next == byte { b' ' } else { b'!' };
        }
        match byte {
            b'"' => self.in_text = true,
            b'N' => self.word = b"aN",
            b'I' => self.word = b"nfinity",
            _ => return byte,
        }
        if byte == b'"' { byte } else { b'0' }
    }
}

impl<R: Read> Read for PythonNumbers<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(into)?;
        for byte in &mut into[..count] {
            *byte = self.replace(*byte);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_python_are_read_and_text_stays() {
        let mut read = String::new();
        let source = br#"{"NaN \" I": [NaN, -Infinity, Infinity, "Infinity"], "x": Nope}"#;
        PythonNumbers::new(source.as_slice()).read_to_string(&mut read).unwrap();
        assert_eq!(read, r#"{"NaN \" I": [0  , -0       , 0       , "Infinity"], "x": 0!!e}"#);
    }
}
