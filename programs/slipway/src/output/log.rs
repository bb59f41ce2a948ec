//! The output of a training job, as it arrives.

use std::io::IsTerminal as _;

use super::{escape, writer};

/// Prints what a job wrote: unchanged to a file or a pipe, and without what a terminal would obey to a
/// terminal.
#[derive(Debug)]
pub(crate) struct Log {
    escapes: bool,
    /// The beginning of a character whose end has not arrived.
    pending: Vec<u8>,
}

impl Log {
    /// To standard output; with `raw` unchanged in any case.
    pub(crate) fn new(raw: bool) -> Self {
        Self { escapes: !raw && std::io::stdout().is_terminal(), pending: Vec::new() }
    }

    /// Prints the next part.
    pub(crate) fn print(&mut self, part: &[u8]) {
        if self.escapes {
            writer::raw(self.escaped(part).as_bytes());
        } else {
            writer::raw(part);
        }
    }

    fn escaped(&mut self, part: &[u8]) -> String {
        self.pending.extend_from_slice(part);
        let whole = match std::str::from_utf8(&self.pending) {
            // Without a length of the wrong bytes, the text ends within a character.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.pending.len(),
        };
        let text: Vec<u8> = self.pending.drain(..whole).collect();
        escape::output(&String::from_utf8_lossy(&text)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_text_and_no_sequences_however_they_are_cut() {
        let output = "epoch 1\r\u{1b}]52;c;cm0=\u{7}表\u{9b}2J\n".as_bytes();
        for cut in 0..output.len() {
            let mut log = Log { escapes: true, pending: Vec::new() };
            let shown = log.escaped(&output[..cut]) + &log.escaped(&output[cut..]);
            assert_eq!(shown, "epoch 1\r\\x1b]52;c;cm0=\\x07表\\x9b2J\n", "cut at {cut}");
        }
        // Bytes that are no text: alone they are controls to some terminals.
        let mut log = Log { escapes: true, pending: Vec::new() };
        assert_eq!(log.escaped(b"a\x9b2Jb"), "a\u{fffd}2Jb");
    }
}
