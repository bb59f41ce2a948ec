//! Files that `examples/model_scan/differential.py` made at random, with what the real loaders of Python ran.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read as _},
    path::PathBuf,
};

use lzma_rust2::XzReader;
use slipway_model_scan::{LoaderCode, Verdict};

use crate::scan_bytes;

/// Takes bytes with their 32-bit length before them.
fn take(record: &mut Cursor<Vec<u8>>) -> Vec<u8> {
    let mut length = [0; 4];
    record.read_exact(&mut length).expect("the record is whole");
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    record.read_exact(&mut bytes).expect("the record is whole");
    bytes
}

#[test]
fn no_file_that_a_loader_of_python_runs_something_from_is_safe() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/differential.xz");
    let mut unpacked = Vec::new();
    XzReader::new(std::fs::File::open(path).unwrap(), true).read_to_end(&mut unpacked).unwrap();
    let end = unpacked.len() as u64;
    let mut record = Cursor::new(unpacked);
    let mut counts: BTreeMap<(bool, Verdict), u32> = BTreeMap::new();
    while record.position() < end {
        let name = String::from_utf8(take(&mut record)).unwrap();
        let mut ran = [0];
        record.read_exact(&mut ran).unwrap();
        let bytes = take(&mut record);
        let report = scan_bytes(&name, &bytes);
        if ran == [1] {
            assert_ne!(report.verdict, Verdict::Safe, "{name}: {bytes:?}");
            assert_ne!(report.code, LoaderCode::None, "{name}: {bytes:?}");
        }
        *counts.entry((ran == [1], report.verdict)).or_default() += 1;
    }
    // Both kinds are there, and the scan tells most of what runs from what it does not understand.
    let count = |ran, verdict| counts.get(&(ran, verdict)).copied().unwrap_or_default();
    assert!(count(true, Verdict::Unsafe) > 200 && count(false, Verdict::Safe) > 20, "{counts:?}");
    assert!(count(true, Verdict::Unsafe) > 9 * count(true, Verdict::Unverified), "{counts:?}");
}
