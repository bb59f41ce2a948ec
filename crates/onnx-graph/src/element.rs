//! Element types of ONNX tensors: the one table of `TensorProto.DataType`
//! (<https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3>).

use slipway_domain::datatype::Datatype;

/// FP32.
pub(crate) const FLOAT: i32 = 1;
/// INT64.
pub(crate) const INT64: i32 = 7;
/// Strings, which have no fixed width.
pub(crate) const STRING: i32 = 8;

/// An element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// Number of the type in a file.
    pub number: i32,
    /// Name of the type in ONNX's notation: `float` in `tensor(float)`.
    pub name: &'static str,
    /// Width of an element, in bits; 0 for strings.
    pub bits: u32,
    /// Datatype of the Open Inference Protocol; `None` if it has no name for the type.
    pub datatype: Option<Datatype>,
    /// Field of a `TensorProto` that holds the elements if they are not raw bytes.
    pub(crate) field: Field,
}

/// A field of a `TensorProto` that holds elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Floats,
    Ints,
    Strings,
    Longs,
    Doubles,
    Unsigned,
}

impl Field {
    /// Number of fields.
    pub(crate) const COUNT: usize = 6;

    /// Name of the field.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Floats => "float_data",
            Self::Ints => "int32_data",
            Self::Strings => "string_data",
            Self::Longs => "int64_data",
            Self::Doubles => "double_data",
            Self::Unsigned => "uint64_data",
        }
    }
}

const fn element(
    number: i32,
    name: &'static str,
    bits: u32,
    datatype: Option<Datatype>,
    field: Field,
) -> Element {
    Element { number, name, bits, datatype, field }
}

/// In the order of their numbers, from 1.
const ELEMENTS: [Element; 26] = [
    element(FLOAT, "float", 32, Some(Datatype::Fp32), Field::Floats),
    element(2, "uint8", 8, Some(Datatype::Uint8), Field::Ints),
    element(3, "int8", 8, Some(Datatype::Int8), Field::Ints),
    element(4, "uint16", 16, Some(Datatype::Uint16), Field::Ints),
    element(5, "int16", 16, Some(Datatype::Int16), Field::Ints),
    element(6, "int32", 32, Some(Datatype::Int32), Field::Ints),
    element(INT64, "int64", 64, Some(Datatype::Int64), Field::Longs),
    element(STRING, "string", 0, Some(Datatype::Bytes), Field::Strings),
    element(9, "bool", 8, Some(Datatype::Bool), Field::Ints),
    element(10, "float16", 16, Some(Datatype::Fp16), Field::Ints),
    element(11, "double", 64, Some(Datatype::Fp64), Field::Doubles),
    element(12, "uint32", 32, Some(Datatype::Uint32), Field::Unsigned),
    element(13, "uint64", 64, Some(Datatype::Uint64), Field::Unsigned),
    element(14, "complex64", 64, None, Field::Floats),
    element(15, "complex128", 128, None, Field::Doubles),
    element(16, "bfloat16", 16, Some(Datatype::Bf16), Field::Ints),
    element(17, "float8e4m3fn", 8, None, Field::Ints),
    element(18, "float8e4m3fnuz", 8, None, Field::Ints),
    element(19, "float8e5m2", 8, None, Field::Ints),
    element(20, "float8e5m2fnuz", 8, None, Field::Ints),
    element(21, "uint4", 4, None, Field::Ints),
    element(22, "int4", 4, None, Field::Ints),
    element(23, "float4e2m1", 4, None, Field::Ints),
    element(24, "float8e8m0", 8, None, Field::Ints),
    element(25, "uint2", 2, None, Field::Ints),
    element(26, "int2", 2, None, Field::Ints),
];

/// The element type of a number; `None` if ONNX has none.
pub fn of(number: i32) -> Option<&'static Element> {
    ELEMENTS.get(usize::try_from(number).ok()?.checked_sub(1)?)
}

/// Datatype of the Open Inference Protocol of an element type; `None` if the protocol has no name for it.
pub fn datatype(number: i32) -> Option<Datatype> {
    of(number)?.datatype
}

impl Element {
    /// Bytes of `elements` elements one after another, where the last byte may be filled up; `None` for
    /// strings and on overflow.
    pub fn packed_bytes(&self, elements: u64) -> Option<u64> {
        if self.bits == 0 {
            return None;
        }
        Some(elements.checked_mul(u64::from(self.bits))?.div_ceil(8))
    }

    /// Entries of [`Element::field`] that `elements` elements take; `None` on overflow.
    pub(crate) fn entries(&self, elements: u64) -> Option<u64> {
        match (self.field, self.bits) {
            // Real and imaginary part.
            (Field::Floats, 64) | (Field::Doubles, 128) => elements.checked_mul(2),
            // Several elements share a byte, and each byte is an entry.
            (Field::Ints, 1..8) => self.packed_bytes(elements),
            _ => Some(elements),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_numbers() {
        for (at, element) in ELEMENTS.iter().enumerate() {
            assert_eq!(usize::try_from(element.number).unwrap(), at + 1);
            assert_eq!(of(element.number), Some(element));
            if let Some(bytes) = element.datatype.and_then(Datatype::element_bytes) {
                assert_eq!(bytes * 8, element.bits as usize, "{}", element.name);
            }
        }
        assert_eq!((of(0), of(27), of(-1)), (None, None, None));
    }

    #[test]
    fn elements_narrower_than_a_byte_share_it() {
        let int4 = of(22).unwrap();
        assert_eq!((int4.packed_bytes(5), int4.entries(5)), (Some(3), Some(3)));
        let int2 = of(26).unwrap();
        assert_eq!((int2.packed_bytes(5), int2.packed_bytes(0)), (Some(2), Some(0)));
        let complex = of(14).unwrap();
        assert_eq!((complex.packed_bytes(3), complex.entries(3)), (Some(24), Some(6)));
        assert_eq!(of(STRING).unwrap().packed_bytes(1), None);
        assert_eq!(of(FLOAT).unwrap().packed_bytes(u64::MAX), None);
    }
}
