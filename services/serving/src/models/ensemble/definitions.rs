//! Definitions for tests.

use slipway_domain::ensemble::{Declared, Definition, Step};

/// A definition of steps `(model, inputs, outputs)`, whose maps are `model name=tensor` each.
pub(crate) fn definition(inputs: &[&str], steps: &[(&str, &str, &str)], outputs: &[&str]) -> Definition {
    let declared = |names: &[&str]| {
        let one = |name: &&str| Declared { name: (*name).into(), datatype: None, shape: None };
        names.iter().map(one).collect()
    };
    let map = |text: &str| {
        let pairs = text.split_whitespace().map(|pair| pair.split_once('=').unwrap());
        pairs.map(|(name, tensor)| (name.to_owned(), tensor.to_owned())).collect()
    };
    let step = |(model, inputs, outputs): &(&str, &str, &str)| Step {
        model: (*model).into(),
        version: None,
        inputs: map(inputs),
        outputs: map(outputs),
    };
    Definition {
        inputs: declared(inputs),
        outputs: declared(outputs),
        steps: steps.iter().map(step).collect(),
    }
}
