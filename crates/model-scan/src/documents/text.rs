//! Plain text: UTF-8 without control characters.

use std::io::{self, Read as _};

use crate::{
    input::Input,
    report::Code,
    scanner::{Place, Scanner},
};

const CHUNK_BYTES: usize = 64 * 1024;

/// Reads text to its end, in pieces.
pub(super) fn scan(scanner: &mut Scanner<'_>, input: &mut Input<'_>, place: Place<'_>) -> io::Result<()> {
    let (mut chunk, mut held, mut at) = (vec![0; CHUNK_BYTES], Vec::new(), 0_u64);
    loop {
        let count = input.read(&mut chunk)?;
        held.extend_from_slice(&chunk[..count]);
        let (valid, wrong) = match std::str::from_utf8(&held) {
            Ok(text) => (text, false),
            Err(error) => {
                let valid = std::str::from_utf8(&held[..error.valid_up_to()]).unwrap_or_default();
                (valid, error.error_len().is_some() || count == 0)
            }
        };
        let control = valid.char_indices().find(|(_, sign)| is_control(*sign));
        let fault = match control {
            Some((offset, sign)) => Some((offset, format!("the control character U+{:04X}", sign as u32))),
            None => wrong.then(|| (valid.len(), "a byte that is not UTF-8".to_owned())),
        };
        if let Some((offset, what)) = fault {
            let detail = format!("at byte {} it has {what}, so it is not plain text", at + offset as u64);
            scanner.find(Code::NotUnderstood, place.path, detail);
            return Ok(());
        }
        if count == 0 {
            return Ok(());
        }
        let read = valid.len();
        at += read as u64;
        held.drain(..read);
    }
}

fn is_control(sign: char) -> bool {
    sign.is_control() && !matches!(sign, '\t' | '\n' | '\r' | '\u{c}')
}
