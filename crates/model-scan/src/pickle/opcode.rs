//! The opcodes of pickle protocols 0 to 5 with their arguments, as CPython's `Lib/pickletools.py` and
//! `Modules/_pickle.c` read them.

use std::io;

use crate::input::{Input, Line};

/// Strings are kept up to this many bytes; no name of a module or global is longer.
pub(super) const MAX_KEPT_TEXT_BYTES: usize = 512;
/// The number at the start of a file that `torch.save` wrote before version 1.6, as LONG1 holds it.
const TORCH_MAGIC: &[u8] = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// Why a pickle cannot be followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// CPython stops here too.
    #[error("{0}")]
    Malformed(String),
    /// CPython would go on.
    #[error("{0}")]
    Limit(String),
    #[error("{0}")]
    Read(#[from] io::Error),
}

pub(super) fn malformed(why: impl Into<String>) -> Fault {
    Fault::Malformed(why.into())
}

/// An opcode and what it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    Proto,
    /// Number of bytes per read.
    Frame(u64),
    Mark,
    Stop,
    Pop,
    PopMark,
    Dup,
    None,
    Bool(bool),
    /// A number, where it fits.
    Int(Option<i64>),
    TorchMagic,
    /// A string, where it is short and plain.
    Text(Option<Box<str>>),
    /// A float or bytes.
    Opaque,
    EmptyList,
    EmptyDict,
    EmptySet,
    /// A tuple of this many from the stack.
    TupleOf(usize),
    Tuple,
    List,
    Dict,
    FrozenSet,
    Append,
    Appends,
    SetItem,
    SetItems,
    AddItems,
    Get(u64),
    Put(u64),
    Memoize,
    Global(Names),
    Inst(Names),
    StackGlobal,
    Obj,
    Reduce,
    Build,
    NewObj,
    NewObjEx,
    Extension(u32),
    /// A persistent id in the opcode itself.
    PersistentLine(String),
    PersistentStack,
    NextBuffer,
    ReadonlyBuffer,
}

/// A module and the name in it; none where they are no text or too long.
pub(super) type Names = Option<(Box<str>, Box<str>)>;

/// Reads the next opcode with its argument.
pub(super) fn read(input: &mut Input<'_>) -> Result<Op, Fault> {
    let at = input.position();
    let Some(code) = input.byte()? else {
        return Err(malformed(format!("it ends at byte {at} without the opcode STOP")));
    };
    if let Some(op) = without_argument(code) {
        return Ok(op);
    }
    match with_argument(code, input)? {
        Argument::Read(op) => Ok(op),
        Argument::Truncated => {
            Err(malformed(format!("it ends inside the argument of opcode 0x{code:02x} at byte {at}")))
        }
        Argument::Wrong(why) => Err(malformed(format!("opcode 0x{code:02x} at byte {at} {why}"))),
        Argument::Unknown => {
            Err(malformed(format!("0x{code:02x} at byte {at} is no opcode of protocols 0 to 5")))
        }
    }
}

fn without_argument(code: u8) -> Option<Op> {
    Some(match code {
        b'(' => Op::Mark,
        b'.' => Op::Stop,
        b'0' => Op::Pop,
        b'1' => Op::PopMark,
        b'2' => Op::Dup,
        b'N' => Op::None,
        0x88 => Op::Bool(true),
        0x89 => Op::Bool(false),
        b']' => Op::EmptyList,
        b'}' => Op::EmptyDict,
        0x8f => Op::EmptySet,
        b')' => Op::TupleOf(0),
        0x85 => Op::TupleOf(1),
        0x86 => Op::TupleOf(2),
        0x87 => Op::TupleOf(3),
        b't' => Op::Tuple,
        b'l' => Op::List,
        b'd' => Op::Dict,
        0x91 => Op::FrozenSet,
        b'a' => Op::Append,
        b'e' => Op::Appends,
        b's' => Op::SetItem,
        b'u' => Op::SetItems,
        0x90 => Op::AddItems,
        0x94 => Op::Memoize,
        0x93 => Op::StackGlobal,
        b'o' => Op::Obj,
        b'R' => Op::Reduce,
        b'b' => Op::Build,
        0x81 => Op::NewObj,
        0x92 => Op::NewObjEx,
        b'Q' => Op::PersistentStack,
        0x97 => Op::NextBuffer,
        0x98 => Op::ReadonlyBuffer,
        _ => return None,
    })
}

