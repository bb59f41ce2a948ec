//! Requests joined into one run, and its outputs taken apart again. Pure.

use bytes::{Bytes, BytesMut};

use crate::{Data, Tensor};

/// Rows that every input of a request has; `None` where they differ, or there are none, or a string is not
/// UTF-8: such a request runs alone.
pub(crate) fn rows(inputs: &[Tensor]) -> Option<u64> {
    let (first, rest) = inputs.split_first()?;
    if inputs.iter().any(|tensor| matches!(tensor.data, Data::Octets(_))) {
        return None;
    }
    let rows = *first.shape.first()?;
    let same = rest.iter().all(|tensor| tensor.shape.first() == Some(&rows));
    u64::try_from(rows).ok().filter(|rows| same && *rows > 0)
}

/// Whether two requests of one model can run as one: rows of the same shapes.
pub(crate) fn joinable(left: &[Tensor], right: &[Tensor]) -> bool {
    left.len() == right.len()
        && left.iter().enumerate().all(|(at, tensor)| {
            // Clients send inputs in the same order nearly always.
            let same = right.get(at).filter(|other| other.name == tensor.name);
            let other = same.or_else(|| right.iter().find(|other| other.name == tensor.name));
            other.is_some_and(|other| {
                tensor.datatype == other.datatype
                    && tensor.shape.len() == other.shape.len()
                    && tensor.shape.get(1..) == other.shape.get(1..)
            })
        })
}

/// One input of all requests, one after another. They are [`joinable`].
pub(crate) fn joined(parts: &[&Tensor]) -> Option<Tensor> {
    let first = *parts.first()?;
    let rows = parts.iter().try_fold(0_i64, |rows, part| rows.checked_add(*part.shape.first()?))?;
    let mut shape = first.shape.clone();
    *shape.first_mut()? = rows;
    let data = match &first.data {
        Data::Raw(_) => {
            let mut bytes = BytesMut::with_capacity(parts.iter().map(|part| part.size_bytes()).sum());
            for part in parts {
                let Data::Raw(more) = &part.data else { return None };
                bytes.extend_from_slice(more);
            }
            Data::Raw(bytes.freeze())
        }
        Data::Strings(_) => {
            let mut strings = Vec::with_capacity(parts.iter().map(|part| part.elements()).sum());
            for part in parts {
                let Data::Strings(more) = &part.data else { return None };
                strings.extend_from_slice(more);
            }
            Data::Strings(strings)
        }
        // Such requests run alone.
        Data::Octets(_) => return None,
    };
    Some(Tensor { name: first.name.clone(), datatype: first.datatype, shape, data })
}

/// Outputs for each request, by its rows; `None` where an output has not one row for each row that went in.
pub(crate) fn split(outputs: Vec<Tensor>, rows: &[u64]) -> Option<Vec<Vec<Tensor>>> {
    let total: u64 = rows.iter().sum();
    let mut answers: Vec<Vec<Tensor>> = rows.iter().map(|_| Vec::with_capacity(outputs.len())).collect();
    for output in outputs {
        if output.shape.is_empty() || output.rows() != total {
            return None;
        }
        let elements_of_row = output.elements().checked_div(usize::try_from(total).ok()?)?;
        match output.data {
            Data::Raw(bytes) => {
                let row_bytes = elements_of_row * output.datatype.element_bytes()?;
                let mut bytes = bytes;
                for (answer, rows) in answers.iter_mut().zip(rows) {
                    let part: Bytes = bytes.split_to(usize::try_from(*rows).ok()? * row_bytes);
                    answer.push(part_of(
                        &output.name,
                        output.datatype,
                        &output.shape,
                        *rows,
                        Data::Raw(part),
                    ));
                }
            }
            Data::Strings(strings) => {
                let mut strings = strings.into_iter();
                for (answer, rows) in answers.iter_mut().zip(rows) {
                    let count = usize::try_from(*rows).ok()? * elements_of_row;
                    let part = Data::Strings(strings.by_ref().take(count).collect());
                    answer.push(part_of(&output.name, output.datatype, &output.shape, *rows, part));
                }
            }
            Data::Octets(elements) => {
                let mut elements = elements.into_iter();
                for (answer, rows) in answers.iter_mut().zip(rows) {
                    let count = usize::try_from(*rows).ok()? * elements_of_row;
                    // Those of one request may be text, all of them.
                    let part = Data::of_octets(elements.by_ref().take(count).collect());
                    answer.push(part_of(&output.name, output.datatype, &output.shape, *rows, part));
                }
            }
        }
    }
    Some(answers)
}

fn part_of(name: &str, datatype: crate::Datatype, whole: &[i64], rows: u64, data: Data) -> Tensor {
    let mut shape = whole.to_vec();
    if let Some(first) = shape.first_mut() {
        *first = i64::try_from(rows).unwrap_or(i64::MAX);
    }
    Tensor { name: name.to_owned(), datatype, shape, data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_other_shapes_are_never_joined() {
        let one = [Tensor::fp32("x", [1, 2], &[0.0; 2])];
        let three = [Tensor::fp32("x", [3, 2], &[0.0; 6])];
        let wide = [Tensor::fp32("x", [1, 3], &[0.0; 3])];
        let flat = [Tensor::fp32("x", [2], &[0.0; 2])];
        assert!(joinable(&one, &three));
        assert!(!joinable(&one, &wide) && !joinable(&one, &flat));
        let (x, y) = (Tensor::fp32("x", [1, 1], &[0.0]), Tensor::fp32("y", [1, 1], &[0.0]));
        assert!(joinable(&[x.clone(), y.clone()], &[y, x.clone()]));
        assert_eq!((rows(&three), rows(&[x, wide[0].clone(), three[0].clone()])), (Some(3), None));
        assert_eq!((rows(&[]), rows(&[Tensor::fp32("s", [], &[0.0])])), (None, None));
    }

    #[test]
    fn an_output_without_a_row_for_each_row_is_not_split() {
        assert_eq!(split(vec![Tensor::fp32("mean", [1], &[0.0])], &[1, 1]), None);
        assert_eq!(split(vec![Tensor::fp32("scalar", [], &[0.0])], &[1]), None);
        let parts = split(vec![Tensor::fp32("y", [3, 1], &[1.0, 2.0, 3.0])], &[1, 2]).unwrap();
        assert_eq!(parts[1], [Tensor::fp32("y", [2, 1], &[2.0, 3.0])]);
    }
}
