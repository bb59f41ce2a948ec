//! The pickle machine, opcode by opcode: constants are data, what is missing is refused, and nothing that
//! CPython runs is left early.

use std::io::Cursor;

use slipway_model_scan::{Code, Format, Policy, Verdict, scan};

use crate::assemble::{CALLS, global, pickle, short};
use crate::{assert_safe, codes, scan_bytes};

/// Opcodes that put one constant on the stack.
const CONSTANTS: [(&str, &[u8]); 38] = [
    ("NONE", b"N"),
    ("NEWTRUE", b"\x88"),
    ("NEWFALSE", b"\x89"),
    ("INT", b"I-12\n"),
    ("INT that is a bool", b"I01\n"),
    ("LONG", b"L123456789012345678901234567890L\n"),
    ("LONG without L", b"L5\n"),
    ("LONG1", b"\x8a\x02\xff\x00"),
    ("LONG1 of nothing", b"\x8a\x00"),
    ("LONG1 that is wide", b"\x8a\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c"),
    ("LONG4", b"\x8b\x02\x00\x00\x00\x01\x02"),
    ("BININT", b"J\x00\x00\x00\x80"),
    ("BININT1", b"K\xff"),
    ("BININT2", b"M\xff\xff"),
    ("FLOAT", b"F1.5e-3\n"),
    ("BINFLOAT", b"G\x3f\xf0\x00\x00\x00\x00\x00\x00"),
    ("STRING", b"S'a b'\n"),
    ("STRING in other quotes", b"S\"it's\"\n"),
    ("BINSTRING", b"T\x02\x00\x00\x00ab"),
    ("SHORT_BINSTRING", b"U\x02ab"),
    ("UNICODE", b"V\xc3\xa9\n"),
    ("BINUNICODE", b"X\x02\x00\x00\x00\xc3\xa9"),
    ("SHORT_BINUNICODE", b"\x8c\x01a"),
    ("BINUNICODE8", b"\x8d\x01\x00\x00\x00\x00\x00\x00\x00a"),
    ("BINBYTES", b"B\x02\x00\x00\x00\xff\x00"),
    ("SHORT_BINBYTES", b"C\x02\xff\x00"),
    ("BINBYTES8", b"\x8e\x01\x00\x00\x00\x00\x00\x00\x00\xff"),
    ("BYTEARRAY8", b"\x96\x01\x00\x00\x00\x00\x00\x00\x00\xff"),
    ("EMPTY_LIST", b"]"),
    ("EMPTY_DICT", b"}"),
    ("EMPTY_SET", b"\x8f"),
    ("EMPTY_TUPLE", b")"),
    ("TUPLE of nothing", b"(t"),
    ("LIST of nothing", b"(l"),
    ("DICT of nothing", b"(d"),
    ("FROZENSET of nothing", b"(\x91"),
    ("a place of the memo", b"Nq\x000h\x00"),
    ("MEMOIZE", b"N\x940h\x00"),
];

#[test]
fn constants_of_every_kind_are_data() {
    for (name, opcodes) in CONSTANTS {
        let report = scan_bytes("model.pkl", &pickle(opcodes));
        assert_safe(&report);
        assert_eq!((report.format, report.counts.pickles), (Format::Pickle, 1), "{name}");
        assert!(report.counts.opcodes >= 3, "{name}: {:?}", report.counts);
    }
}

#[test]
fn every_constant_that_breaks_off_is_refused_and_says_where() {
    for (name, opcodes) in CONSTANTS {
        let whole = pickle(opcodes);
        for length in 3..whole.len() {
            let report = scan_bytes("model.pkl", &whole[..length]);
            assert_eq!(report.verdict, Verdict::Unsafe, "{name} cut at {length}: {report:#?}");
            assert!(report.findings[0].detail.contains("byte"), "{name} cut at {length}: {report:#?}");
        }
    }
}

