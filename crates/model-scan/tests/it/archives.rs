//! Zip and tar archives, honest and not.

use std::io::{Cursor, Write as _};

use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use slipway_model_scan::{Code, Format, Policy, Report, scan};

use crate::{assert_found, assert_safe, codes, fixture, scan_bytes, scan_fixture};

/// A member of an archive made here, with what its two headers say.
#[derive(Clone)]
struct Member {
    name: Vec<u8>,
    local_name: Vec<u8>,
    content: Vec<u8>,
    method: u16,
    flags: u16,
    size: u32,
    attributes: u32,
}

fn member(name: &str, content: &[u8]) -> Member {
    Member {
        name: name.into(),
        local_name: name.into(),
        content: content.to_vec(),
        method: 0,
        flags: 0,
        size: content.len() as u32,
        attributes: 0,
    }
}

/// Puts an archive together by APPNOTE.TXT 4.3.
fn archive(members: &[Member]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for member in members {
        let offset = out.len() as u32;
        let mut common = [20_u16, member.flags, member.method, 0, 0].map(u16::to_le_bytes).concat();
        common.extend([0, member.content.len() as u32, member.size].map(u32::to_le_bytes).concat());
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend([member.local_name.len() as u16, 0].map(u16::to_le_bytes).concat());
        out.extend(&member.local_name);
        out.extend(&member.content);
        directory.extend(b"PK\x01\x02\x14\x03");
        directory.extend(&common);
        directory.extend([member.name.len() as u16, 0, 0, 0, 0].map(u16::to_le_bytes).concat());
        directory.extend([member.attributes, offset].map(u32::to_le_bytes).concat());
        directory.extend(&member.name);
    }
    let start = out.len() as u32;
    out.extend(&directory);
    let count = members.len() as u16;
    out.extend(b"PK\x05\x06");
    out.extend([0, 0, count, count].map(u16::to_le_bytes).concat());
    out.extend([directory.len() as u32, start].map(u32::to_le_bytes).concat());
    out.extend([0, 0]);
    out
}

fn scan_archive(members: &[Member]) -> Report {
    scan_bytes("x.zip", &archive(members))
}

#[test]
fn honest_archives_are_safe() {
    assert_safe(&scan_fixture("plain.zip"));
    assert_safe(&scan_archive(&[member("a/", b""), member("a/b.txt", b"text")]));
    assert_safe(&scan_bytes("x.zip", &archive(&[])));
    let report = scan_fixture("plain.tar");
    assert_safe(&report);
    assert_eq!((report.format, report.counts.members), (Format::Tar, 1));
}

#[test]
fn pickles_in_archives_in_archives_are_found() {
    let report = assert_found("nested.zip", Code::DangerousGlobal);
    assert_eq!(report.findings[0].path, "nested.zip!/inner.zip!/weights/model.pkl");
    assert_found("evil.tar", Code::DangerousGlobal);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&fixture("evil.tar")).unwrap();
    let report = scan_bytes("m.tar.gz", &gzip.finish().unwrap());
    assert_eq!(report.findings[0].path, "m.tar.gz!/m.tar!/model.pkl");
    // An archive that begins as something else.
    assert_found("prefixed.bin", Code::DangerousGlobal);
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let report = scan_fixture("slip.zip");
    assert_eq!(
        codes(&report),
        [Code::MemberNameTraversal, Code::MemberNameAbsolute, Code::NotUnderstood].into()
    );
    assert_eq!(report.counts.findings, 6);
    let report = scan_fixture("slip.tar");
    let expected =
        [Code::MemberNameTraversal, Code::MemberIsLink, Code::MemberIsSpecial, Code::NotUnderstood];
    assert_eq!(codes(&report), expected.into());
    assert_found("duplicate.zip", Code::MemberNameDuplicate);
    assert_eq!(codes(&scan_archive(&[member("a\0.txt", b"")])), [Code::MemberNameInvalid].into());
    assert_eq!(codes(&scan_archive(&[member("..\\x", b"")])), [Code::MemberNameTraversal].into());
}

