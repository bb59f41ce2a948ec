//! Tar archives, block by block: what two readers could unpack differently is refused.

use slipway_model_scan::{Code, Format, Report, Verdict};

use crate::{assert_safe, codes, scan_bytes};

/// The header of a member by POSIX `ustar`, with its checksum.
fn header(name: &str, kind: u8, size: u64) -> [u8; 512] {
    let mut block = [0_u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A member with its content, filled up to whole blocks.
fn member(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, kind, content.len() as u64).to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// An archive with the two blocks of zeros that end it.
fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = members.concat();
    bytes.extend([0; 1024]);
    bytes
}

fn scan(members: &[Vec<u8>]) -> Report {
    scan_bytes("model.tar", &archive(members))
}

const EVIL: &[u8] = b"cos\nsystem\n(S'id'\ntR.";

#[test]
fn files_and_folders_are_looked_at() {
    let report = scan(&[
        member("model/", b'5', b""),
        member("model/readme.md", b'0', b"# A model\n"),
        member("model/labels.txt", 0, b"cat\ndog\n"),
        member("model/old/", 0, b""),
    ]);
    assert_safe(&report);
    assert_eq!((report.format, report.counts.members), (Format::Tar, 4));
    for kind in [b'0', 0, b'7'] {
        let report = scan(&[member("a.txt", b'0', b"text"), member("model.bin", kind, EVIL)]);
        assert!(codes(&report).contains(&Code::DangerousGlobal), "{kind}: {report:#?}");
        assert_eq!(report.findings[0].path, "model.tar!/model.bin");
    }
}

#[test]
fn members_that_are_no_files_are_refused() {
    for (kind, code) in [
        (b'1', Code::MemberIsLink),
        (b'2', Code::MemberIsLink),
        (b'3', Code::MemberIsSpecial),
        (b'4', Code::MemberIsSpecial),
        (b'6', Code::MemberIsSpecial),
        (b'S', Code::CannotBeFollowed),
        (b'M', Code::CannotBeFollowed),
        (b'Z', Code::CannotBeFollowed),
        (0xff, Code::CannotBeFollowed),
    ] {
        let report = scan(&[member("x", kind, b"")]);
        assert_eq!(codes(&report), [code].into(), "{}: {report:#?}", kind.escape_ascii());
        assert_eq!(report.verdict, Verdict::Unsafe);
    }
    // A folder or a link of which content is said: readers disagree about where the next member begins.
    for kind in [b'5', b'2'] {
        let report = scan(&[member("x/", kind, EVIL)]);
        assert!(codes(&report).contains(&Code::CannotBeFollowed), "{report:#?}");
    }
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    for (name, code) in [
        ("../x.txt", Code::MemberNameTraversal),
        ("a/../../x.txt", Code::MemberNameTraversal),
        ("a\\..\\..\\x.txt", Code::MemberNameTraversal),
        ("/etc/x.txt", Code::MemberNameAbsolute),
        ("\\x.txt", Code::MemberNameAbsolute),
        ("C:x.txt", Code::MemberNameAbsolute),
    ] {
        let report = scan(&[member(name, b'0', b"text")]);
        assert!(codes(&report).contains(&code), "{name}: {report:#?}");
        assert_eq!(report.verdict, Verdict::Unsafe, "{name}");
    }
    for (first, second) in
        [("a.txt", "a.txt"), ("a.txt", "./a.txt"), ("d/a.txt", "d//a.txt"), ("d/a.txt", "d\\a.txt")]
    {
        let report = scan(&[member(first, b'0', b"text"), member(second, b'0', b"text")]);
        assert_eq!(codes(&report), [Code::MemberNameDuplicate].into(), "{second}: {report:#?}");
    }
}

/// A pax header gives the name or the size that some readers know and others do not.
fn pax(records: &str) -> Vec<u8> {
    member("PaxHeaders/x", b'x', records.as_bytes())
}

fn record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len() + 1;
    while length.to_string().len() + rest.len() != length {
        length = length.to_string().len() + rest.len();
    }
    format!("{length}{rest}")
}

