//! Compressed streams of every kind: unpacked within limits, looked into, and refused where two readers could
//! disagree.

use std::io::{Cursor, Write as _};

use bzip2::write::BzEncoder;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use lzma_rust2::{XzOptions, XzWriter};
use slipway_model_scan::{Code, Format, Policy, Report, Verdict, scan};

use crate::{assert_safe, codes, fixture, scan_bytes};

/// How a content is compressed.
type Pack = fn(&[u8]) -> Vec<u8>;

const KINDS: [(&str, Format, Pack); 4] = [
    ("gz", Format::Gzip, gzip),
    ("zz", Format::Zlib, zlib),
    ("bz2", Format::Bzip2, bzip2),
    ("xz", Format::Xz, xz),
];

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).expect("memory is writable");
    encoder.finish().expect("memory is writable")
}

fn zlib(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).expect("memory is writable");
    encoder.finish().expect("memory is writable")
}

fn bzip2(content: &[u8]) -> Vec<u8> {
    let mut encoder = BzEncoder::new(Vec::new(), bzip2::Compression::default());
    encoder.write_all(content).expect("memory is writable");
    encoder.finish().expect("memory is writable")
}

fn xz(content: &[u8]) -> Vec<u8> {
    let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(3)).expect("memory is writable");
    writer.write_all(content).expect("memory is writable");
    writer.finish().expect("memory is writable")
}

/// A pickle of data that does not compress away.
fn data() -> Vec<u8> {
    let numbers: Vec<u8> =
        (0..3_000_u32).flat_map(|at| [b'J'].into_iter().chain((at * 7_919).to_le_bytes())).collect();
    [b"\x80\x04](".as_slice(), &numbers, b"e."].concat()
}

#[test]
fn streams_of_every_kind_are_looked_into() {
    for (end, format, pack) in KINDS {
        let name = format!("model.pkl.{end}");
        let report = scan_bytes(&name, &pack(&data()));
        assert_safe(&report);
        assert_eq!(report.format, format);
        assert_eq!((report.counts.inflated_bytes, report.counts.pickles), (data().len() as u64, 1), "{end}");
        for evil in ["evil_global.pkl", "evil_stack_global.pkl", "evil_no_stop.pkl"] {
            let report = scan_bytes("notes.txt", &pack(&fixture(evil)));
            assert!(codes(&report).contains(&Code::DangerousGlobal), "{end}: {report:#?}");
            assert_eq!(report.verdict, Verdict::Unsafe, "{end}");
        }
    }
}

#[test]
fn streams_within_streams_are_followed_to_the_limit() {
    for (end, _, pack) in KINDS {
        let mut bytes = fixture("evil_global.pkl");
        for depth in 1..=10 {
            bytes = pack(&bytes);
            let report = scan_bytes("model.pkl", &bytes);
            assert_eq!(report.verdict, Verdict::Unsafe, "{depth} times {end}: {report:#?}");
            let expected = if depth <= 6 { Code::DangerousGlobal } else { Code::NestingTooDeep };
            assert!(codes(&report).contains(&expected), "{depth} times {end}: {report:#?}");
        }
    }
}

#[test]
fn streams_that_break_off_are_never_safe() {
    for (end, _, pack) in KINDS {
        let whole = pack(&data());
        for length in (8..whole.len()).step_by(whole.len() / 60 + 1) {
            let report = scan_bytes("model.pkl", &whole[..length]);
            assert_ne!(report.verdict, Verdict::Safe, "{end} cut at {length}: {report:#?}");
        }
        let evil = [pack(&data()), fixture("evil_global.pkl")].concat();
        assert_ne!(scan_bytes("model.pkl", &evil).verdict, Verdict::Safe, "{end} with a pickle behind it");
    }
}

/// A bit that is wrong: what comes out is not what went in, whether the checksum shows it or not.
#[test]
fn streams_that_were_damaged_do_not_stop_the_scan() {
    for (_, _, pack) in KINDS {
        let whole = pack(&data());
        for at in (0..whole.len()).step_by(whole.len() / 100 + 1) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            let report = scan_bytes("model.pkl", &damaged);
            assert!(report.counts.inflated_bytes <= data().len() as u64 * 300, "{:?}", report.counts);
        }
    }
}

fn scan_within(bytes: &[u8], change: impl FnOnce(&mut Policy)) -> Report {
    let mut policy = Policy::default();
    change(&mut policy);
    scan("model.pkl", Cursor::new(bytes.to_vec()), &policy).expect("memory is readable")
}

#[test]
fn what_comes_out_of_streams_is_limited_in_sum() {
    for (end, _, pack) in KINDS {
        let (bytes, length) = (pack(&data()), data().len() as u64);
        assert_safe(&scan_within(&bytes, |policy| policy.limits.inflated_bytes = length));
        let report = scan_within(&bytes, |policy| policy.limits.inflated_bytes = length - 1);
        assert_eq!(codes(&report), [Code::InflateTotal].into(), "{end}: {report:#?}");
        let none = scan_within(&bytes, |policy| policy.limits.nesting_depth = 0);
        assert!(codes(&none).contains(&Code::NestingTooDeep), "{end}: {none:#?}");
    }
}

#[test]
fn the_folder_for_unpacked_content_is_left_as_it_was() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // More than is kept in memory.
    let text = "a line of text that compresses well\n".repeat(100_000);
    let report =
        scan_within(&gzip(text.as_bytes()), |policy| policy.spool_dir = Some(folder.path().to_owned()));
    assert!(report.counts.inflated_bytes > 1024 * 1024, "{:?}", report.counts);
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder is readable").count(), 0);
}