enum Argument {
    Read(Op),
    Truncated,
    Wrong(String),
    Unknown,
}

/// Takes the value out of an option, or says that the file ends.
macro_rules! whole {
    ($value:expr) => {
        match $value {
            Some(value) => value,
            None => return Ok(Argument::Truncated),
        }
    };
}

fn with_argument(code: u8, input: &mut Input<'_>) -> Result<Argument, Fault> {
    Ok(Argument::Read(match code {
        0x80 => {
            let [version] = whole!(input.array()?);
            if version > 5 {
                return Ok(Argument::Wrong(format!("asks for protocol {version}; there are 0 to 5")));
            }
            Op::Proto
        }
        0x95 => {
            let length = u64::from_le_bytes(whole!(input.array()?));
            // CPython's loader in Python goes on where a frame is longer than the file.
            Op::Frame(length)
        }
        b'J' => Op::Int(Some(i64::from(i32::from_le_bytes(whole!(input.array()?))))),
        b'K' => Op::Int(Some(i64::from(whole!(input.byte()?)))),
        b'M' => Op::Int(Some(i64::from(u16::from_le_bytes(whole!(input.array()?))))),
        b'G' => {
            let _: [u8; 8] = whole!(input.array()?);
            Op::Opaque
        }
        0x8a | 0x8b => return long(code, input),
        b'T' | b'X' | 0x8d | b'U' | 0x8c => {
            let length = whole!(length_of(code, input)?);
            // Without an encoding of its own, CPython reads the byte strings of Python 2 as ASCII.
            let ascii = matches!(code, b'T' | b'U');
            match input.take_bytes(length, MAX_KEPT_TEXT_BYTES + 1)? {
                Some(bytes) => Op::Text(text(bytes, ascii)),
                None => return Ok(Argument::Truncated),
            }
        }
        b'B' | b'C' | 0x8e | 0x96 => {
            let length = whole!(length_of(code, input)?);
            if !input.skip(length) {
                return Ok(Argument::Truncated);
            }
            Op::Opaque
        }
        b'h' => Op::Get(u64::from(whole!(input.byte()?))),
        b'j' => Op::Get(u64::from(u32::from_le_bytes(whole!(input.array()?)))),
        b'q' => Op::Put(u64::from(whole!(input.byte()?))),
        b'r' => Op::Put(u64::from(u32::from_le_bytes(whole!(input.array()?)))),
        0x82 => Op::Extension(u32::from(whole!(input.byte()?))),
        0x83 => Op::Extension(u32::from(u16::from_le_bytes(whole!(input.array()?)))),
        0x84 => Op::Extension(u32::from_le_bytes(whole!(input.array()?))),
        _ => return with_line(code, input),
    }))
}

fn length_of(code: u8, input: &mut Input<'_>) -> io::Result<Option<u64>> {
    Ok(match code {
        b'U' | 0x8c | b'C' => input.byte()?.map(u64::from),
        // A negative length of BINSTRING is an error in CPython; as an unsigned one it reaches beyond most
        // files.
        b'T' | b'X' | b'B' => input.array()?.map(|bytes| u64::from(u32::from_le_bytes(bytes))),
        _ => input.array()?.map(u64::from_le_bytes),
    })
}

