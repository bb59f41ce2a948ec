//! What an ensemble consists of, as its file says, and whether that can be. The registry asks when a version
//! is made, serving when it is loaded.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};

use crate::datatype::Datatype;

/// A version with a file of this name at the top is an ensemble: it calls other models, and needs none of its
/// own.
pub const ENSEMBLE_FILE: &str = "slipway-ensemble.json";
/// Longest file.
pub const MAX_FILE_BYTES: u64 = 256 * 1024;
/// Most steps of one ensemble.
const MAX_STEPS: usize = 64;

/// An ensemble whose tensors all come from somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// What requests bring.
    pub inputs: Vec<Declared>,
    /// What answers hold.
    pub outputs: Vec<Declared>,
    /// The models, in any order.
    pub steps: Vec<Step>,
}

/// An input or output of an ensemble.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Name of the tensor.
    pub name: String,
    /// Type of its elements; without it, as the models say.
    #[serde(default, deserialize_with = "datatype")]
    pub datatype: Option<Datatype>,
    /// Its shape, -1 for a dimension that varies; without it, as the models say.
    #[serde(default)]
    pub shape: Option<Vec<i64>>,
}

/// One model of an ensemble.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Name of its deployment.
    pub model: String,
    /// One of its versions; without it, the deployment's traffic decides.
    #[serde(default)]
    pub version: Option<String>,
    /// Tensor of the ensemble by input of the model.
    pub inputs: BTreeMap<String, String>,
    /// Tensor of the ensemble by output of the model; outputs that are not named are not used.
    pub outputs: BTreeMap<String, String>,
}

/// Whether a text can be a version where it is served: digits only, as the Open Inference Protocol says.
pub fn is_version(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn datatype<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Datatype>, D::Error> {
    let Some(name) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let datatype = Datatype::from_name(&name);
    datatype
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom(format!("'{name}' is not a datatype; expected e.g. FP32")))
}

impl Definition {
    /// Checks what needs no model: that every tensor comes from one place, before it is taken.
    ///
    /// # Errors
    /// Names the step and the tensor.
    pub fn checked(self) -> Result<Self, String> {
        if self.steps.is_empty() || self.steps.len() > MAX_STEPS {
            return Err(format!("it has {} steps; expected 1 to {MAX_STEPS}", self.steps.len()));
        }
        if self.inputs.is_empty() || self.outputs.is_empty() {
            return Err("it has no input or no output; expected one of each at least".to_owned());
        }
        let producers = self.producers()?;
        for (at, step) in self.steps.iter().enumerate() {
            let named = self.step(at);
            if let Some(version) = step.version.as_ref().filter(|version| !is_version(version)) {
                return Err(format!("{named} has version '{version}'; expected digits"));
            }
            if step.inputs.is_empty() || step.outputs.is_empty() {
                return Err(format!("{named} takes or gives nothing; expected one tensor each at least"));
            }
            let orphan = step.inputs.values().find(|tensor| !producers.contains_key(tensor.as_str()));
            if let Some(tensor) = orphan {
                return Err(format!(
                    "{named} takes the tensor '{tensor}', which no step gives and which is no input"
                ));
            }
        }
        for input in &self.inputs {
            let taken =
                self.steps.iter().any(|step| step.inputs.values().any(|tensor| *tensor == input.name));
            if !taken {
                return Err(format!("no step takes the input '{}'", input.name));
            }
        }
        let mut outputs = BTreeSet::new();
        for output in &self.outputs {
            if !matches!(producers.get(output.name.as_str()), Some(Some(_step))) {
                return Err(format!("no step gives the output '{}'", output.name));
            }
            if !outputs.insert(&output.name) {
                return Err(format!("the output '{}' is named twice", output.name));
            }
        }
        self.check_order()?;
        Ok(self)
    }

    /// By tensor: the step that gives it, or `None` for an input.
    fn producers(&self) -> Result<BTreeMap<&str, Option<usize>>, String> {
        let mut producers: BTreeMap<&str, Option<usize>> = BTreeMap::new();
        for input in &self.inputs {
            if producers.insert(&input.name, None).is_some() {
                return Err(format!("the input '{}' is named twice", input.name));
            }
        }
        for (at, step) in self.steps.iter().enumerate() {
            for tensor in step.outputs.values() {
                let from = match producers.insert(tensor, Some(at)) {
                    None => continue,
                    Some(None) => "is an input".to_owned(),
                    Some(Some(other)) if other == at => "it gives by another output, too".to_owned(),
                    Some(Some(other)) => format!("{} gives, too", self.step(other)),
                };
                return Err(format!("{} gives the tensor '{tensor}', which {from}", self.step(at)));
            }
        }
        Ok(producers)
    }

    /// Refuses steps that wait for each other.
    fn check_order(&self) -> Result<(), String> {
        let mut there: BTreeSet<&str> = self.inputs.iter().map(|input| input.name.as_str()).collect();
        let mut waiting: Vec<usize> = (0..self.steps.len()).collect();
        loop {
            let before = waiting.len();
            waiting.retain(|at| {
                let step = &self.steps[*at];
                let able = step.inputs.values().all(|tensor| there.contains(tensor.as_str()));
                if able {
                    there.extend(step.outputs.values().map(String::as_str));
                }
                !able
            });
            if waiting.is_empty() {
                return Ok(());
            }
            if waiting.len() == before {
                let steps: Vec<String> = waiting.into_iter().map(|at| self.step(at)).collect();
                return Err(format!("{} can never run: what they take comes from a cycle", steps.join(", ")));
            }
        }
    }

    /// What a step is called in messages, e.g. `step 2 ('classes')`.
    pub fn step(&self, at: usize) -> String {
        format!("step {} ('{}')", at + 1, self.steps[at].model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A definition of steps `(model, inputs, outputs)`, whose maps are `model name=tensor` each.
    fn definition(inputs: &[&str], steps: &[(&str, &str, &str)], outputs: &[&str]) -> Definition {
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

    #[test]
    fn every_tensor_comes_from_one_place_and_no_step_waits_for_itself() {
        let refused = |inputs: &[&str], steps: &[(&str, &str, &str)], outputs: &[&str]| {
            definition(inputs, steps, outputs).checked().unwrap_err()
        };
        assert_eq!(
            refused(&["x"], &[("a", "i=x", "o=y"), ("b", "i=x", "o=y")], &["y"]),
            "step 2 ('b') gives the tensor 'y', which step 1 ('a') gives, too"
        );
        assert_eq!(
            refused(&["x"], &[("a", "i=x", "o=x")], &["x"]),
            "step 1 ('a') gives the tensor 'x', which is an input"
        );
        assert_eq!(
            refused(&["x"], &[("a", "i=x j=z", "o=y")], &["y"]),
            "step 1 ('a') takes the tensor 'z', which no step gives and which is no input"
        );
        assert_eq!(
            refused(&["x"], &[("a", "i=x j=z", "o=y"), ("b", "i=y", "o=z"), ("c", "i=x", "o=w")], &["w"]),
            "step 1 ('a'), step 2 ('b') can never run: what they take comes from a cycle"
        );
        assert_eq!(refused(&["x"], &[("a", "i=x", "o=y")], &["z"]), "no step gives the output 'z'");
        assert_eq!(refused(&["x", "w"], &[("a", "i=x", "o=y")], &["y"]), "no step takes the input 'w'");
        assert_eq!(refused(&["x"], &[], &["y"]), "it has 0 steps; expected 1 to 64");
        assert!(
            definition(&["x"], &[("b", "i=y", "o=z"), ("a", "i=x", "o=y")], &["z", "y"]).checked().is_ok()
        );
    }
}
