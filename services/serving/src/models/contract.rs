//! What a `config.pbtxt` says of a model's tensors, against what the model says: refused where they do not
//! fit, kept where they do. Pure.

use slipway_domain::ensemble::Declared;
use slipway_inference::{Signature, Tensor, TensorSpec};

/// A tensor as a configuration declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeclaredTensor {
    /// Name, type, and the shape that requests have, the batch included.
    pub(crate) declared: Declared,
    /// The shape that the model gets, without the batch.
    pub(crate) reshape: Option<Vec<i64>>,
    /// How images lie in it, for clients; [`slipway_api::inference::model_input::Format`].
    pub(crate) format: i32,
    /// Whether requests may leave it out.
    pub(crate) optional: bool,
}

/// The tensors that a configuration declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Declarations {
    /// Inputs; none: the model's.
    pub(crate) inputs: Vec<DeclaredTensor>,
    /// Outputs; none: the model's.
    pub(crate) outputs: Vec<DeclaredTensor>,
    /// 0, unset: the shapes have no batch before them.
    pub(crate) max_batch_size: usize,
}

/// How requests and answers differ from what the model takes and gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contract {
    /// By input: the shape that the model gets.
    inputs: Vec<(String, Vec<i64>)>,
    /// By output: the shape that the client gets.
    outputs: Vec<(String, Vec<i64>)>,
    batched: bool,
}

/// A model as its declarations show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fitted {
    /// What clients send and get.
    pub(crate) signature: Signature,
    /// How that differs from what the model takes and gives; `None` where it does not.
    pub(crate) contract: Option<Contract>,
}

/// One side of a model.
#[derive(Clone, Copy)]
struct Side {
    name: &'static str,
    /// Whether every tensor of the model has to be declared.
    complete: bool,
}

impl Declarations {
    /// The signature that clients see of a model, and how their tensors become the model's.
    ///
    /// # Errors
    /// Names the tensor, the field, its value and what was expected.
    pub(crate) fn fit(&self, model: &Signature) -> Result<Fitted, String> {
        let batched = self.max_batch_size > 0;
        if batched {
            self.check_batch(model)?;
        }
        let mut contract = Contract { batched, ..Contract::default() };
        let inputs = Side { name: "input", complete: true };
        let outputs = Side { name: "output", complete: false };
        let signature = Signature {
            inputs: self.side(inputs, &self.inputs, &model.inputs, &model.optional, &mut contract.inputs)?,
            outputs: self.side(outputs, &self.outputs, &model.outputs, &[], &mut contract.outputs)?,
            optional: model.optional.clone(),
        };
        // What the client gets is what is declared, so it is the other way round.
        for (name, shape) in &mut contract.outputs {
            if let Some(spec) = signature.outputs.iter().find(|spec| spec.name == *name) {
                *shape = spec.shape.iter().skip(usize::from(batched)).copied().collect();
            }
        }
        let is_same = signature == *model;
        Ok(Fitted { signature, contract: (!is_same).then_some(contract) })
    }

    /// Whether there is a batch in front of every tensor.
    fn check_batch(&self, model: &Signature) -> Result<(), String> {
        for (side, specs) in [("input", &model.inputs), ("output", &model.outputs)] {
            // A model need not say the shapes of its outputs.
            let fixed = specs.iter().find(|spec| spec.shape.first().is_some_and(|first| *first != -1));
            if let Some(spec) = fixed {
                return Err(format!(
                    "max_batch_size is {}, but {side} '{}' of the model is {:?}, which has no batch \
                     dimension; expected 0",
                    self.max_batch_size, spec.name, spec.shape
                ));
            }
        }
        Ok(())
    }