#[test]
fn containers_take_what_is_above_their_mark() {
    for (name, opcodes) in [
        ("TUPLE1", b"N\x85".as_slice()),
        ("TUPLE2", b"NN\x86"),
        ("TUPLE3", b"NNN\x87"),
        ("TUPLE", b"(NK\x01t"),
        ("LIST", b"(NNl"),
        ("DICT", b"(K\x01NK\x02Nd"),
        ("APPEND", b"]Na"),
        ("APPENDS", b"](NNe"),
        ("APPENDS of nothing", b"](e"),
        ("SETITEM", b"}K\x01Ns"),
        ("SETITEMS", b"}(K\x01NK\x02Nu"),
        ("ADDITEMS", b"\x8f(K\x01K\x02\x90"),
        ("FROZENSET", b"(K\x01\x91"),
        ("nested", b"](N\x85](Nee"),
        ("POP", b"NN0"),
        ("POP of a mark", b"N(0"),
        ("POP_MARK", b"N(NNN1"),
        ("DUP", b"N2\x86"),
    ] {
        let report = scan_bytes("model.pkl", &pickle(opcodes));
        assert_eq!((report.verdict, &report.findings[..]), (Verdict::Safe, &[][..]), "{name}: {report:#?}");
    }
}

/// CPython raises here, so nothing that follows is run, and the file is no pickle that could be trusted
/// either.
#[test]
fn what_an_opcode_needs_has_to_be_on_the_stack() {
    for (name, opcodes) in [
        ("STOP", b"".as_slice()),
        ("POP", b"0"),
        ("POP_MARK", b"1"),
        ("DUP", b"2"),
        ("TUPLE1", b"\x85"),
        ("TUPLE2", b"N\x86"),
        ("TUPLE3", b"NN\x87"),
        ("TUPLE without a mark", b"Nt"),
        ("LIST without a mark", b"l"),
        ("DICT without a mark", b"d"),
        ("APPEND", b"N0]a"),
        ("APPENDS without a mark", b"]Ne"),
        ("SETITEM", b"}Ns"),
        ("SETITEMS without a mark", b"}u"),
        ("ADDITEMS without a mark", b"\x8f\x90"),
        ("STACK_GLOBAL", b"N\x93"),
        ("REDUCE", b"NR"),
        ("NEWOBJ", b")\x81"),
        ("NEWOBJ_EX", b")}\x92"),
        ("OBJ without a mark", b"o"),
        ("OBJ of nothing", b"(o"),
        ("BUILD", b"Nb"),
        ("BINPUT", b"q\x00"),
        ("MEMOIZE", b"\x94"),
        ("values below a mark", b"NN(\x86"),
    ] {
        let report = scan_bytes("model.pkl", &pickle(opcodes));
        assert_eq!(codes(&report), [Code::CannotBeFollowed].into(), "{name}: {report:#?}");
    }
}

#[test]
fn the_memo_holds_what_was_put_there_and_nothing_else() {
    for get in [b"h\x05".as_slice(), b"j\x05\x00\x00\x00", b"g5\n", b"g 5 \n", b"g+5\n"] {
        for put in [b"q\x05".as_slice(), b"r\x05\x00\x00\x00", b"p5\n"] {
            assert_safe(&scan_bytes("model.pkl", &pickle(&[b"N", put, b"0", get].concat())));
        }
        let unset = scan_bytes("model.pkl", &pickle(get));
        assert_eq!(codes(&unset), [Code::CannotBeFollowed].into(), "{unset:#?}");
        assert!(unset.findings[0].detail.contains("place 5 of the memo"), "{unset:#?}");
    }
    for broken in [b"Np\n".as_slice(), b"Npx\n", b"Np-1\n", b"Np1__0\n", b"Ng99999999999999999999\n"] {
        assert_eq!(codes(&scan_bytes("model.pkl", &pickle(broken))), [Code::CannotBeFollowed].into());
    }
    // MEMOIZE counts the places that are taken.
    let evil =
        [short("posix"), b"\x94".to_vec(), short("system"), b"\x94\x86h\x00h\x01\x93".to_vec()].concat();
    assert!(codes(&scan_bytes("notes.txt", &pickle(&evil))).contains(&Code::DangerousGlobal));
}

