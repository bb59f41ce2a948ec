//! Inputs without elements.
//!
//! Kernels of ONNX Runtime end the process on some tensors that have a dimension of 0: GRU and LSTM call
//! `std::terminate`, ConvTranspose reads beyond its memory, others divide by the number of elements. Which
//! ones differs between its versions. Some models need such inputs (a decoder's first step has
//! `past_key_values` of length 0), so that what is run is what was tried in a process that may end.

use std::collections::{BTreeMap, BTreeSet};

use ort::session::Session;
use ort::value::ValueType;

use crate::{Error, Signature, Tensor, TensorSpec, profile};

/// Dimensions that have the size 0 at the same time: names of inputs, and the dimension's place in the shape.
pub type EmptyDimensions = BTreeSet<(String, usize)>;

/// Most sets of dimensions that are tried.
const MAX_CANDIDATES: usize = 32;

/// Sets of dimensions that a request may make empty: those that share a symbolic name, the first dimensions
/// of all inputs, and each dimension alone.
pub(crate) fn candidates(session: &Session, signature: &Signature) -> Vec<EmptyDimensions> {
    if !profile::is_affordable(signature) {
        return Vec::new();
    }
    let named = session.inputs().iter().flat_map(|input| match input.dtype() {
        ValueType::Tensor { dimension_symbols, .. } => {
            let symbols = dimension_symbols.iter().enumerate();
            symbols.map(|(axis, symbol)| (symbol.clone(), (input.name().to_owned(), axis))).collect()
        }
        _ => Vec::new(),
    });
    sets(named, signature)
}

fn sets(
    named: impl Iterator<Item = (String, (String, usize))>,
    signature: &Signature,
) -> Vec<EmptyDimensions> {
    let varying: Vec<(String, usize)> = signature.inputs.iter().flat_map(varying).collect();
    let mut by_symbol: BTreeMap<String, EmptyDimensions> = BTreeMap::new();
    for (symbol, place) in named.filter(|(symbol, place)| !symbol.is_empty() && varying.contains(place)) {
        by_symbol.entry(symbol).or_default().insert(place);
    }
    let first = varying.iter().filter(|(_, axis)| *axis == 0).cloned().collect();
    let alone = varying.iter().map(|place| EmptyDimensions::from([place.clone()]));
    let mut found = Vec::new();
    for set in by_symbol.into_values().chain([first]).chain(alone) {
        if !set.is_empty() && !found.contains(&set) && found.len() < MAX_CANDIDATES {
            found.push(set);
        }
    }
    found
}

/// Dimensions of an input of which a request chooses the size.
fn varying(spec: &TensorSpec) -> impl Iterator<Item = (String, usize)> {
    let sizes = spec.shape.iter().enumerate();
    sizes.filter(|(_, size)| **size < 0).map(|(axis, _)| (spec.name.clone(), axis))
}

/// Inputs of zeros in which these dimensions are empty, and others that vary have the size 1.
pub(crate) fn inputs(signature: &Signature, empty: &EmptyDimensions) -> Vec<Tensor> {
    let tensor = |spec: &TensorSpec| {
        let sizes = spec.shape.iter().enumerate().map(|(axis, size)| match *size {
            _ if empty.contains(&(spec.name.clone(), axis)) => 0,
            size if size < 0 => 1,
            size => size,
        });
        spec.zeros_of(sizes.collect())
    };
    signature.inputs.iter().map(tensor).collect()
}

/// Checks that inputs with dimensions of size 0, where there are some, are inputs that the model was tried
/// with.
///
/// # Errors
/// [`Error::InvalidInput`] names the first of them.
pub(crate) fn check(
    signature: &Signature,
    survived: &[EmptyDimensions],
    inputs: &[Tensor],
) -> Result<(), Error> {
    let Some(first) = inputs.iter().find(|tensor| empty_dimensions(signature, tensor).next().is_some())
    else {
        return Ok(());
    };
    let found = inputs.iter().flat_map(|tensor| empty_dimensions(signature, tensor));
    let found: EmptyDimensions = found.map(|axis| (axis.0.to_owned(), axis.1)).collect();
    if survived.contains(&found) {
        return Ok(());
    }
    Err(Error::invalid(
        &first.name,
        format!(
            "input '{}' has shape {:?}, which holds no elements; this model takes no such input, \
             since ONNX Runtime crashed on it or was not tried with it when the model was loaded",
            first.name, first.shape
        ),
    ))
}

/// Dimensions of size 0 that the model does not ask for.
fn empty_dimensions<'tensor>(
    signature: &'tensor Signature,
    tensor: &'tensor Tensor,
) -> impl Iterator<Item = (&'tensor str, usize)> {
    let wanted = move |axis: usize| Some(*signature.input(&tensor.name)?.shape.get(axis)?);
    let sizes = tensor.shape.iter().enumerate();
    sizes
        .filter(move |(axis, size)| **size == 0 && wanted(*axis) != Some(0))
        .map(|(axis, _)| (tensor.name.as_str(), axis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Datatype;

    fn signature(inputs: &[(&str, &[i64])]) -> Signature {
        let spec = |(name, shape): &(&str, &[i64])| TensorSpec {
            name: (*name).to_owned(),
            datatype: Datatype::Fp32,
            shape: shape.to_vec(),
        };
        Signature { inputs: inputs.iter().map(spec).collect(), ..Signature::default() }
    }

    fn set(places: &[(&str, usize)]) -> EmptyDimensions {
        places.iter().map(|(name, axis)| ((*name).to_owned(), *axis)).collect()
    }

    #[test]
    fn dimensions_of_one_name_are_empty_together() {
        let signature = signature(&[("ids", &[-1, -1]), ("past", &[-1, 8, -1]), ("k", &[2])]);
        let symbols =
            [("batch", "ids", 0), ("n", "ids", 1), ("batch", "past", 0), ("", "past", 2), ("k", "k", 0)];
        let named = symbols.map(|(symbol, name, axis)| (symbol.to_owned(), (name.to_owned(), axis)));
        let expected = [
            set(&[("ids", 0), ("past", 0)]),
            set(&[("ids", 1)]),
            set(&[("ids", 0)]),
            set(&[("past", 0)]),
            set(&[("past", 2)]),
        ];
        assert_eq!(sets(named.into_iter(), &signature), expected);
    }

    #[test]
    fn only_what_was_tried_is_taken() {
        let signature = signature(&[("x", &[-1, -1, 2]), ("fixed", &[0])]);
        let survived = [set(&[("x", 0)])];
        let tensors = |shape: [i64; 3]| {
            let elements = usize::try_from(shape.iter().product::<i64>()).unwrap();
            [Tensor::fp32("x", shape, &vec![0.0; elements]), Tensor::fp32("fixed", [0], &[])]
        };
        for shape in [[1, 1, 2], [0, 1, 2], [0, 7, 2]] {
            assert_eq!(check(&signature, &survived, &tensors(shape)), Ok(()), "{shape:?}");
        }
        for shape in [[1, 0, 2], [0, 0, 2]] {
            let Err(Error::InvalidInput { input, message }) = check(&signature, &survived, &tensors(shape))
            else {
                panic!("{shape:?} is taken");
            };
            assert_eq!(input, "x");
            assert!(message.contains(&format!("{shape:?}, which holds no elements")), "{message}");
        }
        assert_eq!(inputs(&signature, &survived[0])[0].shape, [0, 1, 2]);
    }
}
