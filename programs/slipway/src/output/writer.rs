//! The one place that writes to standard output and standard error.
//!
//! A reader that stops reading (`slipway models list | head`) ends the command quietly with [`BROKEN_PIPE`],
//! as `SIGPIPE` ends other Unix tools. Rust ignores `SIGPIPE`, so that `println!` would panic instead.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Exit code after the reader of standard output is gone: 128 + `SIGPIPE`.
const BROKEN_PIPE: i32 = 141;

static OUTLIVES_READER: AtomicBool = AtomicBool::new(false);

/// From now on output without a reader is dropped and the command continues: `slipway up` keeps the platform
/// running.
pub(crate) fn outlive_reader() {
    OUTLIVES_READER.store(true, Ordering::Relaxed);
}

/// Ends the process as soon as the reader of standard output is gone, even while there is nothing to write.
pub(crate) fn end_with_reader() {
    let watch = || {
        let output = std::io::stdout();
        // Without requested events `poll` reports errors alone: the end of a pipe or a socket.
        let mut watched = [PollFd::new(output.as_fd(), PollFlags::empty())];
        loop {
            match poll(&mut watched, PollTimeout::NONE) {
                Ok(_) => std::process::exit(BROKEN_PIPE),
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    };
    // Without the thread the next write notices.
    let _ = std::thread::Builder::new().name("reader-watch".to_owned()).spawn(watch);
}

/// Writes bytes as they are.
pub(crate) fn raw(bytes: &[u8]) {
    let mut output = std::io::stdout().lock();
    let Err(error) = output.write_all(bytes).and_then(|()| output.flush()) else { return };
    if OUTLIVES_READER.load(Ordering::Relaxed) {
        return;
    }
    if error.kind() != std::io::ErrorKind::BrokenPipe {
        raw_error(format!("slipway: cannot write to standard output: {error}\n").as_bytes());
        std::process::exit(1);
    }
    std::process::exit(BROKEN_PIPE);
}

/// Writes bytes to standard error; there is no place left to report a failure of that.
pub(crate) fn raw_error(bytes: &[u8]) {
    let mut output = std::io::stderr().lock();
    let _ = output.write_all(bytes).and_then(|()| output.flush());
}