#[test]
fn protocols_and_frames_are_held_against_the_format() {
    for version in 0..=5 {
        assert_safe(&scan_bytes("model.pkl", &[0x80, version, b'N', b'.']));
    }
    for version in [6, 77, 255] {
        let report = scan_bytes("model.pkl", &[0x80, version, b'N', b'.']);
        assert_ne!(report.verdict, Verdict::Safe, "{version}: {report:#?}");
    }
    let frame = |length: u64| [b"\x80\x04\x95".as_slice(), &length.to_le_bytes(), b"N."].concat();
    assert_safe(&scan_bytes("model.pkl", &frame(2)));
    for length in [3, 1_000, u64::MAX] {
        let report = scan_bytes("model.pkl", &frame(length));
        assert!(codes(&report).contains(&Code::CannotBeFollowed), "{length}: {report:#?}");
    }
}

#[test]
fn every_byte_that_is_no_opcode_is_refused() {
    let known = b"(.012FGIJKLMNPQRSTUVXabcdeghijlopqrstu]})";
    for byte in 0..=255_u8 {
        if known.contains(&byte) || (0x80..=0x98).contains(&byte) || byte == b'B' || byte == b'C' {
            continue;
        }
        let report = scan_bytes("model.pkl", &[0x80, 4, b'N', byte, b'.']);
        assert_eq!(report.verdict, Verdict::Unsafe, "0x{byte:02x}: {report:#?}");
        let expected = format!("0x{byte:02x} at byte 3 is no opcode");
        assert!(report.findings[0].detail.contains(&expected), "{report:#?}");
    }
}

#[test]
fn what_is_asked_of_the_process_is_refused() {
    for (name, opcodes, code) in [
        ("EXT1", b"\x82\x01".as_slice(), Code::ExtensionCode),
        ("EXT2", b"\x83\x01\x02", Code::ExtensionCode),
        ("EXT4", b"\x84\x01\x02\x03\x04", Code::ExtensionCode),
        ("PERSID", b"Psome id\n", Code::PersistentId),
        ("BINPERSID", b"\x8c\x02idQ", Code::PersistentId),
        ("NEXT_BUFFER", b"\x97", Code::CannotBeFollowed),
        ("READONLY_BUFFER", b"N\x98", Code::CannotBeFollowed),
    ] {
        let report = scan_bytes("model.pkl", &pickle(opcodes));
        assert_eq!(codes(&report), [code].into(), "{name}: {report:#?}");
        assert_eq!(report.verdict, Verdict::Unsafe, "{name}");
    }
}

#[test]
fn calls_of_what_is_no_import_are_refused() {
    for callable in [b"N".as_slice(), b"K\x01", b"\x8c\x02os", b"]", b"}", b"N\x85"] {
        for (name, call) in CALLS {
            let report = scan_bytes("model.pkl", &pickle(&call(callable)));
            assert!(codes(&report).contains(&Code::CallNotFollowed), "{name} of {callable:?}: {report:#?}");
        }
    }
    // What a call gives back is no import either, although the call itself is allowed.
    let made = [global("builtins", "set"), b")R".to_vec()].concat();
    assert_safe(&scan_bytes("model.pkl", &pickle(&made)));
    let report = scan_bytes("model.pkl", &pickle(&[made, b")R".to_vec()].concat()));
    assert_eq!(codes(&report), [Code::CallNotFollowed].into());
}

#[test]
fn states_are_set_once_and_on_instances_only() {
    let instance = [global("collections", "OrderedDict"), b")\x81".to_vec()].concat();
    assert_safe(&scan_bytes("model.pkl", &pickle(&[instance.clone(), b"}b".to_vec()].concat())));
    for (why, opcodes) in [
        ("twice", [instance.clone(), b"}b}b".to_vec()].concat()),
        ("of a class", [global("collections", "OrderedDict"), b"}b".to_vec()].concat()),
        ("before items", [instance, b"}bNa".to_vec()].concat()),
    ] {
        let report = scan_bytes("model.pkl", &pickle(&opcodes));
        assert!(codes(&report).contains(&Code::CallNotFollowed), "{why}: {report:#?}");
    }
}