#[test]
fn headers_that_disagree_are_refused() {
    let good = member("a.txt", b"text");
    let cases: [(Member, Code); 5] = [
        (Member { local_name: b"b.txt".to_vec(), ..good.clone() }, Code::ZipDirectoryMismatch),
        (Member { size: 3, ..good.clone() }, Code::ZipDirectoryMismatch),
        (Member { flags: 1, ..good.clone() }, Code::MemberEncrypted),
        (Member { method: 99, ..good.clone() }, Code::NotUnderstood),
        (Member { attributes: 0o120_777 << 16, ..good.clone() }, Code::MemberIsLink),
    ];
    for (member, code) in cases {
        assert_eq!(codes(&scan_archive(&[member])), [code].into());
    }
    let sound = archive(&[good.clone(), member("b.txt", b"text")]);
    // The directory points twice to the first member.
    let mut shared = sound.clone();
    let second = shared.len() - 22 - 5 - 4;
    shared[second..second + 4].copy_from_slice(&[0; 4]);
    assert!(codes(&scan_bytes("x.zip", &shared)).contains(&Code::ZipOverlap));
    // A member that the directory does not list: the end record and the directory are those of the second
    // alone.
    let hidden = [archive(&[good]), sound].concat();
    assert!(codes(&scan_bytes("x.zip", &hidden)).contains(&Code::ZipDirectoryMismatch));
    let mut trailing = fixture("plain.zip");
    trailing.extend(b"more");
    assert_eq!(codes(&scan_bytes("x.zip", &trailing)), [Code::ZipDirectoryMismatch].into());
}

#[test]
fn bombs_are_stopped() {
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; 1024 * 1024];
    for _ in 0..80 {
        deflate.write_all(&zeros).unwrap();
    }
    let content = deflate.finish().unwrap();
    let size = 80 * 1024 * 1024;
    let bomb = Member { method: 8, size, ..member("zeros.raw", &content) };
    assert_eq!(codes(&scan_archive(std::slice::from_ref(&bomb))), [Code::InflateRatio].into());

    let mut policy = Policy::default();
    policy.limits.inflated_bytes = 1024 * 1024;
    let report = scan("x.zip", Cursor::new(archive(&[bomb])), &policy).unwrap();
    assert_eq!(codes(&report), [Code::InflateTotal].into());

    policy.limits.members = 1;
    let report = scan("x.zip", Cursor::new(archive(&[member("a", b""), member("b", b"")])), &policy).unwrap();
    assert_eq!(codes(&report), [Code::TooManyMembers].into());
}

#[test]
fn a_stream_that_breaks_after_its_pickle_is_refused() {
    // A loader that inflates bit by bit has run the pickle before it comes to the broken checksum.
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::none());
    zlib.write_all(&fixture("evil_global.pkl")).expect("memory is writable");
    let mut broken = zlib.finish().expect("memory is writable");
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let report = scan_bytes("notes.txt", &broken);
    assert_eq!(codes(&report), [Code::DangerousGlobal, Code::CannotBeFollowed].into());
    assert_eq!(report.format, Format::Zlib);

    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(b"text").expect("memory is writable");
    let whole = gzip.finish().expect("memory is writable");
    assert_safe(&scan_bytes("notes.txt.gz", &whole));
    let cut = &whole[..whole.len() - 6];
    assert_eq!(codes(&scan_bytes("notes.txt.gz", cut)), [Code::CannotBeFollowed].into());
}

#[test]
fn nesting_is_limited() {
    let mut inner = archive(&[member("a.txt", b"text")]);
    for depth in 0..10 {
        inner = archive(&[member(&format!("{depth}.zip"), &inner)]);
    }
    assert!(codes(&scan_bytes("x.zip", &inner)).contains(&Code::NestingTooDeep));
}

#[test]
fn tar_archives_that_break_off_are_refused() {
    let plain = fixture("plain.tar");
    assert_eq!(codes(&scan_bytes("x.tar", &plain[..600])), [Code::CannotBeFollowed].into());
    let mut trailing = plain;
    trailing.extend(b"more");
    assert_eq!(codes(&scan_bytes("x.tar", &trailing)), [Code::TrailingBytes].into());
}
