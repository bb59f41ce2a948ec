//! Pickles put together opcode by opcode, as `Lib/pickletools.py` describes them.

/// The opcodes that import a name of a module.
type Import = fn(&str, &str) -> Vec<u8>;
/// The opcodes that call what the given opcodes leave on the stack.
type Call = fn(&[u8]) -> Vec<u8>;

/// How a pickle can import a global and leave it on the stack.
pub(crate) const IMPORTS: [(&str, Import); 9] = [
    ("GLOBAL", global),
    ("STACK_GLOBAL of SHORT_BINUNICODE", |module, name| {
        [short(module), short(name), b"\x93".to_vec()].concat()
    }),
    ("STACK_GLOBAL of BINUNICODE", |module, name| [long(module), long(name), b"\x93".to_vec()].concat()),
    ("STACK_GLOBAL of BINUNICODE8", |module, name| {
        [longest(module), longest(name), b"\x93".to_vec()].concat()
    }),
    ("STACK_GLOBAL of UNICODE", |module, name| [line(module), line(name), b"\x93".to_vec()].concat()),
    ("STACK_GLOBAL of STRING", |module, name| [quoted(module), quoted(name), b"\x93".to_vec()].concat()),
    ("STACK_GLOBAL of SHORT_BINSTRING", |module, name| {
        [string(module), string(name), b"\x93".to_vec()].concat()
    }),
    ("STACK_GLOBAL of the memo", |module, name| {
        [short(name), b"q\x070".to_vec(), short(module), b"h\x07\x93".to_vec()].concat()
    }),
    ("STACK_GLOBAL of a copy", |module, name| {
        // The name stands below, and is on top again once what lies above it is gone.
        [short(module), short(name), b"2\x940\x93".to_vec()].concat()
    }),
];

/// How a pickle can call what is on the stack with one string.
pub(crate) const CALLS: [(&str, Call); 4] = [
    ("REDUCE", |callable| [callable, b"\x8c\x02id\x85R".as_slice()].concat()),
    ("OBJ", |callable| [b"(".as_slice(), callable, b"\x8c\x02ido"].concat()),
    ("NEWOBJ", |callable| [callable, b"\x8c\x02id\x85\x81"].concat()),
    ("NEWOBJ_EX", |callable| [callable, b"\x8c\x02id\x85}\x92"].concat()),
];

/// A pickle of protocol 4.
pub(crate) fn pickle(opcodes: &[u8]) -> Vec<u8> {
    [b"\x80\x04".as_slice(), opcodes, b"."].concat()
}

/// GLOBAL.
pub(crate) fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

/// INST: imports and calls, with what is above the last mark.
pub(crate) fn inst(module: &str, name: &str) -> Vec<u8> {
    format!("(i{module}\n{name}\n").into_bytes()
}

/// SHORT_BINUNICODE.
pub(crate) fn short(text: &str) -> Vec<u8> {
    [[0x8c, u8::try_from(text.len()).expect("a short text")].as_slice(), text.as_bytes()].concat()
}

/// BINUNICODE.
pub(crate) fn long(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("a text of less than 4 GiB");
    [b"X".as_slice(), length.to_le_bytes().as_slice(), text.as_bytes()].concat()
}

/// BINUNICODE8.
fn longest(text: &str) -> Vec<u8> {
    [b"\x8d".as_slice(), (text.len() as u64).to_le_bytes().as_slice(), text.as_bytes()].concat()
}

/// UNICODE.
fn line(text: &str) -> Vec<u8> {
    format!("V{text}\n").into_bytes()
}

/// STRING.
fn quoted(text: &str) -> Vec<u8> {
    format!("S'{text}'\n").into_bytes()
}

/// SHORT_BINSTRING.
fn string(text: &str) -> Vec<u8> {
    [[b'U', u8::try_from(text.len()).expect("a short text")].as_slice(), text.as_bytes()].concat()
}
