//! Sizes of images, and their limits.

use anyhow::bail;

use super::catalog::Variant;
use super::{Made, Profile};

const MIB: u64 = 1024 * 1024;
/// Compressed size of the layers of a service without ONNX Runtime.
const MAX_SERVICE_BYTES: u64 = 60 * MIB;
/// Size of the static agent, which is copied into each pod of a job.
const MAX_AGENT_BYTES: u64 = 8 * MIB;

/// Prints a table.
pub(crate) fn print(made: &[Made]) {
    println!("{:<28} {:>12} {:>12}  digest", "image", "compressed", "program");
    for one in made {
        let (title, layers, program) = (one.image.title(), mib(one.layer_bytes), mib(one.program_bytes));
        println!("{title:<28} {layers:>12} {program:>12}  {}", one.digest);
    }
    for one in made {
        println!("{}  {}", one.archive.display(), one.reference);
    }
}

/// Fails if an image of the profile `dist` is too large.
pub(crate) fn check(profile: Profile, made: &[Made]) -> anyhow::Result<()> {
    if profile != Profile::Dist {
        return Ok(());
    }
    let too_large: Vec<String> = made.iter().filter_map(excess).collect();
    if too_large.is_empty() {
        return Ok(());
    }
    bail!("too large: {}", too_large.join(", "))
}

fn excess(one: &Made) -> Option<String> {
    let (size, limit) = match one.image.variant {
        Variant::Plain => (one.layer_bytes, MAX_SERVICE_BYTES),
        Variant::Static => (one.program_bytes, MAX_AGENT_BYTES),
        Variant::OnnxCpu => return None,
    };
    (size > limit).then(|| format!("{} has {}, limit {}", one.image.title(), mib(size), mib(limit)))
}

/// A size in MiB with one decimal.
fn mib(bytes: u64) -> String {
    let tenths = (bytes * 10 + MIB / 2) / MIB;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
