//! Why a command failed, read from what it printed: which test of which program, and its panic message.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// Failed tests that are named; the output above has all of them.
const MAX_NAMED: usize = 5;
/// How often the command is checked for its end while it prints nothing.
const POLL: Duration = Duration::from_millis(100);
/// How long after the command's end its last lines may take to arrive.
const REMAINDER: Duration = Duration::from_secs(2);
/// Lines and characters of a reason.
const MAX_REASON_LINES: usize = 4;
const MAX_REASON_CHARS: usize = 500;

/// Runs a command and shows its output; an error names the failed tests and why they failed.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}");
    // One pipe for both, so that the order of the lines is that in which they were written.
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot start {shown}"))?;
    // The command holds the pipe's writing ends, which would keep the reading below from ending.
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let (sender, lines) = channel();
    std::thread::spawn(move || forward(reader, &sender));
    let mut findings = Findings::default();
    let status = loop {
        match lines.recv_timeout(POLL) {
            Ok(line) => findings.line(&line),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break child.wait()?,
        }
        if let Some(status) = child.try_wait()? {
            // A process that a failed test left behind may hold the pipe open: what is still to be read comes
            // soon.
            while let Ok(line) = lines.recv_timeout(REMAINDER) {
                findings.line(&line);
            }
            break status;
        }
    };
    if !status.success() {
        bail!("{} ({status})", findings.reason(&shown));
    }
    Ok(())
}

/// Names of the tests that failed, in the output of a test program.
pub(crate) fn failed_tests(output: &str) -> Vec<String> {
    let plain = output.lines().map(without_colors);
    plain.filter_map(|line| failed_test(line.trim_end()).map(str::to_owned)).collect()
}

/// The test whose output begins with a line.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// Shows every line and passes it on.
fn forward(reader: impl std::io::Read, lines: &Sender<String>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let mut output = std::io::stdout().lock();
        let _ = output.write_all(&line).and_then(|()| output.flush());
        let _ = lines.send(without_colors(&String::from_utf8_lossy(&line)));
        line.clear();
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    tests: Vec<Test>,
    /// How many of the tests are known to belong to a program.
    attributed: usize,
    /// Whether lines belong to the output of the last test.
    in_test: bool,
    /// A line that a checking script of ours prints for a failed check.
    failed_check: Option<String>,
    /// The first error of a compiler or a formatter, and where it is.
    error: Option<String>,
    awaits_place: bool,
    last: String,
}

/// A failed test as libtest reports it.
#[derive(Debug, Default)]
struct Test {
    program: String,
    name: String,
    panicked: bool,
    ended: bool,
    reason: Vec<String>,
}

impl Findings {
    /// Adds the output of a test program that failed; `ending` says how it ended.
    pub(crate) fn program(&mut self, selector: &str, output: &str, ending: &str) {
        output.lines().for_each(|line| self.line(&without_colors(line)));
        let is_named = self.attributed < self.tests.len();
        self.end_of_program(selector);
        if let Some(test) = self.tests.last_mut().filter(|_| !is_named) {
            test.reason = vec![ending.to_owned()];
        }
    }

    fn line(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(name) = failed_test(line) {
            self.in_test = true;
            self.tests.push(Test { name: name.to_owned(), ..Test::default() });
        } else if line == "failures:" {
            self.in_test = false;
        } else if let Some(program) = line.strip_prefix("error: test failed, to rerun pass ") {
            self.end_of_program(program.trim_matches('`'));
        } else if self.in_test {
            if let Some(test) = self.tests.last_mut() {
                test.line(line);
            }
        } else {
            self.other_line(line);
        }
        if !line.is_empty() {
            line.clone_into(&mut self.last);
        }
    }

    fn end_of_program(&mut self, program: &str) {
        if self.attributed == self.tests.len() {
            // No test was reported: the program itself ended, for instance by a signal.
            self.tests
                .push(Test { reason: vec!["the test program ended early".to_owned()], ..Test::default() });
        }
        for test in &mut self.tests[self.attributed..] {
            program.clone_into(&mut test.program);
        }
        self.attributed = self.tests.len();
        self.in_test = false;
    }

    fn other_line(&mut self, line: &str) {
        if self.failed_check.is_none() && line.starts_with("FAIL ") {
            self.failed_check = Some(line.to_owned());
        }
        let signal = line.trim().strip_prefix("process didn't exit successfully: ");
        if let (Some(signal), Some(test)) =
            (signal, self.tests.last_mut().filter(|test| test.name.is_empty()))
        {
            test.reason = vec![signal.to_owned()];
        }
        if let Some(place) = line.trim_start().strip_prefix("--> ").filter(|_| self.awaits_place) {
            self.error = self.error.take().map(|error| format!("{error} at {place}"));
            self.awaits_place = false;
        }
        let is_error = line.starts_with("error") && line.contains(": ");
        if self.error.is_none() && (is_error || line.starts_with("Diff in ")) {
            self.error = Some(line.to_owned());
            self.awaits_place = is_error;
        }
    }