    fn side(
        &self,
        side: Side,
        declared: &[DeclaredTensor],
        model: &[TensorSpec],
        optional: &[TensorSpec],
        reshapes: &mut Vec<(String, Vec<i64>)>,
    ) -> Result<Vec<TensorSpec>, String> {
        if declared.is_empty() {
            return Ok(model.to_vec());
        }
        let known = |name: &str| model.iter().any(|spec| spec.name == name);
        for (at, tensor) in declared.iter().enumerate() {
            let name = &tensor.declared.name;
            if declared[..at].iter().any(|earlier| earlier.declared.name == *name) {
                return Err(format!("{} '{name}' is declared twice", side.name));
            }
            if let Some(spec) = optional.iter().find(|spec| spec.name == *name) {
                self.tensor(side, tensor, spec, reshapes)?;
            } else if !known(name) {
                let names = model.iter().chain(optional).map(|spec| format!("'{}'", spec.name));
                let names: Vec<String> = names.collect();
                return Err(format!(
                    "{0} '{name}' is no {0} of the model; expected {1}",
                    side.name,
                    names.join(", ")
                ));
            } else if tensor.optional {
                return Err(format!(
                    "{} '{name}': optional is true, but the model has no default for it; expected false",
                    side.name
                ));
            }
        }
        let mut specs = Vec::with_capacity(model.len());
        for spec in model {
            match declared.iter().find(|tensor| tensor.declared.name == spec.name) {
                Some(tensor) => specs.push(self.tensor(side, tensor, spec, reshapes)?),
                None if side.complete => {
                    return Err(format!(
                        "{} '{}' of the model is not declared; declare all or none",
                        side.name, spec.name
                    ));
                }
                None => {}
            }
        }
        Ok(specs)
    }

    /// What a declaration and the model say together of one tensor.
    fn tensor(
        &self,
        side: Side,
        DeclaredTensor { declared, reshape, .. }: &DeclaredTensor,
        model: &TensorSpec,
        reshapes: &mut Vec<(String, Vec<i64>)>,
    ) -> Result<TensorSpec, String> {
        let name = format!("{} '{}'", side.name, declared.name);
        if let Some(datatype) = declared.datatype.filter(|datatype| *datatype != model.datatype) {
            return Err(format!("{name}: data_type is {datatype}; the model has {}", model.datatype));
        }
        let Some(shape) = &declared.shape else {
            return match reshape {
                None => Ok(model.clone()),
                Some(_) => Err(format!("{name}: reshape needs dims")),
            };
        };
        let batch = usize::from(self.max_batch_size > 0);
        let dims = shape.get(batch..).unwrap_or_default();
        let given: Vec<i64> = match reshape {
            None => shape.clone(),
            Some(reshape) => {
                check_reshape(&name, dims, reshape)?;
                reshapes.push((declared.name.clone(), reshape.clone()));
                shape[..batch].iter().chain(reshape).copied().collect()
            }
        };
        let fits = |(given, model): (&i64, &i64)| *model < 0 || given == model;
        let other_rank = given.len() != model.shape.len();
        // A model that does not say a shape takes any.
        if !model.shape.is_empty() && (other_rank || !given.iter().zip(&model.shape).all(fits)) {
            let what = if reshape.is_some() { "reshape" } else { "dims" };
            let expected = model.shape.get(batch..).unwrap_or_default();
            let with = if batch > 0 { " behind the batch" } else { "" };
            return Err(format!("{name}: {what} is {:?}; the model has {expected:?}{with}", &given[batch..]));
        }
        Ok(TensorSpec { name: model.name.clone(), datatype: model.datatype, shape: shape.clone() })
    }
}

fn check_reshape(name: &str, dims: &[i64], reshape: &[i64]) -> Result<(), String> {
    let elements = |shape: &[i64]| shape.iter().try_fold(1_i64, |product, size| product.checked_mul(*size));
    if dims.iter().chain(reshape).any(|size| *size < 0) {
        return Err(format!(
            "{name}: reshape from {dims:?} to {reshape:?} has sizes that vary, which is not supported"
        ));
    }
    if elements(dims) != elements(reshape) {
        return Err(format!("{name}: reshape from {dims:?} to {reshape:?} changes the number of elements"));
    }
    Ok(())
}

impl Contract {
    /// The inputs as the model takes them. They have been compared with the metadata that clients see.
    pub(crate) fn inputs(&self, inputs: &[Tensor]) -> Vec<Tensor> {
        inputs.iter().map(|tensor| self.reshaped(tensor.clone(), &self.inputs)).collect()
    }

    /// The outputs as clients get them: those of `signature`.
    pub(crate) fn outputs(&self, outputs: Vec<Tensor>, signature: &Signature) -> Vec<Tensor> {
        let served = outputs
            .into_iter()
            .filter(|tensor| signature.outputs.iter().any(|spec| spec.name == tensor.name));
        served.map(|tensor| self.reshaped(tensor, &self.outputs)).collect()
    }

    fn reshaped(&self, mut tensor: Tensor, shapes: &[(String, Vec<i64>)]) -> Tensor {
        if let Some((_, shape)) = shapes.iter().find(|(name, _)| *name == tensor.name) {
            tensor.shape.truncate(usize::from(self.batched));
            tensor.shape.extend_from_slice(shape);
        }
        tensor
    }
}

