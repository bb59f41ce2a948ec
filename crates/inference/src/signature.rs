//! What a model takes and gives, and whether inputs fit.

use ort::session::Session;
use ort::value::{Outlet, ValueType};

use crate::tensor::shape_elements;
use crate::{Data, Datatype, Error, Tensor, datatype};

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the model.
    pub name: String,
    /// Type of its elements.
    pub datatype: Datatype,
    /// -1 for a dimension that varies. Empty: a scalar, or the model does not say.
    pub shape: Vec<i64>,
}

/// Inputs and outputs of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signature {
    /// Those that every request has, in the model's order.
    pub inputs: Vec<TensorSpec>,
    /// In the model's order.
    pub outputs: Vec<TensorSpec>,
    /// Inputs that have a default in the model (graph inputs that are initialisers, too), which requests may
    /// override.
    pub optional: Vec<TensorSpec>,
}

impl Signature {
    pub(crate) fn of(session: &Session) -> Result<Self, Error> {
        let specs = |side: &str, outlets: &[Outlet]| -> Result<Vec<TensorSpec>, Error> {
            outlets.iter().map(|outlet| spec(side, outlet)).collect()
        };
        // Initialisers of types that requests cannot carry keep their values.
        let optional = session.overridable_initializers();
        let optional =
            optional.iter().filter_map(|input| spec_of("input", input.name(), input.dtype()).ok()).collect();
        let (inputs, outputs) = (specs("input", session.inputs())?, specs("output", session.outputs())?);
        Ok(Self { inputs, outputs, optional })
    }

    /// The input of a name, whether requests have to have it or not.
    pub fn input(&self, name: &str) -> Option<&TensorSpec> {
        self.inputs.iter().chain(&self.optional).find(|spec| spec.name == name)
    }

    /// Checks names, types, shapes and lengths of a request's inputs.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] names the first input at fault and what was expected.
    pub fn check(&self, inputs: &[Tensor]) -> Result<(), Error> {
        for (index, tensor) in inputs.iter().enumerate() {
            let Some(spec) = self.input(&tensor.name) else {
                let known = names(self.inputs.iter().chain(&self.optional));
                return Err(Error::invalid(
                    &tensor.name,
                    format!("unknown input '{}'; the model takes {known}", tensor.name),
                ));
            };
            if inputs[..index].iter().any(|earlier| earlier.name == tensor.name) {
                return Err(Error::invalid(&tensor.name, format!("input '{}' is given twice", tensor.name)));
            }
            spec.check(tensor)?;
        }
        match self.inputs.iter().find(|spec| !inputs.iter().any(|tensor| tensor.name == spec.name)) {
            Some(missing) => Err(Error::invalid(
                &missing.name,
                format!("missing input '{}' ({} {:?})", missing.name, missing.datatype, missing.shape),
            )),
            None => Ok(()),
        }
    }

    /// Inputs of zeros (or empty strings), 1 for each dimension that varies.
    pub fn zeros(&self) -> Vec<Tensor> {
        self.inputs.iter().map(TensorSpec::zeros).collect()
    }
}

impl TensorSpec {
    fn check(&self, tensor: &Tensor) -> Result<(), Error> {
        let refuse =
            |message: String| Err(Error::invalid(&self.name, format!("input '{}' {message}", self.name)));
        if tensor.datatype != self.datatype {
            return refuse(format!("has datatype {}; the model expects {}", tensor.datatype, self.datatype));
        }
        let fits = |(given, wanted): (&i64, &i64)| *wanted < 0 || given == wanted;
        let same_rank = tensor.shape.len() == self.shape.len();
        let any_shape = self.shape.is_empty();
        let fitting = any_shape || (same_rank && tensor.shape.iter().zip(&self.shape).all(fits));
        if !fitting {
            return refuse(format!("has shape {:?}; the model expects {:?}", tensor.shape, self.shape));
        }
        let Some(elements) = shape_elements(&tensor.shape) else {
            return refuse(format!("has the impossible shape {:?}", tensor.shape));
        };
        match &tensor.data {
            Data::Strings(_) | Data::Octets(_) if self.datatype == Datatype::Bytes => {
                if tensor.elements() != elements {
                    return refuse(format!(
                        "has shape {:?}, which holds {elements} elements; {} came",
                        tensor.shape,
                        tensor.elements()
                    ));
                }
                match tensor.data.octets().position(|element| element.contains(&0)) {
                    Some(at) => refuse(format!("has a NUL in element {at}; ONNX strings cannot hold it")),
                    None => Ok(()),
                }
            }
            Data::Raw(bytes) => {
                let expected = self.datatype.element_bytes().and_then(|each| each.checked_mul(elements));
                if expected != Some(bytes.len()) {
                    return refuse(format!(
                        "has shape {:?}, which holds {} bytes of {}; {} came",
                        tensor.shape,
                        expected.unwrap_or(0),
                        self.datatype,
                        bytes.len()
                    ));
                }
                if self.datatype == Datatype::Bool && bytes.iter().any(|byte| *byte > 1) {
                    return refuse("has a BOOL that is neither 0 nor 1".to_owned());
                }
                Ok(())
            }
            Data::Strings(_) | Data::Octets(_) => {
                refuse(format!("holds strings; the model expects {}", self.datatype))
            }
        }
    }

