//! Millions of requests to one server, and its memory meanwhile: it should stay as it is.

use std::path::Path;

use super::super::BYTES_PER_MIB;
use super::load::{self, Protocol};
use super::server::{Server, Setup};

const MODEL: &str = "perceptron";
const MILLION: f64 = 1e6;

/// Puts loads of `seconds` on a server, over REST and gRPC by turns, until it has answered so many millions
/// of requests.
pub(super) fn measure(
    program: &Path,
    folder: &Path,
    millions: f64,
    clients: u32,
    seconds: u32,
) -> anyhow::Result<()> {
    let server = Server::start(program, folder, &Setup::default())?;
    println!(
        "\n| {MODEL}, {clients} clients: answered | refused | memory (PSS) MiB | server CPU µs/request \
         |\n|---|---|---|---|"
    );
    let (mut answered, mut refused) = (0.0, 0.0);
    for protocol in [Protocol::Rest, Protocol::Grpc].into_iter().cycle() {
        let figure = load::run(&server, folder, MODEL, protocol, clients, seconds)?;
        answered += figure.answers;
        refused += figure.refused_per_second * f64::from(seconds);
        println!(
            "| {:.2} million, the last over {} | {refused:.0} | {:.1} | {:.1} |",
            answered / MILLION,
            protocol.name(),
            server.memory_bytes()? / BYTES_PER_MIB,
            figure.cpu_us
        );
        if answered >= millions * MILLION {
            break;
        }
    }
    Ok(())
}
