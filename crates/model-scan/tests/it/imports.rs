//! What a pickle may import, and by which name: whatever the way and the spelling, what gives away the
//! machine is found.

use std::io::Cursor;

use slipway_model_scan::{Code, LoaderCode, Policy, Report, Verdict, listed_globals, listed_versions, scan};

use crate::assemble::{CALLS, IMPORTS, global, inst, pickle};
use crate::{assert_safe, codes, scan_bytes};

/// Globals that run programs or code, reach files, or open connections.
const DANGEROUS: [(&str, &str); 40] = [
    ("os", "system"),
    ("os", "execv"),
    ("os.path", "join"),
    ("posix", "system"),
    ("nt", "system"),
    ("subprocess", "Popen"),
    ("subprocess", "check_output"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "compile"),
    ("builtins", "open"),
    ("builtins", "getattr"),
    ("builtins", "__import__"),
    ("builtins", "map"),
    ("__builtin__", "eval"),
    ("__builtin__", "execfile"),
    ("importlib", "import_module"),
    ("runpy", "run_path"),
    ("pty", "spawn"),
    ("shutil", "rmtree"),
    ("socket", "create_connection"),
    ("ctypes", "CDLL"),
    ("pickle", "loads"),
    ("_pickle", "loads"),
    ("cPickle", "loads"),
    ("marshal", "loads"),
    ("dill", "loads"),
    ("cloudpickle", "loads"),
    ("sys", "modules"),
    ("operator", "attrgetter"),
    ("multiprocessing.pool", "Pool"),
    ("urllib.request", "urlopen"),
    ("http.client", "HTTPConnection"),
    ("requests", "get"),
    ("webbrowser", "open"),
    ("code", "interact"),
    ("joblib", "load"),
    ("torch", "load"),
    ("numpy", "load"),
    ("numpy._core", "memmap"),
];

/// A file of a name that no loader takes for a pickle.
fn scan_pickle(opcodes: &[u8]) -> Report {
    scan_bytes("notes.txt", &pickle(opcodes))
}

#[test]
fn dangerous_globals_are_found_by_every_way_to_import_them() {
    for (module, name) in DANGEROUS {
        for (way, import) in IMPORTS {
            let report = scan_pickle(&import(module, name));
            let what = format!("{module}.{name} by {way}: {report:#?}");
            assert_eq!(report.verdict, Verdict::Unsafe, "{what}");
            assert!(codes(&report).contains(&Code::DangerousGlobal), "{what}");
            assert_eq!(report.code, LoaderCode::Present, "{what}");
        }
        let report = scan_pickle(&inst(module, name));
        assert!(codes(&report).contains(&Code::DangerousGlobal), "{module}.{name}: {report:#?}");
    }
}

#[test]
fn dangerous_globals_are_found_by_every_way_to_call_them() {
    for (call_name, call) in CALLS {
        for (way, import) in IMPORTS {
            let report = scan_pickle(&call(&import("os", "system")));
            let found = codes(&report).contains(&Code::DangerousGlobal);
            assert!(found && report.verdict == Verdict::Unsafe, "{way}, {call_name}: {report:#?}");
        }
    }
}

/// What is imported may be hidden in a container, behind a mark, in the memo, or in another pickle.
#[test]
fn dangerous_globals_are_found_wherever_they_are_kept() {
    let evil = global("posix", "system");
    for (before, behind) in [
        ("", ""),
        ("]", "a"),
        ("](", "e"),
        ("}K\u{1}", "s"),
        ("}(K\u{1}", "u"),
        ("(", "t"),
        ("(", "l"),
        ("(K\u{1}", "d"),
        ("(", "1N"),
        ("", "0N"),
        ("N", "0"),
        ("", "q\u{5}0N"),
        ("", "p5\n0g5\n"),
    ] {
        let opcodes = [before.as_bytes(), &evil, behind.as_bytes()].concat();
        let report = scan_pickle(&opcodes);
        assert!(codes(&report).contains(&Code::DangerousGlobal), "{before:?} {behind:?}: {report:#?}");
    }
    let second = [pickle(b"N"), pickle(&evil)].concat();
    assert!(codes(&scan_bytes("model.pkl", &second)).contains(&Code::DangerousGlobal));
}