    /// One line: the failed tests, a failed check, the first error, or the last line.
    pub(crate) fn reason(&self, command: &str) -> String {
        let tests: Vec<String> = self.tests.iter().take(MAX_NAMED).map(Test::to_string).collect();
        if !tests.is_empty() {
            let more = self.tests.len() - tests.len();
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            return format!("{}{more}", tests.join("; "));
        }
        let found = self.failed_check.as_ref().or(self.error.as_ref()).unwrap_or(&self.last);
        format!("{}: {}", one_line(command), one_line(found))
    }
}

impl Test {
    fn line(&mut self, line: &str) {
        let starts = line.starts_with("thread '") && line.contains(" panicked at ");
        if starts && !self.panicked {
            // What the test printed before its panic explains less than the panic does.
            self.panicked = true;
            self.reason = line.split_once(" panicked at ").map(|(_, at)| at.to_owned()).into_iter().collect();
        } else if line.starts_with("note: ") || line.starts_with("stack backtrace:") || starts {
            self.ended |= self.panicked;
        } else if !line.is_empty() && !self.ended && self.reason.len() < MAX_REASON_LINES {
            self.reason.push(line.trim().to_owned());
        }
    }
}

impl std::fmt::Display for Test {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in [&self.program, &self.name].into_iter().filter(|part| !part.is_empty()) {
            write!(formatter, "{part}: ")?;
        }
        formatter.write_str(&one_line(&self.reason.join(" ")))
    }
}

fn one_line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<&str>>().join(" ");
    match text.char_indices().nth(MAX_REASON_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The text without the escape sequences of colors.
fn without_colors(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut parts = line.split('\u{1b}');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(output: &str) -> String {
        let mut findings = Findings::default();
        output.lines().for_each(|line| findings.line(&without_colors(line)));
        findings.reason("a command")
    }

    #[test]
    fn a_failed_test_is_named_with_its_program_and_its_panic() {
        let output = "
running 2 tests
..F.
failures:

---- faults::writes_outlive_a_crash stdout ----
a line that the test printed

thread 'faults::writes_outlive_a_crash' (42) panicked at services/registry/tests/it/faults.rs:31:9:
assertion `left == right` failed: an event is missing
  left: 3
 right: 4
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace


failures:
    faults::writes_outlive_a_crash

test result: FAILED. 1 passed; 1 failed; 0 ignored
\u{1b}[1m\u{1b}[31merror\u{1b}[0m: test failed, to rerun pass `-p slipway-registry --test it`
error: 1 target failed:
    `-p slipway-registry --test it`
";
        let expected = "-p slipway-registry --test it: faults::writes_outlive_a_crash: \
            services/registry/tests/it/faults.rs:31:9: assertion `left == right` failed: an event is missing \
            left: 3 right: 4";
        assert_eq!(reason(output), expected);
    }

    #[test]
    fn a_test_program_that_dies_and_a_test_that_returns_an_error_are_named() {
        let died = "error: test failed, to rerun pass `-p slipway --lib`\n\nCaused by:\n  \
            process didn't exit successfully: `/target/slipway-1` (signal: 6, SIGABRT: process abort signal)";
        let found = reason(died);
        assert!(found.starts_with("-p slipway --lib: ") && found.contains("SIGABRT"), "{found}");
        let error = "---- a::b stdout ----\nError: \"no such file\"\n\nfailures:\nerror: test failed, to \
            rerun pass `--lib`";
        assert_eq!(reason(error), "--lib: a::b: Error: \"no such file\"");
    }

    #[test]
    fn failed_test_programs_are_named_one_after_the_other() {
        let mut findings = Findings::default();
        findings.program(
            "-p a --lib",
            "---- x::y stdout ----\nError: \"why\"\n\nfailures:\n",
            "exit status: 101",
        );
        findings.program("-p b --test it", "running 2 tests\n", "signal: 11 (SIGSEGV)");
        let expected = "-p a --lib: x::y: Error: \"why\"; -p b --test it: signal: 11 (SIGSEGV)";
        assert_eq!(findings.reason("the tests"), expected);
    }

    #[test]
    fn other_commands_are_named_with_their_first_error_or_their_last_line() {
        let lint = "warning: x\nerror: this is wrong\n  --> src/a.rs:3:4\nerror: could not compile `a`";
        assert_eq!(reason(lint), "a command: error: this is wrong at src/a.rs:3:4");
        let checks = "ok runs\nFAIL models: AssertionError: expected 1 (line 7)\n3 of 4 checks passed";
        assert_eq!(reason(checks), "a command: FAIL models: AssertionError: expected 1 (line 7)");
        let python = "Traceback (most recent call last):\n  File \"x.py\", line 1\nValueError: no rows\n";
        assert_eq!(reason(python), "a command: ValueError: no rows");
    }

    #[test]
    fn output_reaches_the_reader_and_a_success_is_one() {
        assert!(run(Command::new("sh").args(["-c", "echo fine; echo also >&2"])).is_ok());
        let failure = run(Command::new("sh").args(["-c", "echo before; echo why >&2; exit 3"])).unwrap_err();
        let failure = failure.to_string();
        assert!(failure.contains(": why") && failure.contains("exit status: 3"), "{failure}");
    }
}
