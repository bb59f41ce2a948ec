//! The classification extension: the highest scores of each row as `value:index` strings, or
//! `value:index:label` where classes have names.

use std::borrow::Cow;
use std::cmp::Ordering;

use slipway_inference::{Data, Datatype, Tensor};

use super::element::{brain, elements, half};
use crate::failure::Failure;

/// The tensor itself, or its `classes` highest values of each row, highest first, as BYTES of `value:index`,
/// with the class's name behind it where `labels` has one.
///
/// The first dimension is the batch; a tensor of one dimension is one row. NaN comes last.
///
/// # Errors
/// Text and truth values have no highest.
pub(crate) fn classified<'tensor>(
    tensor: &'tensor Tensor,
    classes: Option<usize>,
    labels: &[String],
) -> Result<Cow<'tensor, Tensor>, Failure> {
    let Some(classes) = classes else { return Ok(Cow::Borrowed(tensor)) };
    let refused = || no_classes(&tensor.name, tensor.datatype);
    let Data::Raw(bytes) = &tensor.data else { return Err(refused()) };
    let rows = match tensor.shape.as_slice() {
        [] | [_] => 1,
        [rows, ..] => usize::try_from(*rows).unwrap_or(0),
    };
    let classes = Classes { count: classes, labels };
    let strings = match tensor.datatype {
        Datatype::Bool | Datatype::Bytes => return Err(refused()),
        Datatype::Int8 => highest(elements(bytes, i8::from_le_bytes), rows, classes, whole),
        Datatype::Int16 => highest(elements(bytes, i16::from_le_bytes), rows, classes, whole),
        Datatype::Int32 => highest(elements(bytes, i32::from_le_bytes), rows, classes, whole),
        Datatype::Int64 => highest(elements(bytes, i64::from_le_bytes), rows, classes, whole),
        Datatype::Uint8 => highest(elements(bytes, u8::from_le_bytes), rows, classes, whole),
        Datatype::Uint16 => highest(elements(bytes, u16::from_le_bytes), rows, classes, whole),
        Datatype::Uint32 => highest(elements(bytes, u32::from_le_bytes), rows, classes, whole),
        Datatype::Uint64 => highest(elements(bytes, u64::from_le_bytes), rows, classes, whole),
        Datatype::Fp16 => highest(elements(bytes, half), rows, classes, decimal),
        Datatype::Bf16 => highest(elements(bytes, brain), rows, classes, decimal),
        Datatype::Fp32 => highest(elements(bytes, f32::from_le_bytes), rows, classes, decimal),
        Datatype::Fp64 => highest(elements(bytes, f64::from_le_bytes), rows, classes, decimal),
    };
    let each = i64::try_from(strings.len() / rows.max(1)).unwrap_or(0);
    let shape = match tensor.shape.as_slice() {
        [] | [_] => vec![each],
        [rows, ..] => vec![*rows, each],
    };
    Ok(Cow::Owned(Tensor::strings(&tensor.name, shape, strings)))
}

/// Text and truth values have no highest.
pub(super) fn no_classes(output: &str, datatype: Datatype) -> Failure {
    Failure::invalid(format!("output '{output}': classification is not available for {datatype}"))
}

/// The number of classes that a client asked for.
///
/// # Errors
/// It is not a positive whole number.
pub(crate) fn class_count(output: &str, given: Option<u64>) -> Result<usize, Failure> {
    let count = given.filter(|count| *count > 0).and_then(|count| usize::try_from(count).ok());
    count.ok_or_else(|| {
        Failure::invalid(format!(
            "output '{output}': classification expects a number of classes, a whole number above 0"
        ))
    })
}

/// How many classes are wanted, and what they are called.
#[derive(Clone, Copy)]
struct Classes<'labels> {
    count: usize,
    labels: &'labels [String],
}