#[test]
fn names_that_walk_attributes_are_refused() {
    for (module, name) in [
        ("numpy", "ndarray.sum"),
        ("torch", "_utils._rebuild_tensor_v2"),
        ("collections", "OrderedDict.fromkeys"),
        ("sklearn", "base.BaseEstimator"),
    ] {
        let report = scan_pickle(&IMPORTS[1].1(module, name));
        assert_eq!(codes(&report), [Code::DottedGlobal].into(), "{module}.{name}: {report:#?}");
    }
    // The way from any object to the interpreter.
    for name in [
        "ndarray.__class__",
        "dtype.__init__.__globals__",
        "ndarray.__reduce__",
        "os.system",
        "ndarray.__subclasses__",
        "x.eval",
        "a.__builtins__.b",
    ] {
        let report = scan_pickle(&IMPORTS[1].1("numpy", name));
        assert!(codes(&report).contains(&Code::DangerousGlobal), "numpy.{name}: {report:#?}");
    }
}

/// Spelling, and names that only look like those of the list.
#[test]
fn what_is_not_on_the_list_is_refused_by_its_name() {
    for (module, name) in [
        ("mymodel", "Net"),
        ("__main__", "Model"),
        ("numpyx.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "_reconstruct2"),
        ("Collections", "OrderedDict"),
        ("collections ", "OrderedDict"),
        ("sklearn.linear_model", "os"),
        ("torch", "Tensor"),
        ("datetime", "datetime"),
    ] {
        let report = scan_bytes("model.pkl", &pickle(&IMPORTS[1].1(module, name)));
        assert_eq!(codes(&report), [Code::GlobalNotAllowed].into(), "{module}.{name}: {report:#?}");
        assert_eq!(report.globals, [format!("{module}.{name}")]);
        assert!(report.findings[0].detail.contains(&format!("`{module}.{name}`")), "{report:#?}");
    }
}

#[test]
fn old_names_of_allowed_globals_are_the_same_globals() {
    for (module, name) in [
        ("builtins", "set"),
        ("__builtin__", "set"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("copy_reg", "_reconstructor"),
        ("copyreg", "_reconstructor"),
    ] {
        assert_safe(&scan_bytes("model.pkl", &pickle(&global(module, name))));
    }
}

#[test]
fn a_name_that_is_no_constant_is_refused() {
    for (why, opcodes) in [
        ("a number", b"K\x01K\x02\x93".as_slice()),
        ("a tuple", b"\x8c\x02os)\x93"),
        ("bytes", b"C\x02osC\x06system\x93"),
        ("an escape in a string", b"S'\\x6fs'\nS'system'\n\x93"),
        ("an escape in unicode", b"V\\u006fs\nVsystem\n\x93"),
        ("bytes of Python 2 that are no ASCII", b"U\x02\xc3\xa9\x8c\x01x\x93"),
        ("a result", b"cbuiltins\nset\n)R\x8c\x06system\x93"),
    ] {
        let report = scan_bytes("model.pkl", &pickle(opcodes));
        assert!(codes(&report).contains(&Code::CallNotFollowed), "{why}: {report:#?}");
        assert_eq!(report.verdict, Verdict::Unsafe, "{why}");
    }
    let long = "m".repeat(600);
    let report = scan_bytes("model.pkl", &pickle(&IMPORTS[2].1(&long, "f")));
    assert!(codes(&report).contains(&Code::CallNotFollowed), "a name of 600 bytes: {report:#?}");
}

#[test]
fn an_administrator_allows_a_global_and_hears_where() {
    let bytes = pickle(&[global("mymodel", "Net"), b")\x81}b".to_vec()].concat());
    let scan_as = |policy: &Policy| scan("model.pkl", Cursor::new(bytes.clone()), policy).unwrap();
    let policy = Policy { setting: Some("SLIPWAY_ALLOWED_GLOBALS"), ..Policy::default() };
    let refused = scan_as(&policy);
    assert_eq!(codes(&refused), [Code::GlobalNotAllowed].into());
    assert!(refused.findings[0].detail.contains("SLIPWAY_ALLOWED_GLOBALS"), "{refused:#?}");
    let allowed = scan_as(&policy.allow(["mymodel.Net"]));
    assert_safe(&allowed);
    assert_eq!(allowed.globals, ["mymodel.Net"], "it is named all the same");
}

#[test]
fn no_policy_allows_what_gives_away_the_machine() {
    let policy = Policy::default().allow(DANGEROUS.map(|(module, name)| format!("{module}.{name}")));
    for (module, name) in DANGEROUS {
        let report = scan("model.pkl", Cursor::new(pickle(&global(module, name))), &policy).unwrap();
        assert!(codes(&report).contains(&Code::DangerousGlobal), "{module}.{name}: {report:#?}");
    }
}

#[test]
fn without_the_list_of_models_their_classes_are_refused() {
    let estimators = listed_globals().filter(|(_, name)| name.starts_with("sklearn."));
    let estimators: Vec<_> = estimators.map(|(_, name)| name.rsplit_once('.').unwrap()).collect();
    assert!(estimators.len() > 100, "{}", estimators.len());
    for (module, name) in estimators {
        let bytes = pickle(&global(module, name));
        let report = scan("model.pkl", Cursor::new(bytes), &Policy::data_only()).unwrap();
        assert_eq!(codes(&report), [Code::GlobalNotAllowed].into(), "{module}.{name}: {report:#?}");
    }
}

/// Each entry permits what it says, and nothing of the list is one of those that give away the machine.
#[test]
fn entries_of_the_list_of_models_permit_what_they_say() {
    // What constructs plain data may be used in any way.
    let data = Policy::default().allowed_globals;
    for (permission, full) in listed_globals().filter(|(_, full)| !data.contains(*full)) {
        let (module, name) = full.rsplit_once('.').unwrap();
        let refer =
            scan_bytes("model.pkl", &pickle(&[b"]".to_vec(), global(module, name), b"a".to_vec()].concat()));
        let make = scan_bytes("model.pkl", &pickle(&[global(module, name), b")\x81".to_vec()].concat()));
        let call = scan_bytes("model.pkl", &pickle(&[global(module, name), b")R".to_vec()].concat()));
        let safe = [&refer, &make, &call].map(|report| report.verdict == Verdict::Safe);
        let expected = match permission {
            "reference" => [true, false, false],
            "instance" => [false, true, false],
            "class" => [true, true, false],
            "call" => [true, true, true],
            other => panic!("{full} has the permission {other}"),
        };
        assert_eq!(safe, expected, "{permission} {full}: {refer:#?} {make:#?} {call:#?}");
        for report in [refer, make, call] {
            assert!(!codes(&report).contains(&Code::DangerousGlobal), "{full}");
        }
    }
    assert!(listed_versions().all(|line| line.contains("python 3.")));
    assert!(listed_versions().count() >= 4);
}

#[test]
fn names_in_a_report_are_sorted_and_shown_without_control_characters() {
    let opcodes =
        [global("b", "x"), b"0".to_vec(), global("a", "x"), b"0".to_vec(), global("a", "x")].concat();
    assert_eq!(scan_bytes("model.pkl", &pickle(&opcodes)).globals, ["a.x", "b.x"]);
    let report = scan_bytes("model.pkl", &pickle(&IMPORTS[1].1("m\u{7}\u{1b}[2J", &"n".repeat(250))));
    let detail = &report.findings[0].detail;
    assert!(!detail.contains(char::is_control), "{detail:?}");
    assert!(detail.contains('…') && !detail.contains(&"n".repeat(250)), "{detail}");
}

/// An import that Python would never reach is none.
#[test]
fn text_that_begins_like_an_import_is_text() {
    for text in ["can this be\nanything but\ntext?\n", "iterations: 3\nloss: 0.1\n", "c\n", "cats\ndogs\n"] {
        assert_safe(&scan_bytes("notes.txt", text.as_bytes()));
    }
    for text in ["cos\nsystem\n.", "csubprocess\nPopen\n.", "(isys\nmodules\n."] {
        assert_eq!(scan_bytes("notes.txt", text.as_bytes()).verdict, Verdict::Unsafe, "{text:?}");
    }
}
