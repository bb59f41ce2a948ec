//! The analysis of graphs against ONNX Runtime: of random graphs, what it calls row-wise answers rows
//! together as it does each alone.

mod elementwise;
mod index;
mod product;
mod reduce;
mod shape;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use slipway_inference::{Data, Datatype, LoadOptions, Model, Tensor};
use slipway_testkit::onnx::{self, Attribute, Graph};

use crate::{environment, request};

/// Version of `ai.onnx` in which graphs are written.
const OPSET: i64 = 17;
/// Graphs, more than half of which load and run.
const CASES: u32 = 700;
/// Sums of exact numbers agree; what functions like exp make of them is rounded.
const TOLERANCE: f64 = 1e-4;

/// Operators with which ONNX Runtime ends the process (SIGFPE, SIGSEGV, SIGABRT) where an input has no
/// elements. Of all that the graphs here have, each was tried with every set of its dimensions empty.
const END_WITHOUT_ELEMENTS: [&str; 7] =
    ["Einsum", "GRU", "InstanceNormalization", "LSTM", "LpNormalization", "OneHot", "TopK"];
/// Operators whose result may have no elements.
const TAKE_ELEMENTS_AWAY: [&str; 4] = ["Slice", "Split", "Compress", "NonZero"];

/// Numbers that add and multiply without rounding, and what is no number.
const FLOATS: [f32; 13] =
    [0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 8.0, -0.25, 1024.0, -512.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Float,
    Int,
    Bool,
    Text,
}

/// A dimension: `count`, times the number of rows where `rows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dim {
    rows: bool,
    count: i64,
}

#[derive(Debug, Clone)]
struct Value {
    name: String,
    kind: Kind,
    dims: Vec<Dim>,
    /// Whether its numbers are free of rounding, so that steps (Floor, Greater, …) of it are, too.
    exact: bool,
}

const fn fixed(count: i64) -> Dim {
    Dim { rows: false, count }
}

const ROWS: Dim = Dim { rows: true, count: 1 };

/// Xorshift (Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 20) % limit.max(1) as u64).unwrap()
    }

    fn one_of<'list, T>(&mut self, list: &'list [T]) -> &'list T {
        &list[self.below(list.len())]
    }
}

/// A graph under construction.
struct Builder {
    graph: Graph,
    values: Vec<Value>,
    inputs: Vec<Value>,
    random: Random,
    count: usize,
    operators: Vec<String>,
}

impl Builder {
    fn new(seed: u64) -> Self {
        let mut builder = Self {
            graph: Graph::default(),
            values: Vec::new(),
            inputs: Vec::new(),
            random: Random(seed | 1),
            count: 0,
            operators: Vec::new(),
        };
        let width = fixed(*builder.random.one_of(&[2, 3, 4]));
        let length = fixed(*builder.random.one_of(&[2, 3]));
        for (name, kind, dims) in [
            ("x", Kind::Float, vec![ROWS, width]),
            ("y", Kind::Float, vec![ROWS, length, width]),
            ("v", Kind::Float, vec![ROWS]),
            ("ids", Kind::Int, vec![ROWS, length]),
            ("words", Kind::Text, vec![ROWS, fixed(1)]),
        ] {
            if builder.random.below(2) == 0 || name == "x" {
                let shape: Vec<Option<i64>> =
                    dims.iter().map(|dim| (!dim.rows).then_some(dim.count)).collect();
                builder.graph.input(name, element(kind), &shape);
                let value = Value { name: name.to_owned(), kind, dims, exact: true };
                builder.inputs.push(value.clone());
                builder.values.push(value);
            }
        }
        builder
    }

    fn fresh(&mut self) -> String {
        self.count += 1;
        format!("t{}", self.count)
    }

    fn pick(&mut self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let found: Vec<&Value> = self.values.iter().filter(|value| wanted(value)).collect();
        if found.is_empty() {
            return None;
        }
        // The newest more often, so that graphs become deep.
        let at = self.random.below(found.len()).max(self.random.below(found.len()));
        Some(found[at].clone())
    }

    fn float(&mut self) -> Option<Value> {
        self.pick(|value| value.kind == Kind::Float)
    }