#[test]
fn long_names_of_both_kinds_are_the_names_of_the_next_member() {
    let long = format!("{}/model.txt", "folder".repeat(30));
    for before in [member("././@LongLink", b'L', format!("{long}\0").as_bytes()), pax(&record("path", &long))]
    {
        let report = scan(&[before.clone(), member("short.txt", b'0', b"text")]);
        assert_safe(&report);
        let report = scan(&[before, member("short.txt", b'0', EVIL)]);
        assert_eq!(report.findings[0].path.split("!/").nth(1), Some(long.as_str()), "{report:#?}");
    }
    for name in ["../../evil.txt", "/evil.txt"] {
        for before in [member("././@LongLink", b'L', name.as_bytes()), pax(&record("path", name))] {
            let report = scan(&[before, member("short.txt", b'0', b"text")]);
            assert_eq!(report.verdict, Verdict::Unsafe, "{name}: {report:#?}");
        }
    }
}

#[test]
fn extended_headers_that_are_ambiguous_are_refused() {
    let text = member("a.txt", b'0', b"text");
    let size = record("size", "1000000");
    for (why, before) in [
        ("two names", vec![pax(&record("path", "b")), pax(&record("path", "c"))]),
        ("two long names", vec![member("x", b'L', b"b"), member("x", b'L', b"c")]),
        ("a name for all members", vec![member("x", b'g', record("path", "b").as_bytes())]),
        ("a size for all members", vec![member("x", b'g', record("size", "1").as_bytes())]),
        ("a sparse file", vec![pax(&record("GNU.sparse.major", "1"))]),
        ("a size beyond the archive", vec![pax(&size)]),
        ("a record without a length", vec![pax("path=b\n")]),
        ("a record that is too long", vec![pax("900 path=b\n")]),
        ("a record without its end", vec![pax("9 path=bb")]),
        ("a size that is no number", vec![pax(&record("size", "many"))]),
    ] {
        let report = scan(&[before, vec![text.clone()]].concat());
        assert!(codes(&report).contains(&Code::CannotBeFollowed), "{why}: {report:#?}");
        assert_eq!(report.verdict, Verdict::Unsafe, "{why}");
    }
    let harmless = pax(&[record("mtime", "1.5"), record("comment", "é")].concat());
    assert_safe(&scan(&[harmless, text]));
}

#[test]
fn numbers_are_read_as_every_reader_reads_them() {
    // Base 256, as GNU tar writes sizes beyond 8 GiB.
    let mut block = header("a.txt", b'0', 0);
    block[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4]);
    seal(&mut block);
    let mut bytes = block.to_vec();
    bytes.extend(b"text");
    bytes.resize(1024, 0);
    assert_safe(&scan(&[bytes.clone()]));
    // A size that is none.
    bytes[124..136].copy_from_slice(b"999999999999");
    let sealed: &mut [u8; 512] = bytes.first_chunk_mut().unwrap();
    seal(sealed);
    assert_ne!(scan(&[bytes]).verdict, Verdict::Safe);
}

#[test]
fn a_checksum_that_is_wrong_is_no_header() {
    let mut second = member("b.txt", b'0', b"text");
    second[0] ^= 1;
    let report = scan(&[member("a.txt", b'0', b"text"), second]);
    assert_eq!(codes(&report), [Code::CannotBeFollowed].into(), "{report:#?}");
    assert!(report.findings[0].detail.contains("byte 1024"), "{report:#?}");
}

#[test]
fn an_archive_ends_with_zeros_and_nothing_behind_them() {
    let sound = archive(&[member("a.txt", b'0', b"text")]);
    assert_safe(&scan_bytes("model.tar", &sound));
    assert_safe(&scan_bytes("model.tar", &[sound.as_slice(), &[0; 9_216]].concat()));
    for behind in [b"x".as_slice(), EVIL, &member("b.txt", b'0', EVIL)] {
        let report = scan_bytes("model.tar", &[sound.as_slice(), behind].concat());
        assert!(codes(&report).contains(&Code::TrailingBytes), "{report:#?}");
    }
    for length in (512..1_024).step_by(64) {
        let report = scan_bytes("model.tar", &sound[..length]);
        assert_eq!(report.verdict, Verdict::Unsafe, "cut at {length}: {report:#?}");
    }
}
