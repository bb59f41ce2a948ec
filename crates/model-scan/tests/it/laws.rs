//! What holds for every file: a scan ends without a panic, and no padding or renaming makes an unsafe file
//! safe.

use proptest::prelude::*;
use slipway_model_scan::Verdict;

use crate::{fixture, folder, scan_bytes};

fn all_fixtures() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder())
        .expect("the folder is readable")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.ends_with(".py"))
        .map(|name| (name.clone(), fixture(&name)))
        .collect();
    files.sort();
    assert!(files.len() > 50);
    files
}

/// Pickles that CPython was seen to run a command from.
const RUNNING: [&str; 11] = [
    "evil_global.pkl",
    "evil_no_stop.pkl",
    "evil_inst.pkl",
    "evil_obj.pkl",
    "evil_stack_global.pkl",
    "evil_memo.pkl",
    "evil_memo_dict.pkl",
    "evil_escaped.pkl",
    "evil_second.pkl",
    "evil_second_p0.pkl",
    "evil.onnx",
];

#[test]
fn every_truncation_of_every_fixture_ends() {
    for (name, bytes) in all_fixtures() {
        let step = (bytes.len() / 200).max(1);
        for length in (0..bytes.len()).step_by(step) {
            scan_bytes(&name, &bytes[..length]);
        }
    }
}

#[test]
fn an_evil_pickle_is_unsafe_from_its_call_on() {
    // Cut after the call, before STOP, it has run already.
    for name in RUNNING {
        let bytes = fixture(name);
        assert_eq!(scan_bytes("x.txt", &bytes[..bytes.len() - 1]).verdict, Verdict::Unsafe, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), start in 0_usize..6) {
        let starts: [&[u8]; 6] = [b"", b"\x80\x04", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"x\x9c", b"BZh9"];
        scan_bytes("x.bin", &[starts[start], &bytes].concat());
    }

    #[test]
    fn flipped_bits_end(which in 0_usize..1_000,
        flips in proptest::collection::vec((any::<usize>(), 0_u8..8), 1..8)) {
        let files = all_fixtures();
        let (name, mut bytes) = files[which % files.len()].clone();
        for (at, bit) in flips {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        }
        scan_bytes(&name, &bytes);
    }

    #[test]
    fn bytes_behind_an_evil_pickle_do_not_make_it_safe(
        which in 0..RUNNING.len(),
        suffix in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [fixture(RUNNING[which]), suffix].concat();
        prop_assert_eq!(scan_bytes("x.txt", &bytes).verdict, Verdict::Unsafe);
    }

    #[test]
    fn opcodes_before_an_evil_pickle_do_not_make_it_safe(
        which in 0..RUNNING.len(),
        prefix in proptest::collection::vec(prop::sample::select(vec![
            b"N0".as_slice(), b"]0", b"(1", b"(0", b"K\x010", b"N200", b"}(u0", b"I1\n0", b"V\n0", b"S'x'\n0",
                b"\x8c\x01.0",
            b"X\x03\x00\x00\x00abc0", b"C\x02\x80.0", b"\x80\x04", b"\x80\x00",
                b"G@\x00\x00\x00\x00\x00\x00\x000", b"(NNt0",
        ]), 0..20),
    ) {
        // These leave the stack as it was, so CPython still runs what follows.
        let bytes = [prefix.concat(), fixture(RUNNING[which])].concat();
        prop_assert_eq!(scan_bytes("x.txt", &bytes).verdict, Verdict::Unsafe);
    }

    #[test]
    fn junk_before_a_pickle_does_not_make_it_safe(
        which in 0..RUNNING.len(),
        prefix in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let bytes = [prefix, fixture(RUNNING[which])].concat();
        prop_assert_ne!(scan_bytes("x.pkl", &bytes).verdict, Verdict::Safe);
    }
}
