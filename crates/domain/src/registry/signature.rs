//! A logged signature against the inputs of the model's graph.
//!
//! A signature describes the data frame or array that the user trained on, often in double precision, while
//! the graph takes single; clients convert. So widths and kinds have to agree, precisions need not.

use serde::Deserialize;

use crate::Invalid;

/// An input of a graph as the Open Inference Protocol names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name.
    pub name: String,
    /// E.g. `FP32`.
    pub datatype: String,
    /// -1 for a dimension that varies.
    pub shape: Vec<i64>,
}

/// What kind of values an input takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueKind {
    /// Numbers of any precision, and booleans.
    Number,
    /// Strings or bytes.
    Text,
    /// Anything else, which is compared with nothing.
    Other,
}

/// One input of a signature: a column, or a tensor where it has a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureInput {
    /// Absent for a single unnamed tensor.
    pub name: Option<String>,
    /// Kind of its values.
    pub kind: ValueKind,
    /// Absent for a column.
    pub shape: Option<Vec<i64>>,
}

/// The inputs of a logged signature.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signature {
    /// In order.
    pub inputs: Vec<SignatureInput>,
}

#[derive(Deserialize)]
struct RawInput {
    #[serde(rename = "type")]
    type_name: String,
    name: Option<String>,
    #[serde(rename = "tensor-spec")]
    tensor: Option<RawTensor>,
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<i64>,
}

impl Signature {
    /// Reads the `signature` of an `MLmodel` file, given as JSON: `{"inputs": "[…]", …}`, where `inputs` is
    /// JSON in a string or JSON itself.
    pub fn parse(json: &str) -> Result<Self, Invalid> {
        let bad = |why: String| Invalid::new("signature", why);
        let outer: serde_json::Value =
            serde_json::from_str(json).map_err(|error| bad(format!("not JSON: {error}")))?;
        let inputs: Vec<RawInput> = match outer.get("inputs") {
            None | Some(serde_json::Value::Null) => return Ok(Self::default()),
            Some(serde_json::Value::String(text)) => serde_json::from_str(text),
            Some(value) => Vec::deserialize(value),
        }
        .map_err(|error| bad(format!("inputs are not a list of columns or tensors: {error}")))?;
        Ok(Self { inputs: inputs.into_iter().map(SignatureInput::from).collect() })
    }
}

impl From<RawInput> for SignatureInput {
    fn from(raw: RawInput) -> Self {
        let type_name = raw.tensor.as_ref().map_or(raw.type_name.as_str(), |tensor| tensor.dtype.as_str());
        Self { name: raw.name, kind: signature_kind(type_name), shape: raw.tensor.map(|tensor| tensor.shape) }
    }
}

fn signature_kind(type_name: &str) -> ValueKind {
    let numbers = ["int", "uint", "float", "double", "long", "bool"];
    let texts = ["str", "object", "bytes", "binary", "<U", "|S"];
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| type_name.starts_with(prefix));
    if starts(&numbers) {
        ValueKind::Number
    } else if starts(&texts) {
        ValueKind::Text
    } else {
        ValueKind::Other
    }
}

fn graph_kind(datatype: &str) -> ValueKind {
    match datatype {
        "BYTES" => ValueKind::Text,
        "BOOL" => ValueKind::Number,
        _ if datatype.starts_with("FP") || datatype.starts_with("INT") || datatype.starts_with("UINT") => {
            ValueKind::Number
        }
        "BF16" => ValueKind::Number,
        _ => ValueKind::Other,
    }
}

/// Checks that data of this signature can be fed to a graph with these inputs. An empty signature promises
/// nothing and fits.
pub fn check_signature(signature: &Signature, graph: &[TensorSpec]) -> Result<(), Invalid> {
    let inputs = &signature.inputs;
    if inputs.is_empty() {
        return Ok(());
    }
    if let [only] = graph {
        return if inputs.iter().all(|input| input.shape.is_none()) {
            check_columns(inputs, only)
        } else if let [input] = inputs.as_slice() {
            check_tensor(input, only)
        } else {
            Err(bad(format!("{} inputs, while the model has one, '{}'", inputs.len(), only.name)))
        };
    }
    for (index, input) in inputs.iter().enumerate() {
        let name = input.name.as_deref().unwrap_or_default();
        let tensor = graph.iter().find(|tensor| tensor.name == name).ok_or_else(|| {
            let known: Vec<&str> = graph.iter().map(|tensor| tensor.name.as_str()).collect();
            bad(format!("input {index}, '{name}', is none of the model's inputs {known:?}"))
        })?;
        check_tensor(input, tensor)?;
    }
    let named = |tensor: &&TensorSpec| inputs.iter().any(|input| input.name.as_deref() == Some(&tensor.name));
    match graph.iter().find(|tensor| !named(tensor)) {
        None => Ok(()),
        Some(tensor) => Err(bad(format!("the model's input '{}' is not in it", tensor.name))),
    }
}

fn bad(why: String) -> Invalid {
    Invalid::new("signature", why)
}

/// Columns of a data frame become the rows of one tensor.
fn check_columns(columns: &[SignatureInput], tensor: &TensorSpec) -> Result<(), Invalid> {
    let width = tensor.shape.last().copied().filter(|width| tensor.shape.len() > 1 && *width >= 0);
    let width = width.and_then(|width| usize::try_from(width).ok());
    if width.is_some_and(|width| width != columns.len()) {
        return Err(bad(format!(
            "{} columns, while the model's input '{}' has shape {:?}",
            columns.len(),
            tensor.name,
            tensor.shape
        )));
    }
    columns.iter().try_for_each(|column| check_kind(column, tensor))
}

fn check_tensor(input: &SignatureInput, tensor: &TensorSpec) -> Result<(), Invalid> {
    check_kind(input, tensor)?;
    let Some(shape) = &input.shape else { return Ok(()) };
    let fits = |(left, right): (&i64, &i64)| *left < 0 || *right < 0 || left == right;
    if shape.len() == tensor.shape.len() && shape.iter().zip(&tensor.shape).all(fits) {
        return Ok(());
    }
    Err(bad(format!(
        "shape {shape:?}, while the model's input '{}' has shape {:?}",
        tensor.name, tensor.shape
    )))
}

fn check_kind(input: &SignatureInput, tensor: &TensorSpec) -> Result<(), Invalid> {
    let (logged, graph) = (input.kind, graph_kind(&tensor.datatype));
    if logged == graph || logged == ValueKind::Other || graph == ValueKind::Other {
        return Ok(());
    }
    let name = input.name.as_deref().unwrap_or(&tensor.name);
    Err(bad(format!(
        "'{name}' holds {logged:?}, while the model's input '{}' is {}",
        tensor.name, tensor.datatype
    )))
}