fn highest<T: Copy + PartialOrd>(
    values: impl Iterator<Item = T>,
    rows: usize,
    Classes { count, labels }: Classes<'_>,
    text: fn(T) -> String,
) -> Vec<String> {
    let values: Vec<T> = values.collect();
    let width = values.len().checked_div(rows).unwrap_or(0);
    if width == 0 {
        return Vec::new();
    }
    let mut strings = Vec::with_capacity(rows * count.min(width));
    for row in values.chunks(width) {
        let mut row: Vec<Ranked<T>> =
            row.iter().enumerate().map(|(index, value)| Ranked { index, value: *value }).collect();
        if count < row.len() {
            row.select_nth_unstable_by(count, descending);
            row.truncate(count);
        }
        row.sort_unstable_by(descending);
        strings.extend(row.into_iter().map(|Ranked { index, value }| {
            let named = labels.get(index).filter(|label| !label.is_empty());
            let label = named.map(|label| format!(":{label}")).unwrap_or_default();
            format!("{}:{index}{label}", text(value))
        }));
    }
    strings
}

/// A value of a row, and its class.
struct Ranked<T> {
    index: usize,
    value: T,
}

/// Higher values first, NaN last, equal ones by index.
fn descending<T: PartialOrd>(one: &Ranked<T>, other: &Ranked<T>) -> Ordering {
    let is_nan = |value: &T| value.partial_cmp(value).is_none();
    let by_value = other.value.partial_cmp(&one.value);
    by_value
        .unwrap_or_else(|| is_nan(&one.value).cmp(&is_nan(&other.value)))
        .then(one.index.cmp(&other.index))
}

fn whole<T: std::fmt::Display>(value: T) -> String {
    value.to_string()
}

/// As C prints `%f`, which clients of Triton have learned to read.
fn decimal<T: Into<f64>>(value: T) -> String {
    let value: f64 = value.into();
    if value.is_nan() { "nan".to_owned() } else { format!("{value:.6}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(tensor: &Tensor, count: usize) -> (Vec<i64>, Vec<String>) {
        let classified = classified(tensor, Some(count), &[]).unwrap().into_owned();
        let Data::Strings(strings) = classified.data else { unreachable!("classes are text") };
        (classified.shape, strings)
    }

    #[test]
    fn each_row_has_its_highest_values_first() {
        let scores = Tensor::fp32("scores", [2, 3], &[0.1, 0.7, 0.2, f32::NAN, -1.0, -1.0]);
        let (shape, strings) = classes(&scores, 2);
        assert_eq!(shape, [2, 2]);
        assert_eq!(strings, ["0.700000:1", "0.200000:2", "-1.000000:1", "-1.000000:2"]);
        let (shape, strings) = classes(&scores, 100);
        assert_eq!((shape, strings[5].as_str()), (vec![2, 3], "nan:0"));
    }

    #[test]
    fn whole_numbers_stay_exact_and_one_dimension_is_one_row() {
        let values = [u64::MAX, 5, u64::MAX - 1].map(u64::to_le_bytes).concat();
        let (shape, strings) = classes(&Tensor::raw("ids", Datatype::Uint64, [3], values), 2);
        assert_eq!(shape, [2]);
        assert_eq!(strings, ["18446744073709551615:0", "18446744073709551614:2"]);
    }

    #[test]
    fn a_class_that_has_a_name_is_told_with_it() {
        let scores = Tensor::fp32("scores", [1, 3], &[0.1, 0.7, 0.2]);
        let labels = ["cat".to_owned(), "dog".to_owned()];
        let classified = classified(&scores, Some(3), &labels).unwrap().into_owned();
        let expected = ["0.700000:1:dog", "0.200000:2", "0.100000:0:cat"].map(str::to_owned).to_vec();
        assert_eq!(classified.data, Data::Strings(expected));
    }

    #[test]
    fn no_rows_have_no_classes() {
        assert_eq!(classes(&Tensor::fp32("scores", [0, 3], &[]), 2), (vec![0, 0], Vec::new()));
    }

    #[test]
    fn text_has_no_highest_value() {
        let text = Tensor::strings("text", [1], vec!["a".to_owned()]);
        assert!(classified(&text, Some(1), &[]).unwrap_err().message.contains("output 'text'"));
        assert!(class_count("text", Some(0)).is_err());
    }
}
