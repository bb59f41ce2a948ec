//! Which folder is whose.

use std::process::{Command, Stdio};
use std::time::Duration;

/// `slipway --data-dir` is the directory of the platform; a launcher that is started with it keeps its own.
#[test]
fn the_directory_of_the_platform_is_not_that_of_the_launcher() {
    let folder = tempfile::tempdir().unwrap();
    let (platform, own) = (folder.path().join("platform"), folder.path().join("launcher"));
    let mut launcher = Command::new(env!("CARGO_BIN_EXE_slipway"))
        .arg("--data-dir")
        .arg(&platform)
        .args(["service", "launcher"])
        .env("SLIPWAY_DATA_DIR", &own)
        .env("SLIPWAY_LISTEN", "127.0.0.1:0")
        // Nobody is there: it makes its folders and waits.
        .env("SLIPWAY_POSTGRES_URL", "postgres://127.0.0.1:9/slipway")
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut looks = 0;
    while !own.join("launcher-id").exists() && looks < 600 {
        looks += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    assert!(own.join("launcher-id").exists() && own.join("logs").exists());
    assert!(!platform.exists(), "nothing of the launcher is in the directory of the platform");
}
