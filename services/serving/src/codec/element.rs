//! Elements of a tensor as JSON, strictly: a value that its type cannot hold is refused, never wrapped or
//! cut.

use serde::ser::{Error as _, Serialize, SerializeSeq as _, Serializer};
use serde_json::Value;
use slipway_inference::{Data, Datatype, Tensor};

/// How JSON, which has no such numbers, names them; the same words as in Protocol Buffers' JSON form.
pub(super) const NAN: &str = "NaN";
pub(super) const INFINITY: &str = "Infinity";
pub(super) const NEGATIVE_INFINITY: &str = "-Infinity";

/// The elements of a tensor, as one flat JSON array.
pub(super) struct Elements<'tensor>(pub(super) &'tensor Tensor);

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = match &self.0.data {
            Data::Strings(strings) => return serializer.collect_seq(strings),
            Data::Octets(_) => {
                let name = &self.0.name;
                return Err(S::Error::custom(format!("'{name}' is not UTF-8, which JSON cannot carry")));
            }
            Data::Raw(bytes) => bytes,
        };
        match self.0.datatype {
            Datatype::Bool => serializer.collect_seq(bytes.iter().map(|byte| *byte != 0)),
            Datatype::Int8 => serializer.collect_seq(elements(bytes, i8::from_le_bytes)),
            Datatype::Int16 => serializer.collect_seq(elements(bytes, i16::from_le_bytes)),
            Datatype::Int32 => serializer.collect_seq(elements(bytes, i32::from_le_bytes)),
            Datatype::Int64 => serializer.collect_seq(elements(bytes, i64::from_le_bytes)),
            Datatype::Uint8 => serializer.collect_seq(bytes.iter()),
            Datatype::Uint16 => serializer.collect_seq(elements(bytes, u16::from_le_bytes)),
            Datatype::Uint32 => serializer.collect_seq(elements(bytes, u32::from_le_bytes)),
            Datatype::Uint64 => serializer.collect_seq(elements(bytes, u64::from_le_bytes)),
            Datatype::Fp16 => floats(serializer, elements(bytes, half)),
            Datatype::Bf16 => floats(serializer, elements(bytes, brain)),
            Datatype::Fp32 => floats(serializer, elements(bytes, f32::from_le_bytes)),
            Datatype::Fp64 => {
                let mut sequence = serializer.serialize_seq(None)?;
                for number in elements(bytes, f64::from_le_bytes) {
                    match number_text(number) {
                        Some(text) => sequence.serialize_element(text)?,
                        None => sequence.serialize_element(&number)?,
                    }
                }
                sequence.end()
            }
            Datatype::Bytes => serializer.collect_seq(std::iter::empty::<()>()),
        }
    }
}

fn floats<S: Serializer>(serializer: S, numbers: impl Iterator<Item = f32>) -> Result<S::Ok, S::Error> {
    let mut sequence = serializer.serialize_seq(None)?;
    for number in numbers {
        match number_text(f64::from(number)) {
            Some(text) => sequence.serialize_element(text)?,
            // As single precision: 0.1 stays 0.1 and does not become 0.10000000149011612.
            None => sequence.serialize_element(&number)?,
        }
    }
    sequence.end()
}

/// The word for a number that JSON has no digits for.
fn number_text(number: f64) -> Option<&'static str> {
    if number.is_finite() {
        None
    } else if number.is_nan() {
        Some(NAN)
    } else if number > 0.0 {
        Some(INFINITY)
    } else {
        Some(NEGATIVE_INFINITY)
    }
}

/// The elements as JSON values, flat. NaN and infinities are `null`; octets that are not UTF-8 become U+FFFD.
pub(crate) fn json_values(tensor: &Tensor) -> Vec<Value> {
    let bytes = match &tensor.data {
        Data::Strings(strings) => return strings.iter().map(|text| Value::from(text.as_str())).collect(),
        Data::Octets(_) => {
            return tensor.data.octets().map(|octets| Value::from(String::from_utf8_lossy(octets))).collect();
        }
        Data::Raw(bytes) => bytes,
    };
    match tensor.datatype {
        Datatype::Bool => bytes.iter().map(|byte| Value::from(*byte != 0)).collect(),
        Datatype::Int8 => elements(bytes, i8::from_le_bytes).map(Value::from).collect(),
        Datatype::Int16 => elements(bytes, i16::from_le_bytes).map(Value::from).collect(),
        Datatype::Int32 => elements(bytes, i32::from_le_bytes).map(Value::from).collect(),
        Datatype::Int64 => elements(bytes, i64::from_le_bytes).map(Value::from).collect(),
        Datatype::Uint8 => bytes.iter().map(|byte| Value::from(*byte)).collect(),
        Datatype::Uint16 => elements(bytes, u16::from_le_bytes).map(Value::from).collect(),
        Datatype::Uint32 => elements(bytes, u32::from_le_bytes).map(Value::from).collect(),
        Datatype::Uint64 => elements(bytes, u64::from_le_bytes).map(Value::from).collect(),
        Datatype::Fp16 => elements(bytes, half).map(|number| Value::from(f64::from(number))).collect(),
        Datatype::Bf16 => elements(bytes, brain).map(|number| Value::from(f64::from(number))).collect(),
        Datatype::Fp32 => elements(bytes, f32::from_le_bytes).map(shortest).collect(),
        Datatype::Fp64 => elements(bytes, f64::from_le_bytes).map(Value::from).collect(),
        Datatype::Bytes => Vec::new(),
    }
}