    fn floats(&mut self, shape: &[i64]) -> String {
        let name = self.fresh();
        let count = usize::try_from(shape.iter().product::<i64>()).unwrap();
        let values: Vec<f32> = (0..count).map(|_| *self.random.one_of(&[0.0, 1.0, -1.0, 0.5, 2.0])).collect();
        self.graph.constant(&onnx::floats(&name, shape, &values));
        name
    }

    fn ints(&mut self, values: &[i64]) -> String {
        let name = self.fresh();
        self.graph.constant(&onnx::ints(&name, &[i64::try_from(values.len()).unwrap()], values));
        name
    }

    fn int(&mut self, value: i64) -> String {
        let name = self.fresh();
        self.graph.constant(&onnx::ints(&name, &[], &[value]));
        name
    }

    fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
        kind: Kind,
        dims: Vec<Dim>,
        exact: bool,
    ) {
        let name = self.fresh();
        self.graph.node(operator, inputs, &[&name], attributes);
        self.operators.push(operator.to_owned());
        if dims.iter().all(|dim| dim.count < 64) && dims.len() < 6 {
            self.values.push(Value { name, kind, dims, exact });
        }
    }

    /// Adds one operator, where something fits it.
    fn step(&mut self) -> Option<()> {
        match self.random.below(46) {
            0..3 => self.unary(),
            3..7 => self.binary(),
            7..9 => self.matmul(),
            9 => self.gemm(),
            10..12 => self.reduce(),
            12 => self.extreme(),
            13..15 => self.transpose(),
            15..19 => self.reshape(),
            19 => self.flatten(),
            20 => self.unsqueeze(),
            21 => self.slice(),
            22..24 => self.concat(),
            24 => self.gather(),
            25 => self.embed(),
            26 => self.expand(),
            27 => self.cumulate(),
            28 => self.softmax(),
            29 => self.quantize(),
            30 => self.table(),
            31 => self.window(),
            32 => self.normal(),
            33 => self.top(),
            34 => self.pad(),
            35 => self.tile(),
            36 => self.choose(),
            37 => self.einsum(),
            38 => self.counted(),
            39 => self.unknown(),
            40 => self.squeeze(),
            41 => self.split(),
            42 => self.words(),
            43 => self.one_hot(),
            44 => self.recurrent(),
            _ => self.triangle(),
        }
    }
}

fn element(kind: Kind) -> i64 {
    match kind {
        Kind::Float => onnx::FLOAT,
        Kind::Int => onnx::INT64,
        Kind::Bool => onnx::BOOL,
        Kind::Text => onnx::STRING,
    }
}

fn broadcast(left: &[Dim], right: &[Dim]) -> Option<Vec<Dim>> {
    let rank = left.len().max(right.len());
    let size = |dims: &[Dim], at: usize| (at + dims.len()).checked_sub(rank).map_or(fixed(1), |at| dims[at]);
    (0..rank)
        .map(|at| match (size(left, at), size(right, at)) {
            (left, right) if left == right || right == fixed(1) => Some(left),
            (left, right) if left == fixed(1) => Some(right),
            // With some numbers of rows they meet.
            (left, right) if left.rows != right.rows => Some(if left.rows { left } else { right }),
            _ => None,
        })
        .collect()
}

fn without(dims: &[Dim], axis: usize, all: bool, keeps: bool) -> Vec<Dim> {
    dims.iter()
        .enumerate()
        .filter_map(|(at, dim)| match all || at == axis {
            true => keeps.then_some(fixed(1)),
            false => Some(*dim),
        })
        .collect()
}

/// A tree of one decision.
fn stump() -> Vec<(&'static str, Attribute)> {
    vec![
        ("n_targets", Attribute::Int(1)),
        ("nodes_treeids", Attribute::Ints(vec![0; 3])),
        ("nodes_nodeids", Attribute::Ints(vec![0, 1, 2])),
        ("nodes_featureids", Attribute::Ints(vec![0; 3])),
        ("nodes_values", Attribute::Floats(vec![0.75, 0.0, 0.0])),
        ("nodes_modes", Attribute::Texts(vec!["BRANCH_LEQ".into(), "LEAF".into(), "LEAF".into()])),
        ("nodes_truenodeids", Attribute::Ints(vec![1, 0, 0])),
        ("nodes_falsenodeids", Attribute::Ints(vec![2, 0, 0])),
        ("target_treeids", Attribute::Ints(vec![0; 2])),
        ("target_nodeids", Attribute::Ints(vec![1, 2])),
        ("target_ids", Attribute::Ints(vec![0; 2])),
        ("target_weights", Attribute::Floats(vec![1.0, 4.0])),
    ]
}

