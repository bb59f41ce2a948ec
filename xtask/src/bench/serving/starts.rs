//! From the start of the process to the first answer, and what loading in a child process first adds to it.

use std::path::Path;

use super::server::{Server, Setup};

/// Starts of each kind, in turns.
const STARTS: usize = 5;

/// How a start differs from the others.
struct Kind {
    title: &'static str,
    /// Whether the verdicts of earlier loads are there.
    keeps_verdicts: bool,
    environment: Vec<(&'static str, String)>,
}

/// Prints the medians; the memory at the first answer of a start that had its verdicts, in bytes.
pub(super) fn measure(program: &Path, folder: &Path) -> anyhow::Result<f64> {
    let off = vec![("SLIPWAY_SERVING_LOAD_PROBE", "false".to_owned())];
    let kinds = [
        Kind { title: "verdicts of child processes stored", keeps_verdicts: true, environment: Vec::new() },
        Kind { title: "each model in a child process first", keeps_verdicts: false, environment: Vec::new() },
        Kind { title: "child processes disabled", keeps_verdicts: true, environment: off },
    ];
    let mut times = kinds.each_ref().map(|_| Vec::new());
    let mut memory = 0.0;
    // The kernel's caches are warm from the first start on.
    for _ in 0..STARTS {
        for (kind, times) in kinds.iter().zip(&mut times) {
            if !kind.keeps_verdicts {
                crate::bench::clear(&folder.join("cache/probes"))?;
            }
            let server = Server::start(program, folder, &setup(kind))?;
            times.push(server.cold_start_ms);
            if kind.keeps_verdicts && kind.environment.is_empty() {
                memory = server.memory_bytes()?;
            }
        }
    }
    for (kind, mut times) in kinds.into_iter().zip(times) {
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        println!("| process start to first answer, {}: median of {STARTS} | {median:.0} ms |", kind.title);
    }
    Ok(memory)
}

fn setup(kind: &Kind) -> Setup {
    Setup { environment: kind.environment.clone(), ..Setup::default() }
}