/// Appends little-endian elements as JSON, separated by commas. NaN and infinities are `null`.
pub(crate) fn put_raw_values(datatype: Datatype, bytes: &[u8], into: &mut Vec<u8>) {
    fn put<T: Serialize>(values: impl Iterator<Item = T>, into: &mut Vec<u8>) {
        for (at, value) in values.enumerate() {
            if at > 0 {
                into.push(b',');
            }
            // Writing into memory cannot fail, and numbers have no other form.
            let _ = serde_json::to_writer(&mut *into, &value);
        }
    }
    match datatype {
        Datatype::Bool => put(bytes.iter().map(|byte| *byte != 0), into),
        Datatype::Int8 => put(elements(bytes, i8::from_le_bytes), into),
        Datatype::Int16 => put(elements(bytes, i16::from_le_bytes), into),
        Datatype::Int32 => put(elements(bytes, i32::from_le_bytes), into),
        Datatype::Int64 => put(elements(bytes, i64::from_le_bytes), into),
        Datatype::Uint8 => put(bytes.iter(), into),
        Datatype::Uint16 => put(elements(bytes, u16::from_le_bytes), into),
        Datatype::Uint32 => put(elements(bytes, u32::from_le_bytes), into),
        Datatype::Uint64 => put(elements(bytes, u64::from_le_bytes), into),
        Datatype::Fp16 => put(elements(bytes, half), into),
        Datatype::Bf16 => put(elements(bytes, brain), into),
        // The shortest decimal, as `shortest` below says why.
        Datatype::Fp32 => put(elements(bytes, f32::from_le_bytes), into),
        Datatype::Fp64 => put(elements(bytes, f64::from_le_bytes), into),
        Datatype::Bytes => {}
    }
}

/// Little-endian elements of a fixed width.
pub(super) fn elements<const WIDTH: usize, T>(
    bytes: &[u8],
    read: fn([u8; WIDTH]) -> T,
) -> impl Iterator<Item = T> {
    let (chunks, _rest) = bytes.as_chunks::<WIDTH>();
    chunks.iter().map(move |chunk| read(*chunk))
}

/// The shortest decimal that reads back as the same number: a client's 0.1 is recorded as 0.1, as the
/// training data has it, and not as 0.10000000149011612, which would fall into another bin.
fn shortest(number: f32) -> Value {
    number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// IEEE half precision, widened exactly.
pub(super) fn half(bytes: [u8; 2]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(bytes));
    let (sign, exponent, fraction) = ((bits & 0x8000) << 16, (bits >> 10) & 0x1f, bits & 0x3ff);
    match exponent {
        // Subnormal: the fraction counts units of 2^-24.
        0 => {
            let magnitude = f32::from(u16::try_from(fraction).unwrap_or(0)) * 2.0_f32.powi(-24);
            if sign == 0 { magnitude } else { -magnitude }
        }
        0x1f => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

/// The upper half of a single precision number.
pub(super) fn brain(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "the widening is exact")]
    fn half_precision_widens_exactly() {
        let read = |bits: u16| half(bits.to_le_bytes());
        assert_eq!((read(0x3c00), read(0xc000), read(0x7bff)), (1.0, -2.0, 65504.0));
        assert_eq!((read(0x0001), read(0x8000).to_bits()), (2.0_f32.powi(-24), (-0.0_f32).to_bits()));
        assert!(read(0x7c00).is_infinite() && read(0x7e00).is_nan());
        assert_eq!(brain(0x3f80_u16.to_le_bytes()), 1.0);
    }
}
