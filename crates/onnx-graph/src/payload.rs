//! Whether a tensor holds as many elements as its shape says. Pure.

use super::element::{self, Field};

/// What a `TensorProto` holds, counted while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Payload {
    /// Length of `raw_data`, in bytes.
    pub(crate) raw_bytes: Option<u64>,
    /// Entries of the typed fields, in the order of [`Field`].
    pub(crate) entries: [u64; Field::COUNT],
}

impl Payload {
    pub(crate) const fn count(&mut self, field: Field, entries: u64) {
        let at = field as usize;
        self.entries[at] = self.entries[at].saturating_add(entries);
    }

    /// Whether it holds anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.raw_bytes.is_none() && self.entries.iter().all(|entries| *entries == 0)
    }

    /// Checks what is held within the model's own file.
    ///
    /// # Errors
    /// What does not fit, and what was expected.
    pub(crate) fn check(&self, number: i32, shape: &[i64]) -> Result<(), String> {
        // Attributes may have a tensor that says nothing.
        if number == 0 && shape.is_empty() && self.is_empty() {
            return Ok(());
        }
        let element =
            element::of(number).ok_or_else(|| format!("it has the unknown element type {number}"))?;
        let elements = elements(shape)?;
        let typed = self.entries.iter().sum::<u64>();
        let own = self.entries[element.field as usize];
        let expected = element.entries(elements).ok_or_else(|| too_large(shape))?;
        let (held, wanted, what) = match self.raw_bytes {
            Some(_) if typed > 0 => return Err("it has raw_data and typed data".to_owned()),
            Some(bytes) => {
                let wanted = element.packed_bytes(elements).ok_or_else(|| {
                    if element.bits == 0 { "strings cannot be raw_data".to_owned() } else { too_large(shape) }
                })?;
                (bytes, wanted, "bytes of raw_data")
            }
            None if typed > own => {
                let name = element.field.name();
                return Err(format!("elements of type {} lie in another field than {name}", element.name));
            }
            None => (own, expected, "entries"),
        };
        if held == wanted {
            return Ok(());
        }
        Err(format!("it holds {held} {what}; its shape {shape:?} of {} takes {wanted}", element.name))
    }
}

/// Elements of a shape.
///
/// # Errors
/// A dimension is negative, or the product overflows.
pub(crate) fn elements(shape: &[i64]) -> Result<u64, String> {
    let mut product = 1_u64;
    for size in shape {
        let size = u64::try_from(*size).map_err(|_negative| format!("its shape has the dimension {size}"))?;
        product = product.checked_mul(size).ok_or_else(|| too_large(shape))?;
    }
    // Sizes are signed in the runtime.
    if i64::try_from(product).is_err() { Err(too_large(shape)) } else { Ok(product) }
}

pub(crate) fn too_large(shape: &[i64]) -> String {
    format!("its shape {shape:?} has more elements than any memory holds")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(bytes: u64) -> Payload {
        Payload { raw_bytes: Some(bytes), ..Payload::default() }
    }

    fn typed(field: Field, entries: u64) -> Payload {
        let mut payload = Payload::default();
        payload.count(field, entries);
        payload
    }

    #[test]
    fn what_is_held_fits_the_shape() {
        for (payload, number, shape) in [
            (raw(24), 1, &[2, 3][..]),
            (raw(0), 1, &[0, 3]),
            (Payload::default(), 1, &[0]),
            (raw(4), 1, &[]),
            (raw(2), 22, &[3]),
            (typed(Field::Ints, 2), 21, &[3]),
            (typed(Field::Ints, 3), 10, &[3]),
            (typed(Field::Floats, 6), 14, &[3]),
            (typed(Field::Strings, 2), 8, &[2]),
            (Payload::default(), 0, &[]),
        ] {
            assert_eq!(payload.check(number, shape), Ok(()), "{number} {shape:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_was_expected() {
        for (payload, number, shape, why) in [
            (raw(4), 1, &[1_000_000][..], "takes 4000000"),
            (raw(25), 1, &[2, 3], "holds 25 bytes"),
            (Payload::default(), 1, &[2], "holds 0 entries"),
            (raw(0), 1, &[-1], "the dimension -1"),
            (raw(0), 1, &[1 << 32, 1 << 32], "more elements"),
            (raw(0), 15, &[1 << 61], "more elements"),
            (raw(0), 1, &[1 << 62, 4, 0], "more elements"),
            (raw(8), 8, &[1], "strings cannot be raw_data"),
            (typed(Field::Longs, 2), 1, &[2], "another field than float_data"),
            (Payload { raw_bytes: Some(8), ..typed(Field::Floats, 2) }, 1, &[2], "raw_data and typed"),
            (raw(4), 99, &[1], "unknown element type 99"),
            (raw(4), 0, &[1], "unknown element type 0"),
        ] {
            let refused = payload.check(number, shape).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
