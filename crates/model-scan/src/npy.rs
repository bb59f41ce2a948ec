//! numpy's NPY format, versions 1 to 3, as `numpy/lib/format.py` and NEP 1 describe it: a header that is a
//! Python literal, then the array's bytes, or a pickle where its elements are objects.

use std::io;

use crate::{
    input::Input,
    pickle,
    report::Code,
    scanner::{Place, Scanner},
};

/// numpy itself reads 10 000 bytes unless told to trust the file.
const MAX_HEADER_BYTES: u64 = 64 * 1024;
const MAX_LITERAL_DEPTH: u32 = 16;

/// A Python literal, as far as headers have them.
#[derive(Debug, PartialEq, Eq)]
enum Literal {
    Text(String),
    Number(i64),
    Bool(bool),
    None,
    /// A tuple or list.
    Sequence(Vec<Literal>),
    Dict(Vec<(Literal, Literal)>),
}

/// What a dtype says about the bytes of an array.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    item_bytes: u64,
    has_objects: bool,
}

/// Follows one array after another to the end.
pub(crate) fn scan(scanner: &mut Scanner<'_>, input: &mut Input<'_>, place: Place<'_>) -> io::Result<()> {
    loop {
        let at = input.position();
        let header = match read_header(input)? {
            Ok(header) => header,
            Err(why) if at == 0 => {
                scanner.find(
                    Code::CannotBeFollowed,
                    place.path,
                    format!("its header is none of numpy's: {why}"),
                );
                return Ok(());
            }
            Err(_) => {
                let detail = format!("{} bytes follow its array", input.length() - at);
                scanner.find(Code::TrailingBytes, place.path, detail);
                return Ok(());
            }
        };
        let Some((layout, count)) = array_of(&header) else {
            let detail = "its header does not hold a descr, a fortran_order and a shape that are understood";
            scanner.find(Code::CannotBeFollowed, place.path, detail);
            return Ok(());
        };
        if layout.has_objects {
            return pickle::scan(scanner, input, place.path, false).map(drop);
        }
        let left = input.remaining();
        match count.checked_mul(layout.item_bytes).filter(|bytes| *bytes <= left) {
            Some(bytes) => input.skip(bytes),
            None => {
                let detail =
                    format!("its array of {count} elements is larger than the {left} bytes that are left");
                scanner.find(Code::CannotBeFollowed, place.path, detail);
                return Ok(());
            }
        };
        if input.remaining() == 0 {
            return Ok(());
        }
    }
}

fn read_header(input: &mut Input<'_>) -> io::Result<Result<Literal, String>> {
    let Some([magic @ .., major, minor]) = input.array::<8>()? else {
        return Ok(Err("it is too short".to_owned()));
    };
    if &magic != b"\x93NUMPY" || !(1..=3).contains(&major) || minor != 0 {
        return Ok(Err(format!("its version is {major}.{minor}; 1.0, 2.0 and 3.0 are known")));
    }
    let length = match major {
        1 => input.array()?.map(|bytes| u64::from(u16::from_le_bytes(bytes))),
        _ => input.array()?.map(|bytes| u64::from(u32::from_le_bytes(bytes))),
    };
    let Some(length) = length.filter(|length| *length <= MAX_HEADER_BYTES) else {
        return Ok(Err(format!("it is longer than {MAX_HEADER_BYTES} bytes or truncated")));
    };
    let Some(bytes) = input.take_bytes(length, MAX_HEADER_BYTES as usize)? else {
        return Ok(Err("it is truncated".to_owned()));
    };
    // Version 1 is Latin-1, whose names of fields may be no UTF-8; they do not matter here.
    let text = String::from_utf8_lossy(&bytes);
    let mut parser = Parser { rest: text.trim_end(), depth: 0 };
    let literal = parser.literal().filter(|_| parser.rest.trim().is_empty());
    Ok(literal.ok_or_else(|| "it is no Python literal".to_owned()))
}

fn array_of(header: &Literal) -> Option<(Layout, u64)> {
    let Literal::Dict(entries) = header else { return None };
    let get = |wanted: &str| {
        let mut found = entries.iter().filter(|(key, _)| matches!(key, Literal::Text(key) if key == wanted));
        found.next().map(|(_, value)| value).filter(|_| found.next().is_none())
    };
    let Literal::Bool(_) = get("fortran_order")? else { return None };
    if entries.len() != 3 {
        return None;
    }
    Some((layout(get("descr")?)?, product(get("shape")?)?))
}

fn product(shape: &Literal) -> Option<u64> {
    match shape {
        Literal::Number(side) => u64::try_from(*side).ok(),
        Literal::Sequence(sides) => sides.iter().try_fold(1_u64, |product, side| match side {
            Literal::Number(side) => product.checked_mul(u64::try_from(*side).ok()?),
            _ => None,
        }),
        _ => None,
    }
}