/// A random graph, and what it takes.
struct Made {
    bytes: Vec<u8>,
    inputs: Vec<Value>,
    operators: Vec<String>,
}

fn make(seed: u64) -> Option<Made> {
    let mut builder = Builder::new(seed);
    let steps = 1 + builder.random.below(8);
    let mut added = 0;
    for _ in 0..6 * steps {
        if builder.step().is_some() {
            added += 1;
        }
        if added == steps {
            break;
        }
    }
    // Some operators end the process where their input has no elements, and part of a single row may have
    // none: serving tries such a model in a process of its own, and refuses it.
    let has = |names: &[&str]| builder.operators.iter().any(|operator| names.contains(&operator.as_str()));
    if has(&END_WITHOUT_ELEMENTS) && has(&TAKE_ELEMENTS_AWAY) {
        return None;
    }
    // So does Einsum where its input has another rank, which Squeeze without axes makes of a single row.
    if has(&["Einsum"]) && has(&["Squeeze"]) {
        return None;
    }
    // The newest that may have the batch first.
    let given: Vec<String> = builder.inputs.iter().map(|value| value.name.clone()).collect();
    let result = builder
        .values
        .iter()
        .rev()
        .find(|value| !given.contains(&value.name) && value.dims.first().is_some_and(|dim| dim.rows))?;
    let result = result.clone();
    builder.graph.output(&result.name, element(result.kind));
    let operators = builder.operators;
    Some(Made { bytes: builder.graph.model(OPSET), inputs: builder.inputs, operators })
}

/// Random inputs with `rows` rows.
fn inputs(values: &[Value], rows: i64, random: &mut Random) -> Vec<Tensor> {
    let extreme = random.below(2) == 0;
    let mut tensors = Vec::new();
    for value in values {
        let shape: Vec<i64> =
            value.dims.iter().map(|dim| if dim.rows { rows * dim.count } else { dim.count }).collect();
        let count = usize::try_from(shape.iter().product::<i64>()).unwrap();
        tensors.push(match value.kind {
            Kind::Text => Tensor::strings(
                &value.name,
                shape,
                (0..count).map(|_| (*random.one_of(&["a", "b", "", "ß"])).to_owned()).collect(),
            ),
            Kind::Int => {
                let bytes =
                    (0..count).flat_map(|_| i64::try_from(random.below(4)).unwrap().to_le_bytes()).collect();
                Tensor::raw(&value.name, Datatype::Int64, shape, Vec::<u8>::from_iter::<Vec<u8>>(bytes))
            }
            _ => {
                let kinds = if extreme { &FLOATS[..] } else { &FLOATS[..10] };
                let numbers: Vec<f32> = (0..count).map(|_| *random.one_of(kinds)).collect();
                Tensor::fp32(&value.name, shape, &numbers)
            }
        });
    }
    tensors
}

fn row(tensor: &Tensor, at: usize) -> Tensor {
    let rows = usize::try_from(tensor.shape[0]).unwrap();
    let mut shape = tensor.shape.clone();
    shape[0] = 1;
    let data = match &tensor.data {
        Data::Raw(bytes) => {
            let each = bytes.len() / rows;
            Data::Raw(bytes.slice(at * each..(at + 1) * each))
        }
        Data::Strings(texts) => {
            let each = texts.len() / rows;
            Data::Strings(texts[at * each..(at + 1) * each].to_vec())
        }
        Data::Octets(elements) => {
            let each = elements.len() / rows;
            Data::of_octets(elements[at * each..(at + 1) * each].to_vec())
        }
    };
    Tensor { name: tensor.name.clone(), datatype: tensor.datatype, shape, data }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let Data::Raw(bytes) = &tensor.data else { return Vec::new() };
    match tensor.datatype {
        Datatype::Fp32 => {
            bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk).into()).collect()
        }
        Datatype::Int64 => {
            bytes.as_chunks::<8>().0.iter().map(|chunk| i64::from_le_bytes(*chunk) as f64).collect()
        }
        _ => bytes.iter().map(|byte| f64::from(*byte)).collect(),
    }
}

