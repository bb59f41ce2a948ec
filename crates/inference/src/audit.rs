//! Whether a request of a joined run was answered as it is alone. Pure.

use std::fmt;

use crate::{Data, Datatype, Tensor};

/// Numbers that differ by less, relative to the largest one of their output, are the same: sums of more rows
/// are made in another order.
const TOLERANCE: f64 = 1e-3;
/// The same for FP16 and BF16, whose numbers have 11 and 8 bits.
const HALF_TOLERANCE: f64 = 2e-2;

/// What an audit found: an answer of a joined run differs from that of the same request alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Output of the model.
    pub output: String,
    /// Element of the request's part of it, counted from 0 in row-major order.
    pub element: usize,
    /// What the joined run answered.
    pub joined: String,
    /// What the request is answered alone.
    pub alone: String,
    /// Rows of the joined run.
    pub run_rows: u64,
    /// Rows of the request.
    pub request_rows: u64,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "output '{}' has {} at element {} in a run of {} rows, and {} where the request of {} rows runs \
             alone",
            self.output, self.joined, self.element, self.run_rows, self.alone, self.request_rows
        )
    }
}

/// The first difference between the answers to a request in a joined run and alone; its counts of rows are 0.
///
/// Classes and words that differ while all numbers agree are no difference: the numbers were rounded on the
/// two sides of a limit.
pub(crate) fn compare(joined: &[Tensor], alone: &[Tensor]) -> Option<Difference> {
    let mut of_classes = None;
    let mut numbers_agree = false;
    for (joined, alone) in joined.iter().zip(alone) {
        if joined.shape != alone.shape || joined.datatype != alone.datatype {
            return Some(difference(
                joined,
                0,
                format!("shape {:?}", joined.shape),
                format!("shape {:?}", alone.shape),
            ));
        }
        if joined.data == alone.data {
            numbers_agree |= numbers(joined).is_some();
            continue;
        }
        let (Some(left), Some(right)) = (numbers(joined), numbers(alone)) else {
            of_classes = of_classes.or_else(|| element(joined, alone));
            continue;
        };
        numbers_agree = true;
        let largest = left.iter().chain(&right).filter(|number| number.is_finite());
        let largest = largest.fold(0.0_f64, |largest, number| largest.max(number.abs()));
        let half = matches!(joined.datatype, Datatype::Fp16 | Datatype::Bf16);
        let tolerance = largest * if half { HALF_TOLERANCE } else { TOLERANCE };
        let same = |left: f64, right: f64| {
            left.is_nan() && right.is_nan()
                || left.total_cmp(&right).is_eq()
                || (left - right).abs() <= tolerance
        };
        if let Some(at) = left.iter().zip(&right).position(|(left, right)| !same(*left, *right)) {
            return Some(difference(joined, at, left[at].to_string(), right[at].to_string()));
        }
    }
    of_classes.filter(|_| !numbers_agree)
}

fn difference(tensor: &Tensor, element: usize, joined: String, alone: String) -> Difference {
    Difference { output: tensor.name.clone(), element, joined, alone, run_rows: 0, request_rows: 0 }
}