/// A dtype: a string such as `<f8`, a pair with the shape of a subarray, or a list of fields.
fn layout(descr: &Literal) -> Option<Layout> {
    match descr {
        Literal::Text(name) => simple(name),
        Literal::Sequence(parts) => match parts.as_slice() {
            [base, shape @ (Literal::Sequence(_) | Literal::Number(_))]
                if !matches!(base, Literal::Sequence(_)) =>
            {
                repeated(layout(base)?, shape)
            }
            fields => fields.iter().try_fold(Layout { item_bytes: 0, has_objects: false }, |sum, field| {
                let Literal::Sequence(field) = field else { return None };
                let field = match field.as_slice() {
                    [_name, descr] => layout(descr)?,
                    [_name, descr, shape] => repeated(layout(descr)?, shape)?,
                    _ => return None,
                };
                Some(Layout {
                    item_bytes: sum.item_bytes.checked_add(field.item_bytes)?,
                    has_objects: sum.has_objects | field.has_objects,
                })
            }),
        },
        _ => None,
    }
}

fn repeated(base: Layout, shape: &Literal) -> Option<Layout> {
    Some(Layout { item_bytes: base.item_bytes.checked_mul(product(shape)?)?, ..base })
}

fn simple(name: &str) -> Option<Layout> {
    let name = name.trim_start_matches(['<', '>', '=', '|']);
    let kind = name.chars().next()?;
    let digits = name.strip_prefix(kind)?;
    let digits = if matches!(kind, 'm' | 'M') { digits.split('[').next()? } else { digits };
    if kind == 'O' {
        return digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then_some(Layout { item_bytes: 8, has_objects: true });
    }
    let width: u64 = digits.parse().ok().filter(|width| *width <= u64::from(u32::MAX))?;
    let item_bytes = match kind {
        'b' | 'i' | 'u' | 'f' | 'c' | 'm' | 'M' if (1..=32).contains(&width) => width,
        'S' | 'a' | 'V' => width,
        'U' => width * 4,
        _ => return None,
    };
    Some(Layout { item_bytes, has_objects: false })
}

/// A parser of literals that holds nothing but the text and its depth.
struct Parser<'t> {
    rest: &'t str,
    depth: u32,
}

impl Parser<'_> {
    fn eat(&mut self, sign: char) -> bool {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn literal(&mut self) -> Option<Literal> {
        self.depth += 1;
        if self.depth > MAX_LITERAL_DEPTH {
            return None;
        }
        self.rest = self.rest.trim_start();
        let literal = match self.rest.chars().next()? {
            '{' => self.dict(),
            '(' => self.sequence('(', ')'),
            '[' => self.sequence('[', ']'),
            quote @ ('\'' | '"') => self.text(quote),
            _ => self.word(),
        };
        self.depth -= 1;
        literal
    }

    fn dict(&mut self) -> Option<Literal> {
        self.eat('{');
        let mut entries = Vec::new();
        while !self.eat('}') {
            let key = self.literal()?;
            let value = self.eat(':').then(|| self.literal())??;
            entries.push((key, value));
            if !self.eat(',') {
                return self.eat('}').then_some(Literal::Dict(entries));
            }
        }
        Some(Literal::Dict(entries))
    }

    fn sequence(&mut self, open: char, close: char) -> Option<Literal> {
        self.eat(open);
        let mut items = Vec::new();
        while !self.eat(close) {
            items.push(self.literal()?);
            if !self.eat(',') {
                return self.eat(close).then_some(Literal::Sequence(items));
            }
        }
        Some(Literal::Sequence(items))
    }

    fn text(&mut self, quote: char) -> Option<Literal> {
        let (text, rest) = self.rest.strip_prefix(quote)?.split_once(quote)?;
        self.rest = rest;
        // Escapes and joined strings have no place in a header.
        let joined = rest.trim_start().starts_with(['\'', '"']);
        (!text.contains('\\') && !joined).then(|| Literal::Text(text.to_owned()))
    }

    fn word(&mut self) -> Option<Literal> {
        let end =
            self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            "True" => Some(Literal::Bool(true)),
            "False" => Some(Literal::Bool(false)),
            "None" => Some(Literal::None),
            // Python 2 wrote its long numbers with an L.
            _ => word.strip_suffix('L').unwrap_or(word).parse().ok().map(Literal::Number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(header: &str) -> Option<(Layout, u64)> {
        let mut parser = Parser { rest: header, depth: 0 };
        array_of(&parser.literal()?)
    }

    #[test]
    fn headers_tell_size_and_objects() {
        let plain = array("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4L), }").unwrap();
        assert_eq!(plain, (Layout { item_bytes: 8, has_objects: false }, 12));
        let fields =
            array("{'descr': [('a', '<U2'), ('b', '|O', (2,))], 'fortran_order': True, 'shape': ()}")
                .unwrap();
        assert_eq!(fields, (Layout { item_bytes: 24, has_objects: true }, 1));
        assert_eq!(array("{'descr': '<f8', 'fortran_order': False}"), None);
        assert_eq!(array("{'descr': '<f8', 'descr': '|O', 'fortran_order': False, 'shape': ()}"), None);
        assert_eq!(array(&"(".repeat(10_000)), None);
    }
}