fn agree(left: &Tensor, right: &Tensor) -> bool {
    if left.shape != right.shape || left.datatype != right.datatype {
        return false;
    }
    if let (Data::Strings(left), Data::Strings(right)) = (&left.data, &right.data) {
        return left == right;
    }
    let (left, right) = (numbers(left), numbers(right));
    left.len() == right.len()
        && left.iter().zip(&right).all(|(left, right)| {
            left.is_nan() && right.is_nan()
                || left == right
                || (left - right).abs() <= TOLERANCE * left.abs().max(right.abs()).max(1.0)
        })
}

fn load(bytes: &[u8]) -> Option<Model> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, bytes).unwrap();
    Model::load(&environment(), &path, LoadOptions::default()).ok()
}

/// Whether rows together are answered as each alone; `None` where some do not run.
async fn rows_agree(model: &Model, values: &[Value], seed: u64) -> Option<bool> {
    let mut random = Random(seed | 1);
    let together = inputs(values, 4, &mut random);
    let mut alone = Vec::new();
    for at in 0..4 {
        let inputs: Vec<Tensor> = together.iter().map(|tensor| row(tensor, at)).collect();
        alone.push(model.infer(request(inputs)).await.ok()?.outputs);
    }
    // A run that fails is repeated request by request, so nothing is answered wrongly.
    let together = model.infer(request(together)).await.ok()?;
    Some(together.outputs.iter().enumerate().all(|(output, together)| {
        together.shape.first() == Some(&4)
            && alone.iter().enumerate().all(|(at, alone)| agree(&row(together, at), &alone[output]))
    }))
}

#[test]
fn whatever_is_called_row_wise_answers_rows_together_as_each_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (row_wise, refused, interacting) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let proven: RefCell<BTreeMap<String, usize>> = RefCell::default();
    let count = |counted: &Cell<usize>| counted.set(counted.get() + 1);
    let mut runner = TestRunner::new(ProptestConfig { cases: CASES, ..ProptestConfig::default() });
    let last = Path::new(env!("CARGO_TARGET_TMPDIR")).join("row-wise-seed");
    let outcome = runner.run(&any::<u64>(), |seed| {
        // Where ONNX Runtime ends the process, this is all that says why.
        std::fs::write(&last, seed.to_string()).unwrap();
        let Some(made) = make(seed) else { return Ok(()) };
        let graph = slipway_onnx_graph::read(made.bytes.as_slice(), made.bytes.len() as u64)
            .map_err(|fault| TestCaseError::fail(fault.to_string()))?;
        let verdict = slipway_onnx_graph::row_wise::check(&graph);
        let Some(model) = load(&made.bytes) else { return Ok(()) };
        for round in 0..3 {
            let Some(agreed) = runtime.block_on(rows_agree(&model, &made.inputs, seed ^ round)) else {
                continue;
            };
            match &verdict {
                Ok(()) => {
                    count(&row_wise);
                    for operator in &made.operators {
                        *proven.borrow_mut().entry(operator.clone()).or_default() += 1;
                    }
                    prop_assert!(agreed, "seed {seed}: {:?} is called row-wise", made.operators);
                }
                Err(_) if agreed => count(&refused),
                Err(_) => count(&interacting),
            }
        }
        Ok(())
    });
    outcome.unwrap();
    let (row_wise, refused, interacting) = (row_wise.get(), refused.get(), interacting.get());
    let proven = proven.into_inner();
    println!(
        "{row_wise} row-wise, {interacting} interacting, {refused} refused though they agree; proven: \
         {proven:?}"
    );
    // Neither kind may be missing, or the test would show nothing.
    assert!(row_wise > 100 && interacting > 100, "{row_wise} row-wise, {interacting} interacting");
    assert!(proven.len() > 30, "{proven:?}");
}
