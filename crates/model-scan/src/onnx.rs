//! ONNX models, read to their last tensor by the crate that serving reads them with.

use std::io::{self, BufReader, Read as _};

use slipway_onnx_graph::{Fault, Model};

use crate::{
    input::Input,
    path,
    report::Code,
    scanner::{Place, Scanner},
};

/// Fields of `ModelProto`, from <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3>, without training.
const MODEL_FIELDS: &[u64] = &[1, 2, 3, 4, 5, 6, 7, 8, 14, 25, 26];
/// The name under which ONNX Runtime finds tensors in its own memory instead of a file.
const RESERVED_LOCATION: &str = "_ort_mem_addr_";
/// Bytes that are read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// Whether a file is one that ONNX Runtime loads, by its name.
pub(crate) fn is_name(name: &str) -> bool {
    path::file_name(name).to_lowercase().ends_with(".onnx")
}

/// Reads a model to its end, and holds its references and operators against what may be loaded.
pub(crate) fn scan(scanner: &mut Scanner<'_>, input: &mut Input<'_>, place: Place<'_>) -> io::Result<()> {
    if let Some((at, field)) = unknown_field(input)? {
        let detail = format!("at byte {at} it has the field {field}, which no ONNX model has");
        scanner.find(Code::NotUnderstood, place.path, detail);
    }
    input.seek(0);
    let length = input.length();
    match slipway_onnx_graph::read(BufReader::with_capacity(BUFFER_BYTES, input), length) {
        Ok(model) => check(scanner, &model, place),
        Err(Fault::Malformed(why)) => {
            scanner.find(Code::NotUnderstood, place.path, format!("it is not an ONNX model: {why}"));
        }
        Err(Fault::Read(error)) => return Err(error),
    }
    Ok(())
}

fn check(scanner: &mut Scanner<'_>, model: &Model, place: Place<'_>) {
    match model.interface() {
        Ok(interface) => {
            if let Some(why) = interface.unservable {
                scanner.find(Code::LoaderReference, place.path, format!("it cannot be run as it is: {why}"));
            }
        }
        Err(fault) => scanner.find(Code::NotUnderstood, place.path, format!("its graph is broken: {fault}")),
    }
    let folder = place.name.rsplit_once('/').map_or("", |(folder, _)| folder);
    for location in model.external_data.keys() {
        check_location(scanner, place.path, folder, location);
    }
}

/// Weights have to lie in a file of the same model.
fn check_location(scanner: &mut Scanner<'_>, path: &str, folder: &str, location: &str) {
    let shown = path::shown(location);
    if path::leaves_folder(location) || location.to_lowercase().contains(RESERVED_LOCATION) {
        let detail = format!("it takes weights from `{shown}`, which is not a path within the model");
        scanner.find(Code::ReferenceOutside, path, detail);
        return;
    }
    let parts = location.split('/').filter(|part| !matches!(*part, "" | "."));
    let parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).chain(parts).collect();
    if !scanner.context.weights.contains(&parts.join("/")) {
        let detail = format!("it takes weights from `{shown}`, whose sizes and offsets were not checked");
        scanner.find(Code::NotUnderstood, path, detail);
    }
}

/// Where the first field stands that is none of a model's, with its number. Broken bytes are left to the
/// reader.
fn unknown_field(input: &mut Input<'_>) -> io::Result<Option<(u64, u64)>> {
    while input.remaining() > 0 {
        let at = input.position();
        let Some(tag) = varint(input)? else { return Ok(None) };
        let field = tag >> 3;
        if !MODEL_FIELDS.contains(&field) {
            return Ok(Some((at, field)));
        }
        let length = match tag & 7 {
            0 => varint(input)?.map(|_| 0),
            1 => Some(8),
            2 => varint(input)?,
            5 => Some(4),
            _ => None,
        };
        if !length.is_some_and(|length| input.skip(length)) {
            return Ok(None);
        }
    }
    Ok(None)
}

fn varint(input: &mut Input<'_>) -> io::Result<Option<u64>> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        if input.read(&mut byte)? == 0 {
            return Ok(None);
        }
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok(Some(value));
        }
    }
    Ok(None)
}
