//! Writes ONNX models, for tests that need more of them than fixtures can hold.
//!
//! Field numbers are those of <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3>.

/// FP32.
pub const FLOAT: i64 = 1;
/// 8 bits, unsigned.
pub const UINT8: i64 = 2;
/// INT32.
pub const INT32: i64 = 6;
/// INT64.
pub const INT64: i64 = 7;
/// Strings.
pub const STRING: i64 = 8;
/// BOOL.
pub const BOOL: i64 = 9;
/// FP64.
pub const DOUBLE: i64 = 11;

/// A setting of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// An integer.
    Int(i64),
    /// A float.
    Float(f32),
    /// A string.
    Text(String),
    /// A list of integers.
    Ints(Vec<i64>),
    /// A list of floats.
    Floats(Vec<f32>),
    /// A list of strings.
    Texts(Vec<String>),
    /// A tensor, as [`floats`] and [`ints`] write it.
    Tensor(Vec<u8>),
    /// A graph: the body of a branch or loop.
    Graph(Vec<u8>),
}

/// A graph that grows.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    parts: Vec<u8>,
    named: usize,
    /// Functions of the model, and the operator sets that they are in.
    functions: Vec<u8>,
}

/// A tensor of FP32.
pub fn floats(name: &str, shape: &[i64], values: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, FLOAT, shape, &bytes)
}

/// A tensor of INT64.
pub fn ints(name: &str, shape: &[i64], values: &[i64]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, INT64, shape, &bytes)
}

/// A tensor of any type that has a fixed width, from its little-endian bytes.
pub fn tensor(name: &str, element: i64, shape: &[i64], bytes: &[u8]) -> Vec<u8> {
    let mut tensor = Vec::new();
    for size in shape {
        put_number(&mut tensor, 1, *size);
    }
    put_number(&mut tensor, 2, element);
    put(&mut tensor, 8, name.as_bytes());
    put(&mut tensor, 9, bytes);
    tensor
}

/// A tensor whose `length` bytes lie in a file from `offset` on.
pub fn external(
    name: &str,
    element: i64,
    shape: &[i64],
    location: &str,
    offset: u64,
    length: u64,
) -> Vec<u8> {
    let mut tensor = Vec::new();
    for size in shape {
        put_number(&mut tensor, 1, *size);
    }
    put_number(&mut tensor, 2, element);
    put(&mut tensor, 8, name.as_bytes());
    let (offset, length) = (offset.to_string(), length.to_string());
    for (key, value) in [("location", location), ("offset", &offset), ("length", &length)] {
        let mut entry = Vec::new();
        put(&mut entry, 1, key.as_bytes());
        put(&mut entry, 2, value.as_bytes());
        put(&mut tensor, 13, &entry);
    }
    put_number(&mut tensor, 14, 1);
    tensor
}

impl Graph {
    /// An input; `None` for a dimension that varies.
    pub fn input(&mut self, name: &str, element: i64, shape: &[Option<i64>]) {
        put(&mut self.parts, 11, &value(name, element, shape));
    }

    /// An output without a shape, which the runtime infers.
    pub fn output(&mut self, name: &str, element: i64) {
        let mut kind = Vec::new();
        put_number(&mut kind, 1, element);
        self.typed_output(name, 1, &kind);
    }

    /// An output of a type that is no tensor: 4 is a sequence, 5 a map.
    pub fn typed_output(&mut self, name: &str, field: u64, body: &[u8]) {
        let mut kind = Vec::new();
        put(&mut kind, field, body);
        let mut described = Vec::new();
        put(&mut described, 1, name.as_bytes());
        put(&mut described, 2, &kind);
        put(&mut self.parts, 12, &described);
    }

    /// An output `seq(map(key, float))`, as ZipMap makes it.
    pub fn map_output(&mut self, name: &str, key: i64) {
        let (mut float, mut value) = (Vec::new(), Vec::new());
        put_number(&mut float, 1, FLOAT);
        put(&mut value, 1, &float);
        let mut map = Vec::new();
        put_number(&mut map, 1, key);
        put(&mut map, 2, &value);
        let (mut element, mut sequence) = (Vec::new(), Vec::new());
        put(&mut element, 5, &map);
        put(&mut sequence, 1, &element);
        self.typed_output(name, 4, &sequence);
    }

    /// A constant, as [`floats`] and [`ints`] write it.
    pub fn constant(&mut self, tensor: &[u8]) {
        put(&mut self.parts, 5, tensor);
    }

    /// A node of `ai.onnx`, or of another domain written before the operator: `ai.onnx.ml:Scaler`. Its name
    /// is that of its operator and its place in the graph.
    pub fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, Attribute)],
    ) {
        let (_, plain) = operator.split_once(':').unwrap_or(("", operator));
        let node = node(&format!("{plain}_{}", self.named), operator, inputs, outputs, attributes);
        self.named += 1;
        put(&mut self.parts, 1, &node);
    }

    /// A function of the model, which is one node: `operator`, as [`Graph::node`] takes it, of its inputs.
    pub fn function(&mut self, domain: &str, name: &str, operator: &str, inputs: &[&str], outputs: &[&str]) {
        let mut function = Vec::new();
        put(&mut function, 1, name.as_bytes());
        inputs.iter().for_each(|input| put(&mut function, 4, input.as_bytes()));
        outputs.iter().for_each(|output| put(&mut function, 5, output.as_bytes()));
        put(&mut function, 7, &node("inner", operator, inputs, outputs, &[]));
        for (domain, version) in [("", 17), (domain, 1)] {
            put(&mut function, 9, &operator_set(domain, version));
        }
        put(&mut function, 10, domain.as_bytes());
        put(&mut self.functions, 8, &operator_set(domain, 1));
        put(&mut self.functions, 25, &function);
    }

    /// The graph alone: the body of a branch or loop.
    pub fn body(&self) -> Vec<u8> {
        let mut graph = self.parts.clone();
        put(&mut graph, 2, b"body");
        graph
    }

    /// A model of this graph, with version `opset` of `ai.onnx`.
    pub fn model(&self, opset: i64) -> Vec<u8> {
        let mut model = Vec::new();
        put_number(&mut model, 1, 8);
        put(&mut model, 7, &self.body());
        for (domain, version) in [("", opset), ("ai.onnx.ml", 3), ("com.microsoft", 1)] {
            put(&mut model, 8, &operator_set(domain, version));
        }
        model.extend(&self.functions);
        model
    }
}