    fn zeros(&self) -> Tensor {
        self.zeros_of(
            self.shape.iter().map(|dimension| if *dimension < 0 { 1 } else { *dimension }).collect(),
        )
    }

    /// Zeros, or empty strings, of a shape that fits.
    pub(crate) fn zeros_of(&self, shape: Vec<i64>) -> Tensor {
        let elements = shape_elements(&shape).unwrap_or(0);
        match self.datatype.element_bytes() {
            Some(each) => Tensor::raw(&self.name, self.datatype, shape, vec![0; each * elements]),
            None => Tensor::strings(&self.name, shape, vec![String::new(); elements]),
        }
    }
}

fn spec(side: &str, outlet: &Outlet) -> Result<TensorSpec, Error> {
    spec_of(side, outlet.name(), outlet.dtype())
}

fn spec_of(side: &str, name: &str, dtype: &ValueType) -> Result<TensorSpec, Error> {
    match dtype {
        ValueType::Tensor { ty, shape, .. } => {
            let datatype = datatype::from_onnx(*ty).ok_or_else(|| {
                Error::Load(format!(
                    "{side} '{name}' has the element type {ty}, which the protocol has no name for"
                ))
            })?;
            Ok(TensorSpec { name: name.to_owned(), datatype, shape: shape.to_vec() })
        }
        other => Err(Error::Load(format!(
            "{side} '{name}' is {other}, and the inference protocol carries tensors only; export the model \
             with tensors in its place"
        ))),
    }
}

fn names<'specs>(specs: impl Iterator<Item = &'specs TensorSpec>) -> String {
    let quoted: Vec<String> = specs.map(|spec| format!("'{}'", spec.name)).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        Signature {
            inputs: vec![TensorSpec { name: "x".into(), datatype: Datatype::Fp32, shape: vec![-1, 2] }],
            outputs: Vec::new(),
            optional: vec![TensorSpec { name: "t".into(), datatype: Datatype::Fp32, shape: vec![1] }],
        }
    }

    fn message(inputs: &[Tensor]) -> String {
        signature().check(inputs).unwrap_err().to_string()
    }

    #[test]
    fn a_complaint_names_the_input_and_what_was_expected() {
        assert!(signature().check(&[Tensor::fp32("x", [3, 2], &[0.0; 6])]).is_ok());
        assert_eq!(message(&[]), "missing input 'x' (FP32 [-1, 2])");
        let unknown = [Tensor::fp32("x", [1, 2], &[0.0; 2]), Tensor::fp32("y", [1], &[0.0])];
        assert_eq!(message(&unknown), "unknown input 'y'; the model takes 'x', 't'");
        let x = Tensor::fp32("x", [1, 2], &[0.0; 2]);
        assert!(signature().check(&[Tensor::fp32("t", [1], &[0.0]), x.clone()]).is_ok());
        let long = message(&[x, Tensor::fp32("t", [2], &[0.0; 2])]);
        assert_eq!(long, "input 't' has shape [2]; the model expects [1]");
        let wide = message(&[Tensor::fp32("x", [1, 3], &[0.0; 3])]);
        assert_eq!(wide, "input 'x' has shape [1, 3]; the model expects [-1, 2]");
        let short = message(&[Tensor::fp32("x", [2, 2], &[0.0; 3])]);
        assert_eq!(short, "input 'x' has shape [2, 2], which holds 16 bytes of FP32; 12 came");
        let other = message(&[Tensor::raw("x", Datatype::Fp64, [1, 2], vec![0; 16])]);
        assert_eq!(other, "input 'x' has datatype FP64; the model expects FP32");
        let twice = [Tensor::fp32("x", [1, 2], &[0.0; 2]), Tensor::fp32("x", [1, 2], &[0.0; 2])];
        assert_eq!(message(&twice), "input 'x' is given twice");
        assert!(message(&[Tensor::fp32("x", [-1, 2], &[])]).contains("impossible shape"));
        assert!(message(&[Tensor::fp32("x", [i64::MAX, 2], &[])]).contains("impossible shape"));
    }
}
