//! Short training jobs. Each command writes down when it ran, by a monotonic clock.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::client::{Client, Request};
use crate::chaos::faults::Service;

/// Between submissions.
const PAUSE_MS: u64 = 2_000;
/// Writes the attempt, `S` (start), `B` (still running) or `E` (end), and the seconds since the start of the
/// machine.
const SCRIPT: &str = r#"
now() { read -r up _ < /proc/uptime; echo "$SLIPWAY_ATTEMPT $1 $up" >> "$OUTPUT"; }
now S
for _ in $(seq "$BEATS"); do sleep 0.1; now B; done
now E
"#;

/// When an attempt ran, in seconds since the start of the machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::chaos) struct Attempt {
    pub(in crate::chaos) number: u32,
    /// How often its command was started.
    pub(in crate::chaos) starts: usize,
    pub(in crate::chaos) from_s: f64,
    /// When it was last seen running.
    pub(in crate::chaos) to_s: f64,
    pub(in crate::chaos) ended: bool,
}

/// Submits jobs until the load stops.
pub(super) async fn submit(client: Client, dir: PathBuf, seed: u64) {
    for number in 0usize.. {
        let beats = 10 + (number * 7) % 60;
        let body = json!({
            "name": format!("chaos-{number}"),
            "command": ["sh", "-c", SCRIPT],
            "env": {"OUTPUT": output(&dir, number), "BEATS": beats.to_string()},
            "resources": {"cpus": 1.0, "memory_bytes": 0, "gpus": 0},
            "retries": {"limit": 30, "backoff_initial_ms": 200, "backoff_max_ms": 1000},
            "grace_period_s": 1.0,
            "idempotency_key": format!("chaos-{seed}-{number}"),
        });
        let request = Request::post(Service::Launcher, "/api/v1/jobs", body);
        if let Some(answer) = client.change("submit a job", &request).await
            && let Some(id) = answer.body["id"].as_str()
        {
            client.journal().lock().jobs.insert(number, id.to_owned());
        }
        if !client.pause(PAUSE_MS).await {
            return;
        }
    }
}

fn output(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("{number}.txt"))
}

/// The attempts of a job so far, in the order of their starts.
pub(in crate::chaos) fn attempts(dir: &Path, number: usize) -> Vec<Attempt> {
    parse(&std::fs::read_to_string(output(&dir.join("jobs"), number)).unwrap_or_default())
}

fn parse(text: &str) -> Vec<Attempt> {
    let mut attempts: Vec<Attempt> = Vec::new();
    for line in text.lines() {
        let mut fields = line.split(' ');
        let (Some(number), Some(mark), Some(at)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (Ok(number), Ok(at_s)) = (number.parse(), at.parse()) else { continue };
        let known = attempts.iter().position(|attempt| attempt.number == number);
        let place = known.unwrap_or(attempts.len());
        if known.is_none() {
            attempts.push(Attempt { number, starts: 0, from_s: at_s, to_s: at_s, ended: false });
        }
        if let Some(attempt) = attempts.get_mut(place) {
            attempt.to_s = attempt.to_s.max(at_s);
            attempt.starts += usize::from(mark == "S");
            attempt.ended |= mark == "E";
        }
    }
    attempts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_of_attempts_are_read_from_what_they_wrote() {
        let attempts = parse("1 S 10.00\n1 B 10.10\n2 S 25.00\n2 B 25.10\n2 E 25.20\n3");
        let first = Attempt { number: 1, starts: 1, from_s: 10.0, to_s: 10.1, ended: false };
        let second = Attempt { number: 2, starts: 1, from_s: 25.0, to_s: 25.2, ended: true };
        assert_eq!(attempts, [first, second]);
        assert_eq!(parse("1 S 1.0\n1 S 2.0\n")[0].starts, 2);
    }
}