#[test]
fn items_are_added_to_containers_only() {
    let class = global("collections", "OrderedDict");
    for (name, add) in
        [("APPEND", b"Na".as_slice()), ("APPENDS", b"(Ne"), ("ADDITEMS", b"(N\x90"), ("SETITEM", b"NNs")]
    {
        let report = scan_bytes("model.pkl", &pickle(&[class.as_slice(), add].concat()));
        assert!(codes(&report).contains(&Code::CallNotFollowed), "{name}: {report:#?}");
    }
}

#[test]
fn memory_by_its_number_is_limited() {
    for name in ["bytearray", "bytes"] {
        let of = |count: i32| {
            let count = [b"J".as_slice(), &count.to_le_bytes(), b"\x85R"].concat();
            scan_bytes("model.pkl", &pickle(&[global("builtins", name), count].concat()))
        };
        assert_safe(&of(1_000_000));
        assert_eq!(codes(&of(i32::MAX)), [Code::LimitExceeded].into(), "{name}");
    }
}

#[test]
fn a_reconstruction_is_of_a_listed_class_and_a_plain_base() {
    let reconstruct = |class: Vec<u8>, base: Vec<u8>| {
        let arguments = [class, base, b"N\x87R".to_vec()].concat();
        scan_bytes("model.pkl", &pickle(&[global("copy_reg", "_reconstructor"), arguments].concat()))
    };
    let ordered = || global("collections", "OrderedDict");
    for base in ["object", "dict", "list", "tuple"] {
        let report = reconstruct(ordered(), global("__builtin__", base));
        assert!(!codes(&report).contains(&Code::CallNotFollowed), "{base}: {report:#?}");
    }
    for (class, base) in [
        (b"N".to_vec(), global("builtins", "object")),
        (ordered(), b"N".to_vec()),
        (ordered(), global("collections", "OrderedDict")),
        (global("builtins", "eval"), global("builtins", "object")),
    ] {
        assert_eq!(reconstruct(class, base).verdict, Verdict::Unsafe);
    }
}

#[test]
fn limits_of_a_policy_hold() {
    let bytes = pickle(&[b"N0".repeat(5_000), b"N".to_vec()].concat());
    let needed = scan_bytes("model.pkl", &bytes).counts.opcodes;
    assert!(needed > 10_000, "{needed}");
    let mut policy = Policy::default();
    for (opcodes, verdict) in [(needed, Verdict::Safe), (needed - 1, Verdict::Unsafe), (1, Verdict::Unsafe)] {
        policy.limits.opcodes = opcodes;
        let report = scan("model.pkl", Cursor::new(bytes.clone()), &policy).unwrap();
        assert_eq!(report.verdict, verdict, "{opcodes}: {report:#?}");
        assert!(report.findings.iter().all(|finding| finding.detail.contains("opcodes")), "{report:#?}");
    }
}

#[test]
fn findings_beyond_the_limit_are_counted_and_not_kept() {
    let one = [global("m", "x"), b"0".to_vec()].concat();
    let names = (0..2_000).map(|at| [global("m", &format!("x{at}")), b"0".to_vec()].concat());
    let bytes = pickle(&[names.collect::<Vec<_>>().concat(), b"N".to_vec()].concat());
    let report = scan_bytes("model.pkl", &bytes);
    assert!(report.findings.len() <= slipway_model_scan::MAX_FINDINGS, "{}", report.findings.len());
    assert!(report.globals.len() <= slipway_model_scan::MAX_REPORTED_GLOBALS, "{}", report.globals.len());
    assert_eq!(report.verdict, Verdict::Unsafe);
    let again = scan_bytes("model.pkl", &pickle(&[one.repeat(3), b"N".to_vec()].concat()));
    assert_eq!(again.globals, ["m.x"]);
}