/// The first element that differs of strings, integers or flags.
fn element(joined: &Tensor, alone: &Tensor) -> Option<Difference> {
    match (&joined.data, &alone.data) {
        (left @ (Data::Strings(_) | Data::Octets(_)), right @ (Data::Strings(_) | Data::Octets(_))) => {
            let (at, (left, right)) =
                left.octets().zip(right.octets()).enumerate().find(|(_, (left, right))| left != right)?;
            let shown = |octets: &[u8]| format!("{:?}", String::from_utf8_lossy(octets));
            Some(difference(joined, at, shown(left), shown(right)))
        }
        (Data::Raw(left), Data::Raw(right)) => {
            let each = joined.datatype.element_bytes()?;
            let (mut left, mut right) = (left.chunks(each), right.chunks(each));
            let at = left.by_ref().zip(right.by_ref()).position(|(left, right)| left != right)?;
            let shown = |tensor: &Tensor| {
                let Data::Raw(bytes) = &tensor.data else { return String::new() };
                let bytes = bytes.chunks(each).nth(at).unwrap_or_default();
                let signed = bytes.last().is_some_and(|byte| byte & 0x80 != 0)
                    && matches!(
                        tensor.datatype,
                        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 | Datatype::Int64
                    );
                let mut wide = if signed { [0xff; 8] } else { [0; 8] };
                for (place, byte) in wide.iter_mut().zip(bytes) {
                    *place = *byte;
                }
                if signed {
                    i64::from_le_bytes(wide).to_string()
                } else {
                    u64::from_le_bytes(wide).to_string()
                }
            };
            Some(difference(joined, at, shown(joined), shown(alone)))
        }
        _ => Some(difference(joined, 0, "another type".to_owned(), "another type".to_owned())),
    }
}

/// Numbers of a floating-point type.
fn numbers(tensor: &Tensor) -> Option<Vec<f64>> {
    let Data::Raw(bytes) = &tensor.data else { return None };
    Some(match tensor.datatype {
        Datatype::Fp32 => {
            bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes).into()).collect()
        }
        Datatype::Fp64 => bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect(),
        Datatype::Fp16 => {
            bytes.as_chunks::<2>().0.iter().map(|bytes| half(u16::from_le_bytes(*bytes))).collect()
        }
        Datatype::Bf16 => {
            let wide = |bytes: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            bytes.as_chunks::<2>().0.iter().map(|bytes| wide(bytes).into()).collect()
        }
        _ => return None,
    })
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2.0_f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2.0_f64.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[i64]) -> Tensor {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::raw("label", Datatype::Int64, [i64::try_from(values.len()).unwrap()], bytes)
    }

    #[test]
    fn rounding_is_no_difference_and_anything_else_is() {
        let scores = |values: &[f32]| Tensor::fp32("score", [i64::try_from(values.len()).unwrap()], values);
        assert_eq!(compare(&[scores(&[1.0, f32::NAN])], &[scores(&[1.0005, f32::NAN])]), None);
        let found = compare(&[scores(&[1.0, 0.5])], &[scores(&[1.0, 0.51])]).unwrap();
        assert_eq!((found.output.as_str(), found.element), ("score", 1));
        assert!(compare(&[scores(&[1.0])], &[scores(&[f32::NAN])]).is_some());
        assert!(compare(&[scores(&[f32::INFINITY])], &[scores(&[1.0])]).is_some());
        // Small numbers are compared with each other, not with 1.
        assert!(compare(&[scores(&[1e-7])], &[scores(&[2e-7])]).is_some());
    }

    #[test]
    fn classes_count_where_no_numbers_say_that_they_were_close() {
        let score = |value: f32| Tensor::fp32("score", [1], &[value]);
        let found = compare(&[labels(&[1, -2])], &[labels(&[1, 3])]).unwrap();
        assert_eq!((found.element, found.joined.as_str(), found.alone.as_str()), (1, "-2", "3"));
        assert_eq!(compare(&[labels(&[1]), score(0.5)], &[labels(&[0]), score(0.500_01)]), None);
        assert!(compare(&[labels(&[1]), score(0.5)], &[labels(&[0]), score(0.6)]).is_some());
        let words = |word: &str| Tensor::strings("word", [1], vec![word.to_owned()]);
        assert_eq!(compare(&[words("a")], &[words("b")]).unwrap().joined, "\"a\"");
    }

    #[test]
    fn half_precision_is_read_as_it_is_written() {
        for (bits, expected) in [(0x3c00, 1.0), (0xc000, -2.0), (0x7bff, 65504.0), (1, 2.0_f64.powi(-24))] {
            assert!((half(bits) - expected).abs() < 1e-12, "{bits:x}");
        }
        assert!(half(0x7e00).is_nan() && half(0xfc00) == f64::NEG_INFINITY);
    }
}