#[cfg(test)]
mod tests {
    use slipway_inference::Datatype;

    use super::*;

    fn spec(name: &str, shape: &[i64]) -> TensorSpec {
        TensorSpec { name: name.into(), datatype: Datatype::Fp32, shape: shape.to_vec() }
    }

    fn declared(name: &str, shape: &[i64]) -> DeclaredTensor {
        let declared = Declared { name: name.into(), datatype: None, shape: Some(shape.to_vec()) };
        DeclaredTensor { declared, reshape: None, format: 0, optional: false }
    }

    fn model() -> Signature {
        Signature {
            inputs: vec![spec("x", &[-1, 2]), spec("n", &[-1])],
            outputs: vec![spec("score", &[-1, 1]), spec("label", &[-1])],
            optional: vec![spec("t", &[1])],
        }
    }

    #[test]
    fn outputs_that_are_not_declared_are_not_served_and_scalars_get_their_shape() {
        let n = DeclaredTensor { reshape: Some(Vec::new()), ..declared("n", &[-1, 1]) };
        let label = DeclaredTensor { reshape: Some(Vec::new()), ..declared("label", &[-1, 1]) };
        let all = Declarations {
            inputs: vec![declared("x", &[-1, 2]), n],
            outputs: vec![label],
            max_batch_size: 8,
        };
        let Fitted { signature, contract } = all.fit(&model()).unwrap();
        assert_eq!((&signature.inputs[1].shape[..], signature.outputs.len()), (&[-1, 1][..], 1));
        let contract = contract.unwrap();
        let sent = [Tensor::fp32("x", [3, 2], &[0.0; 6]), Tensor::fp32("n", [3, 1], &[0.0; 3])];
        let inputs = contract.inputs(&sent);
        assert_eq!((&inputs[0].shape[..], &inputs[1].shape[..]), (&[3, 2][..], &[3][..]));
        let given = vec![Tensor::fp32("score", [3, 1], &[0.0; 3]), Tensor::fp32("label", [3], &[0.0; 3])];
        let outputs = contract.outputs(given, &signature);
        assert_eq!((outputs.len(), &outputs[0].shape[..]), (1, &[3, 1][..]));
        assert_eq!(
            Declarations::default().fit(&model()),
            Ok(Fitted { signature: model(), contract: None }),
            "nothing is declared"
        );
    }

    #[test]
    fn what_does_not_fit_the_model_is_refused_with_field_value_and_what_was_expected() {
        let inputs = |inputs: Vec<DeclaredTensor>, max_batch_size| {
            Declarations { inputs, outputs: Vec::new(), max_batch_size }.fit(&model()).unwrap_err()
        };
        let wide = inputs(vec![declared("x", &[-1, 3]), declared("n", &[-1])], 0);
        assert_eq!(wide, "input 'x': dims is [-1, 3]; the model has [-1, 2]");
        let batched = inputs(vec![declared("x", &[-1, -1, 2]), declared("n", &[-1])], 4);
        assert_eq!(batched, "input 'x': dims is [-1, 2]; the model has [2] behind the batch");
        let unknown = inputs(vec![declared("z", &[-1, 2])], 0);
        assert_eq!(unknown, "input 'z' is no input of the model; expected 'x', 'n', 't'");
        let missing = inputs(vec![declared("x", &[-1, 2])], 0);
        assert_eq!(missing, "input 'n' of the model is not declared; declare all or none");
        let mut typed = declared("x", &[-1, 2]);
        typed.declared.datatype = Some(Datatype::Int32);
        assert_eq!(inputs(vec![typed], 0), "input 'x': data_type is INT32; the model has FP32");
        let needed = DeclaredTensor { optional: true, ..declared("x", &[-1, 2]) };
        assert!(inputs(vec![needed], 0).contains("optional is true, but the model has no default"));
        let varying = DeclaredTensor { reshape: Some(vec![-1]), ..declared("x", &[-1, 2]) };
        assert!(inputs(vec![varying], 0).contains("sizes that vary, which is not supported"));
        let fixed = Signature { inputs: vec![spec("x", &[1, 2])], ..Signature::default() };
        let refused = Declarations { max_batch_size: 4, ..Declarations::default() }.fit(&fixed).unwrap_err();
        assert!(
            refused.starts_with("max_batch_size is 4, but input 'x' of the model is [1, 2]"),
            "{refused}"
        );
    }
}