fn long(code: u8, input: &mut Input<'_>) -> Result<Argument, Fault> {
    let length = match code {
        0x8a => u64::from(whole!(input.byte()?)),
        _ => u64::from(u32::from_le_bytes(whole!(input.array()?))),
    };
    let bytes = whole!(input.take_bytes(length, TORCH_MAGIC.len() + 1)?);
    if bytes == TORCH_MAGIC {
        return Ok(Argument::Read(Op::TorchMagic));
    }
    if bytes.len() > 8 {
        return Ok(Argument::Read(Op::Int(None)));
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(&bytes);
    Ok(Argument::Read(Op::Int(Some(i64::from_le_bytes(wide)))))
}

fn with_line(code: u8, input: &mut Input<'_>) -> Result<Argument, Fault> {
    if !matches!(code, b'I' | b'L' | b'F' | b'S' | b'V' | b'g' | b'p' | b'c' | b'i' | b'P') {
        return Ok(Argument::Unknown);
    }
    let line = whole!(input.line(MAX_KEPT_TEXT_BYTES + 1)?);
    Ok(Argument::Read(match code {
        b'I' => match line.kept.as_slice() {
            b"00" => Op::Bool(false),
            b"01" => Op::Bool(true),
            digits => Op::Int(integer(digits).filter(|_| line.whole)),
        },
        b'L' => Op::Int(integer(line.kept.strip_suffix(b"L").unwrap_or(&line.kept)).filter(|_| line.whole)),
        b'F' => Op::Opaque,
        b'S' => Op::Text(unquoted(line)),
        b'V' => Op::Text(text(line.kept, false).filter(|text| !text.contains('\\'))),
        b'g' | b'p' => match integer(&line.kept).filter(|_| line.whole).map(u64::try_from) {
            Some(Ok(key)) if code == b'g' => Op::Get(key),
            Some(Ok(key)) => Op::Put(key),
            _ => return Ok(Argument::Wrong("names no place in the memo".to_owned())),
        },
        b'P' => Op::PersistentLine(String::from_utf8_lossy(&line.kept).into_owned()),
        _ => {
            let second = whole!(input.line(MAX_KEPT_TEXT_BYTES + 1)?);
            let names = text(line.kept, false).zip(text(second.kept, false));
            if code == b'c' { Op::Global(names) } else { Op::Inst(names) }
        }
    }))
}

/// The text of a string that is kept whole; none of another.
fn text(bytes: Vec<u8>, ascii: bool) -> Option<Box<str>> {
    if bytes.len() > MAX_KEPT_TEXT_BYTES || (ascii && !bytes.is_ascii()) {
        return None;
    }
    String::from_utf8(bytes).ok().map(String::into_boxed_str)
}

/// The text between quotes, where no escape could make it another.
fn unquoted(line: Line) -> Option<Box<str>> {
    if !line.whole {
        return None;
    }
    let line = line.kept.trim_ascii_end();
    let quote = line.first().copied().filter(|byte| matches!(byte, b'\'' | b'"'))?;
    let inner = line.get(1..)?.strip_suffix(&[quote])?;
    text(inner.to_vec(), true).filter(|text| !text.contains('\\'))
}

/// A number as Python's `int` reads it from ASCII, where it fits.
fn integer(digits: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(digits).ok()?.trim_matches([' ', '\t', '\r', '\x0b', '\x0c']);
    if text.contains("__") || text.ends_with('_') || text.trim_start_matches(['+', '-']).starts_with('_') {
        return None;
    }
    text.replace('_', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn first(bytes: &[u8]) -> Result<Op, String> {
        let mut source = Cursor::new(bytes.to_vec());
        read(&mut Input::new(&mut source).unwrap()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn arguments_of_every_width_are_read() {
        assert_eq!(first(b"J\xff\xff\xff\xff").unwrap(), Op::Int(Some(-1)));
        assert_eq!(first(b"\x8a\x01\x80").unwrap(), Op::Int(Some(-128)));
        assert_eq!(first(b"\x8a\x00").unwrap(), Op::Int(Some(0)));
        assert_eq!(first(b"I01\n").unwrap(), Op::Bool(true));
        assert_eq!(first(b"L-12L\n").unwrap(), Op::Int(Some(-12)));
        assert_eq!(first(b"g 1_0\n").unwrap(), Op::Get(10));
        assert_eq!(first(b"S'os'\n").unwrap(), Op::Text(Some("os".into())));
        assert_eq!(first(b"S'\\x6fs'\n").unwrap(), Op::Text(None));
        assert_eq!(first(b"cos\nsystem\n").unwrap(), Op::Global(Some(("os".into(), "system".into()))));
        assert_eq!(first(b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19").unwrap(), Op::TorchMagic);
    }

    #[test]
    fn what_ends_early_or_is_unknown_says_where() {
        assert_eq!(first(b"").unwrap_err(), "it ends at byte 0 without the opcode STOP");
        assert_eq!(
            first(b"X\xff\xff\xff\xffab").unwrap_err(),
            "it ends inside the argument of opcode 0x58 at byte 0"
        );
        assert_eq!(
            first(b"\x80\x06").unwrap_err(),
            "opcode 0x80 at byte 0 asks for protocol 6; there are 0 to 5"
        );
        assert_eq!(first(b"\xff").unwrap_err(), "0xff at byte 0 is no opcode of protocols 0 to 5");
    }
}