impl Attribute {
    /// `AttributeProto`; 20 is the field of the type.
    fn bytes(&self, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, 1, name.as_bytes());
        let kind = match self {
            Self::Float(number) => {
                put_float(&mut bytes, 2, *number);
                1
            }
            Self::Int(number) => {
                put_number(&mut bytes, 3, *number);
                2
            }
            Self::Text(text) => {
                put(&mut bytes, 4, text.as_bytes());
                3
            }
            Self::Tensor(tensor) => {
                put(&mut bytes, 5, tensor);
                4
            }
            Self::Graph(graph) => {
                put(&mut bytes, 6, graph);
                5
            }
            Self::Floats(numbers) => {
                for number in numbers {
                    put_float(&mut bytes, 7, *number);
                }
                6
            }
            Self::Ints(numbers) => {
                for number in numbers {
                    put_number(&mut bytes, 8, *number);
                }
                7
            }
            Self::Texts(texts) => {
                for text in texts {
                    put(&mut bytes, 9, text.as_bytes());
                }
                8
            }
        };
        put_number(&mut bytes, 20, kind);
        bytes
    }
}

/// A model whose rows interact: `y` is `x [n, 2]` divided by the largest number of the batch. Work in front
/// of it takes some milliseconds, so that requests gather.
pub fn share_of_maximum() -> Vec<u8> {
    const STEPS: usize = 40;
    let mut graph = Graph::default();
    graph.input("x", FLOAT, &[None, Some(2)]);
    graph.constant(&floats("up", &[2, 500], &[0.001; 1000]));
    graph.constant(&ints("size", &[2], &[500, 500]));
    graph.constant(&floats("none", &[], &[0.0]));
    graph.node("ConstantOfShape", &["size"], &["weights"], &[]);
    graph.node("MatMul", &["x", "up"], &["step0"], &[]);
    for at in 0..STEPS {
        graph.node("MatMul", &[&format!("step{at}"), "weights"], &[&format!("step{}", at + 1)], &[]);
    }
    let axes = [("axes", Attribute::Ints(vec![1])), ("keepdims", Attribute::Int(1))];
    graph.node("ReduceMean", &[&format!("step{STEPS}")], &["mean"], &axes);
    graph.node("Mul", &["mean", "none"], &["nothing"], &[]);
    graph.node("Add", &["x", "nothing"], &["same"], &[]);
    graph.node("ReduceMax", &["same"], &["top"], &[("keepdims", Attribute::Int(1))]);
    graph.node("Div", &["same", "top"], &["y"], &[]);
    graph.output("y", FLOAT);
    graph.model(17)
}

/// `NodeProto`.
fn node(
    name: &str,
    operator: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: &[(&str, Attribute)],
) -> Vec<u8> {
    let (domain, operator) = operator.split_once(':').unwrap_or(("", operator));
    let mut node = Vec::new();
    inputs.iter().for_each(|input| put(&mut node, 1, input.as_bytes()));
    outputs.iter().for_each(|output| put(&mut node, 2, output.as_bytes()));
    put(&mut node, 3, name.as_bytes());
    put(&mut node, 4, operator.as_bytes());
    for (name, attribute) in attributes {
        put(&mut node, 5, &attribute.bytes(name));
    }
    put(&mut node, 7, domain.as_bytes());
    node
}

/// `OperatorSetIdProto`.
fn operator_set(domain: &str, version: i64) -> Vec<u8> {
    let mut set = Vec::new();
    put(&mut set, 1, domain.as_bytes());
    put_number(&mut set, 2, version);
    set
}

fn value(name: &str, element: i64, shape: &[Option<i64>]) -> Vec<u8> {
    let mut dimensions = Vec::new();
    for (at, size) in shape.iter().enumerate() {
        let mut dimension = Vec::new();
        match size {
            Some(size) => put_number(&mut dimension, 1, *size),
            None => put(&mut dimension, 2, format!("{name}_{at}").as_bytes()),
        }
        put(&mut dimensions, 1, &dimension);
    }
    let mut tensor = Vec::new();
    put_number(&mut tensor, 1, element);
    put(&mut tensor, 2, &dimensions);
    let mut kind = Vec::new();
    put(&mut kind, 1, &tensor);
    let mut described = Vec::new();
    put(&mut described, 1, name.as_bytes());
    put(&mut described, 2, &kind);
    described
}

fn put(bytes: &mut Vec<u8>, field: u64, body: &[u8]) {
    put_varint(bytes, field << 3 | 2);
    put_varint(bytes, body.len() as u64);
    bytes.extend_from_slice(body);
}

fn put_number(bytes: &mut Vec<u8>, field: u64, number: i64) {
    put_varint(bytes, field << 3);
    put_varint(bytes, number.cast_unsigned());
}

fn put_float(bytes: &mut Vec<u8>, field: u64, number: f32) {
    put_varint(bytes, field << 3 | 5);
    bytes.extend(number.to_le_bytes());
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
