//! The analysis of graphs against ONNX Runtime: of random graphs, what it calls row-wise answers rows together as it does each alone.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

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

    fn unary(&mut self) -> Option<()> {
        let value = self.float()?;
        let steps = ["Floor", "Ceil", "Round", "Sign", "Relu", "Abs", "Neg", "Identity", "LeakyRelu", "Clip"];
        let smooth = ["Sigmoid", "Tanh", "Exp", "Sqrt", "Erf", "Softplus", "HardSigmoid", "Elu"];
        let operator = if value.exact && self.random.below(2) == 0 {
            *self.random.one_of(&steps)
        } else {
            *self.random.one_of(&smooth)
        };
        let exact = value.exact && steps.contains(&operator) && operator != "LeakyRelu";
        self.node(operator, &[&value.name], &[], Kind::Float, value.dims, exact);
        Some(())
    }

    /// With a value of the same shape, a constant that broadcasts, or the same value turned.
    fn binary(&mut self) -> Option<()> {
        let value = self.float()?;
        let operator = *self.random.one_of(&["Add", "Sub", "Mul", "Max", "Min"]);
        let dims = value.dims.clone();
        let (other, dims) = match self.random.below(5) {
            0 => {
                let other = self.float()?;
                let dims = broadcast(&value.dims, &other.dims)?;
                (other.name, dims)
            }
            1 => (self.floats(&[]), dims),
            2 => {
                let last = dims.last().filter(|dim| !dim.rows).map_or(3, |dim| dim.count);
                let shape = [last];
                let dims = broadcast(&dims, &[fixed(last)]).unwrap_or(dims);
                (self.floats(&shape), dims)
            }
            3 => {
                let shape = [*self.random.one_of(&[1, 2]), 1, 1];
                let dims = broadcast(&dims, &shape.map(fixed))?;
                (self.floats(&shape), dims)
            }
            _ => {
                let shape: Vec<i64> = dims
                    .iter()
                    .map(|dim| if dim.rows || self.random.below(2) == 0 { 1 } else { dim.count })
                    .collect();
                (self.floats(&shape), dims)
            }
        };
        let mut names = [value.name.as_str(), other.as_str()];
        if self.random.below(2) == 0 {
            names.reverse();
        }
        self.node(operator, &names, &[], Kind::Float, dims, value.exact);
        Some(())
    }

    fn matmul(&mut self) -> Option<()> {
        let value = self.float()?;
        let (dims, rank) = (value.dims.clone(), value.dims.len());
        match self.random.below(3) {
            0 => {
                let last = dims.last().filter(|dim| !dim.rows)?.count;
                let weights = self.floats(&[last, 2]);
                let mut sizes = dims;
                sizes[rank - 1] = fixed(2);
                self.node("MatMul", &[&value.name, &weights], &[], Kind::Float, sizes, value.exact);
            }
            1 if rank >= 2 => {
                let inner = dims[rank - 2];
                let weights = self.floats(&[2, if inner.rows { 3 } else { inner.count }]);
                let mut sizes = dims;
                sizes[rank - 2] = fixed(2);
                self.node("MatMul", &[&weights, &value.name], &[], Kind::Float, sizes, value.exact);
            }
            _ => {
                let other = self.pick(|other| {
                    other.kind == Kind::Float && other.dims.len() >= 2 && rank >= 2 && {
                        let inner = other.dims[other.dims.len() - 2];
                        dims.last() == Some(&inner)
                    }
                })?;
                let mut sizes = dims;
                sizes[rank - 1] = *other.dims.last()?;
                self.node("MatMul", &[&value.name, &other.name], &[], Kind::Float, sizes, value.exact);
            }
        }
        Some(())
    }

    fn gemm(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind == Kind::Float && value.dims.len() == 2)?;
        let turned = self.random.below(3) == 0;
        let (rows, inner) =
            if turned { (value.dims[1], value.dims[0]) } else { (value.dims[0], value.dims[1]) };
        let weights = self.floats(&[if inner.rows { 3 } else { inner.count }, 3]);
        let shape = *self.random.one_of(&[&[3_i64][..], &[1, 3], &[1], &[2, 3], &[2, 1]]);
        let bias = self.floats(shape);
        let attributes = [("transA", Attribute::Int(turned.into()))];
        self.node(
            "Gemm",
            &[&value.name, &weights, &bias],
            &attributes,
            Kind::Float,
            vec![rows, fixed(3)],
            value.exact,
        );
        Some(())
    }

    fn reduce(&mut self) -> Option<()> {
        let value = self.float()?;
        let operator =
            *self.random.one_of(&["ReduceMax", "ReduceMin", "ReduceL1", "ReduceMean", "ReduceSumSquare"]);
        let keeps = self.random.below(2) == 0;
        let mut attributes = vec![("keepdims", Attribute::Int(keeps.into()))];
        let axis = self.random.below(value.dims.len().max(1));
        let all = self.random.below(6) == 0;
        if !all {
            attributes.push(("axes", Attribute::Ints(vec![i64::try_from(axis).unwrap()])));
        }
        let dims = without(&value.dims, axis, all, keeps);
        self.node(
            operator,
            &[&value.name],
            &attributes,
            Kind::Float,
            dims,
            value.exact && operator != "ReduceMean",
        );
        Some(())
    }

    fn extreme(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind == Kind::Float && value.exact && !value.dims.is_empty())?;
        let axis = self.random.below(value.dims.len());
        let keeps = self.random.below(2) == 0;
        let attributes = [
            ("axis", Attribute::Int(i64::try_from(axis).unwrap())),
            ("keepdims", Attribute::Int(keeps.into())),
        ];
        let dims = without(&value.dims, axis, false, keeps);
        self.node("ArgMax", &[&value.name], &attributes, Kind::Int, dims, true);
        Some(())
    }

    fn transpose(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind != Kind::Text && value.dims.len() >= 2)?;
        let mut order: Vec<usize> = (0..value.dims.len()).collect();
        for at in 0..order.len() {
            let with = self.random.below(order.len());
            order.swap(at, with);
        }
        let dims = order.iter().map(|axis| value.dims[*axis]).collect();
        let order = order.into_iter().map(|axis| i64::try_from(axis).unwrap()).collect();
        self.node(
            "Transpose",
            &[&value.name],
            &[("perm", Attribute::Ints(order))],
            value.kind,
            dims,
            value.exact,
        );
        Some(())
    }

    /// To shapes that keep rows apart, and to some that do not.
    fn reshape(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind != Kind::Bool && !value.dims.is_empty())?;
        let total: i64 = value.dims.iter().map(|dim| dim.count).product();
        let has_rows = value.dims.iter().any(|dim| dim.rows);
        let flat = Dim { rows: has_rows, count: total };
        let first = value.dims[0];
        let rest = Dim { rows: has_rows && !first.rows, count: total / first.count.max(1) };
        let (name, dims) = match self.random.below(6) {
            0 => (self.ints(&[0, -1]), vec![first, rest]),
            1 => (self.ints(&[-1]), vec![flat]),
            2 => {
                let width = *self.random.one_of(&[1, 2, 3, 4]);
                let dims = vec![Dim { count: (total / width).max(1), ..flat }, fixed(width)];
                (self.ints(&[-1, width]), dims)
            }
            3 => {
                let width = *self.random.one_of(&[1, 2, 3]);
                let dims = vec![fixed(width), Dim { count: (total / width).max(1), ..flat }];
                (self.ints(&[width, -1]), dims)
            }
            4 => (self.ints(&[-1, 1]), vec![flat, fixed(1)]),
            _ => {
                // As PyTorch writes `x.view(x.size(0), -1)`.
                let (shape, picked, listed) = (self.fresh(), self.fresh(), self.fresh());
                let axis = i64::try_from(self.random.below(value.dims.len())).unwrap();
                let (axis, rest_of) = (self.int(axis), self.ints(&[-1]));
                let wrapped = self.ints(&[0]);
                let row = self.fresh();
                self.graph.node("Shape", &[&value.name], &[&shape], &[]);
                self.graph.node("Gather", &[&shape, &axis], &[&picked], &[("axis", Attribute::Int(0))]);
                self.graph.node("Unsqueeze", &[&picked, &wrapped], &[&row], &[]);
                self.graph.node("Concat", &[&row, &rest_of], &[&listed], &[("axis", Attribute::Int(0))]);
                (listed, vec![first, rest])
            }
        };
        self.node("Reshape", &[&value.name, &name], &[], value.kind, dims, value.exact);
        Some(())
    }

    fn flatten(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind == Kind::Float && !value.dims.is_empty())?;
        let axis = self.random.below(value.dims.len() + 1);
        let merged = |dims: &[Dim]| Dim {
            rows: dims.iter().any(|dim| dim.rows),
            count: dims.iter().map(|dim| dim.count).product(),
        };
        let dims = vec![merged(&value.dims[..axis]), merged(&value.dims[axis..])];
        let attributes = [("axis", Attribute::Int(i64::try_from(axis).unwrap()))];
        self.node("Flatten", &[&value.name], &attributes, Kind::Float, dims, value.exact);
        Some(())
    }

    fn unsqueeze(&mut self) -> Option<()> {
        let value = self.pick(|value| value.dims.len() < 4)?;
        let axis = self.random.below(value.dims.len() + 1);
        let axes = self.ints(&[i64::try_from(axis).unwrap()]);
        let mut dims = value.dims;
        dims.insert(axis, fixed(1));
        self.node("Unsqueeze", &[&value.name, &axes], &[], value.kind, dims, value.exact);
        Some(())
    }

    fn squeeze(&mut self) -> Option<()> {
        let value = self.pick(|value| value.dims.iter().any(|dim| !dim.rows && dim.count == 1))?;
        let at = value.dims.iter().position(|dim| !dim.rows && dim.count == 1)?;
        let axes = self.ints(&[i64::try_from(at).unwrap()]);
        let mut dims = value.dims;
        // Without axes, a batch of one row goes, too.
        if self.random.below(4) == 0 {
            dims.retain(|dim| dim.rows || dim.count != 1);
            self.node("Squeeze", &[&value.name], &[], value.kind, dims, value.exact);
        } else {
            dims.remove(at);
            self.node("Squeeze", &[&value.name, &axes], &[], value.kind, dims, value.exact);
        }
        Some(())
    }

    fn slice(&mut self) -> Option<()> {
        let value = self.pick(|value| !value.dims.is_empty())?;
        let axis = self.random.below(value.dims.len());
        let (start, end, step) = *self.random.one_of(&[
            (0, i64::MAX, 1),
            (0, 1, 1),
            (1, i64::MAX, 1),
            (-1, i64::MIN, -1),
            (-1, i64::MAX, 1),
        ]);
        let (starts, ends) = (self.ints(&[start]), self.ints(&[end]));
        let (axes, steps) = (self.ints(&[i64::try_from(axis).unwrap()]), self.ints(&[step]));
        let mut dims = value.dims;
        dims[axis] = match (start, step) {
            (0, _) if end == i64::MAX => dims[axis],
            (_, -1) => dims[axis],
            (1, _) if !dims[axis].rows => fixed((dims[axis].count - 1).max(0)),
            _ => fixed(1),
        };
        self.node("Slice", &[&value.name, &starts, &ends, &axes, &steps], &[], value.kind, dims, value.exact);
        Some(())
    }

    fn concat(&mut self) -> Option<()> {
        let value = self.pick(|value| !value.dims.is_empty())?;
        let axis = self.random.below(value.dims.len());
        let other = self.pick(|other| other.kind == value.kind && other.dims == value.dims)?;
        let mut dims = value.dims.clone();
        dims[axis].count *= 2;
        let attributes = [("axis", Attribute::Int(i64::try_from(axis).unwrap()))];
        self.node(
            "Concat",
            &[&value.name, &other.name],
            &attributes,
            value.kind,
            dims,
            value.exact && other.exact,
        );
        Some(())
    }

    fn split(&mut self) -> Option<()> {
        let value =
            self.pick(|value| value.kind == Kind::Float && value.dims.iter().any(|dim| dim.count % 2 == 0))?;
        let axis = value.dims.iter().position(|dim| dim.count % 2 == 0)?;
        let (left, right) = (self.fresh(), self.fresh());
        let attributes = [("axis", Attribute::Int(i64::try_from(axis).unwrap()))];
        self.graph.node("Split", &[&value.name], &[&left, &right], &attributes);
        self.operators.push("Split".to_owned());
        let mut dims = value.dims.clone();
        dims[axis].count /= 2;
        for name in [left, right] {
            self.values.push(Value { name, kind: value.kind, dims: dims.clone(), exact: value.exact });
        }
        Some(())
    }

    fn gather(&mut self) -> Option<()> {
        let value = self.pick(|value| !value.dims.is_empty())?;
        let axis = self.random.below(value.dims.len());
        let mut dims = value.dims.clone();
        let indices = if self.random.below(2) == 0 {
            dims.remove(axis);
            self.int(0)
        } else {
            dims[axis] = fixed(2);
            self.ints(&[0, -1])
        };
        let attributes = [("axis", Attribute::Int(i64::try_from(axis).unwrap()))];
        self.node("Gather", &[&value.name, &indices], &attributes, value.kind, dims, value.exact);
        Some(())
    }

    /// Of a constant table, or of the rows themselves.
    fn embed(&mut self) -> Option<()> {
        let indices = self.pick(|value| value.kind == Kind::Int)?;
        let of_rows = self.random.below(4) == 0;
        let table = if of_rows {
            self.pick(|value| value.kind == Kind::Float && value.dims.len() == 2)?.name
        } else {
            self.floats(&[4, 2])
        };
        let mut dims = indices.dims.clone();
        dims.push(fixed(2));
        self.node(
            "Gather",
            &[&table, &indices.name],
            &[("axis", Attribute::Int(0))],
            Kind::Float,
            dims,
            true,
        );
        Some(())
    }

    /// A constant to as many rows as there are, and rows to rows.
    fn expand(&mut self) -> Option<()> {
        let value =
            self.pick(|value| value.kind == Kind::Float && value.dims.len() == 2 && value.dims[0] == ROWS)?;
        let shape = self.fresh();
        self.graph.node("Shape", &[&value.name], &[&shape], &[]);
        let (name, exact) = match self.random.below(3) {
            0 => (self.floats(&[]), true),
            1 => (self.floats(&[1, 1]), true),
            _ => {
                let filled = self.fresh();
                self.graph.node("ConstantOfShape", &[&shape], &[&filled], &[]);
                self.values.push(Value {
                    name: filled,
                    kind: Kind::Float,
                    dims: value.dims.clone(),
                    exact: true,
                });
                (self.floats(&[2, 1]), true)
            }
        };
        self.node("Expand", &[&name, &shape], &[], Kind::Float, value.dims, exact);
        Some(())
    }

    fn cumulate(&mut self) -> Option<()> {
        let value = self.float().filter(|value| !value.dims.is_empty())?;
        let axis = self.random.below(value.dims.len());
        let axis = self.int(i64::try_from(axis).unwrap());
        self.node("CumSum", &[&value.name, &axis], &[], Kind::Float, value.dims, value.exact);
        Some(())
    }

    fn softmax(&mut self) -> Option<()> {
        let value = self.float().filter(|value| !value.dims.is_empty())?;
        let operator = *self.random.one_of(&["Softmax", "LogSoftmax", "LpNormalization"]);
        let attributes =
            [("axis", Attribute::Int(i64::try_from(self.random.below(value.dims.len())).unwrap()))];
        self.node(operator, &[&value.name], &attributes, Kind::Float, value.dims, false);
        Some(())
    }

    /// With a constant scale, or with one of the values.
    fn quantize(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind == Kind::Float && value.exact)?;
        let (quantized, zero) = (self.fresh(), self.fresh());
        let scale;
        if self.random.below(2) == 0 {
            scale = self.fresh();
            self.graph.node("DynamicQuantizeLinear", &[&value.name], &[&quantized, &scale, &zero], &[]);
        } else {
            scale = self.fresh();
            self.graph.constant(&onnx::floats(&scale, &[], &[0.5]));
            self.graph.constant(&onnx::tensor(&zero, onnx::UINT8, &[], &[128]));
            self.graph.node("QuantizeLinear", &[&value.name, &scale, &zero], &[&quantized], &[]);
        }
        self.node("DequantizeLinear", &[&quantized, &scale, &zero], &[], Kind::Float, value.dims, true);
        Some(())
    }

    /// Of `ai.onnx.ml`.
    fn table(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind == Kind::Float && value.dims.len() <= 2 && value.exact)?;
        let width = value.dims.last().filter(|dim| !dim.rows).map_or(1, |dim| dim.count);
        let count = usize::try_from(width).unwrap();
        let (operator, attributes, columns) = match self.random.below(4) {
            0 => (
                "ai.onnx.ml:Scaler",
                vec![
                    ("offset", Attribute::Floats(vec![1.0; count])),
                    ("scale", Attribute::Floats(vec![0.5; count])),
                ],
                width,
            ),
            1 => ("ai.onnx.ml:Normalizer", vec![("norm", Attribute::Text("MAX".into()))], width),
            2 => (
                "ai.onnx.ml:LinearRegressor",
                vec![
                    ("coefficients", Attribute::Floats(vec![0.5; count])),
                    ("intercepts", Attribute::Floats(vec![1.0])),
                ],
                1,
            ),
            _ => ("ai.onnx.ml:TreeEnsembleRegressor", stump(), 1),
        };
        let mut dims = value.dims;
        if let Some(last) = dims.last_mut() {
            *last = if last.rows && columns == 1 { *last } else { fixed(columns) };
        }
        self.node(
            operator,
            &[&value.name],
            &attributes,
            Kind::Float,
            dims,
            operator != "ai.onnx.ml:Normalizer",
        );
        Some(())
    }

    fn window(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind == Kind::Float && value.dims.len() == 3)?;
        let channels = value.dims[1];
        let mut dims = value.dims.clone();
        if self.random.below(2) == 0 {
            let weights = self.floats(&[2, if channels.rows { 2 } else { channels.count }, 1]);
            dims[1] = fixed(2);
            self.node("Conv", &[&value.name, &weights], &[], Kind::Float, dims, value.exact);
        } else {
            let operator = *self.random.one_of(&["MaxPool", "AveragePool"]);
            self.node(
                operator,
                &[&value.name],
                &[("kernel_shape", Attribute::Ints(vec![1]))],
                Kind::Float,
                dims,
                value.exact,
            );
        }
        Some(())
    }

    fn normal(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind == Kind::Float && value.dims.len() >= 2)?;
        let channels = if value.dims[1].rows { 2 } else { value.dims[1].count };
        let (scale, bias) = (self.floats(&[channels]), self.floats(&[channels]));
        match self.random.below(3) {
            0 => {
                let mean = self.floats(&[channels]);
                let variance = self.fresh();
                let count = usize::try_from(channels).unwrap();
                self.graph.constant(&onnx::floats(&variance, &[channels], &vec![1.0; count]));
                let inputs = [value.name.as_str(), &scale, &bias, &mean, &variance];
                self.node("BatchNormalization", &inputs, &[], Kind::Float, value.dims, false);
            }
            1 if value.dims.len() >= 3 => {
                let inputs = [value.name.as_str(), &scale, &bias];
                self.node("InstanceNormalization", &inputs, &[], Kind::Float, value.dims, false);
            }
            _ => {
                let axis = self.random.below(value.dims.len());
                let shape: Vec<i64> =
                    value.dims[axis..].iter().map(|dim| if dim.rows { 1 } else { dim.count }).collect();
                let scale = self.floats(&shape);
                let attributes = [("axis", Attribute::Int(i64::try_from(axis).unwrap()))];
                self.node(
                    "LayerNormalization",
                    &[&value.name, &scale],
                    &attributes,
                    Kind::Float,
                    value.dims,
                    false,
                );
            }
        }
        Some(())
    }

    fn top(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind == Kind::Float && value.exact && !value.dims.is_empty())?;
        let axis = self.random.below(value.dims.len());
        let (values, places) = (self.fresh(), self.fresh());
        let count = self.ints(&[1]);
        let attributes = [("axis", Attribute::Int(i64::try_from(axis).unwrap()))];
        self.graph.node("TopK", &[&value.name, &count], &[&values, &places], &attributes);
        self.operators.push("TopK".to_owned());
        let mut dims = value.dims;
        dims[axis] = fixed(1);
        self.values.push(Value { name: values, kind: Kind::Float, dims: dims.clone(), exact: true });
        self.values.push(Value { name: places, kind: Kind::Int, dims, exact: true });
        Some(())
    }

    fn pad(&mut self) -> Option<()> {
        let value = self.float().filter(|value| !value.dims.is_empty())?;
        let rank = value.dims.len();
        let axis = self.random.below(rank);
        let mut pads = vec![0; 2 * rank];
        pads[axis] = 1;
        let pads = self.ints(&pads);
        let mut dims = value.dims;
        dims[axis].count += 1;
        self.node("Pad", &[&value.name, &pads], &[], Kind::Float, dims, value.exact);
        Some(())
    }

    fn tile(&mut self) -> Option<()> {
        let value = self.float().filter(|value| !value.dims.is_empty())?;
        let axis = self.random.below(value.dims.len());
        let mut repeats = vec![1; value.dims.len()];
        repeats[axis] = 2;
        let repeats = self.ints(&repeats);
        let mut dims = value.dims;
        dims[axis].count *= 2;
        self.node("Tile", &[&value.name, &repeats], &[], Kind::Float, dims, value.exact);
        Some(())
    }

    /// Where, by a comparison.
    fn choose(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind == Kind::Float && value.exact)?;
        let (limit, flags) = (self.floats(&[]), self.fresh());
        let operator = *self.random.one_of(&["Greater", "Less", "IsNaN"]);
        let inputs = [value.name.as_str(), limit.as_str()];
        self.graph.node(operator, &inputs[..if operator == "IsNaN" { 1 } else { 2 }], &[&flags], &[]);
        self.values.push(Value {
            name: flags.clone(),
            kind: Kind::Bool,
            dims: value.dims.clone(),
            exact: true,
        });
        self.node("Where", &[&flags, &value.name, &limit], &[], Kind::Float, value.dims, true);
        Some(())
    }

    fn einsum(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind == Kind::Float && value.dims.len() == 2)?;
        let equation = *self.random.one_of(&["ij,ij->i", "ij,kj->ik", "ij,ij->ij", "ij,ij->j", "ij,ij->ji"]);
        let dims = match equation {
            "ij,ij->i" => vec![value.dims[0]],
            "ij,kj->ik" => vec![value.dims[0], value.dims[0]],
            "ij,ij->j" => vec![value.dims[1]],
            "ij,ij->ji" => vec![value.dims[1], value.dims[0]],
            _ => value.dims.clone(),
        };
        let attributes = [("equation", Attribute::Text(equation.to_owned()))];
        self.node("Einsum", &[&value.name, &value.name], &attributes, Kind::Float, dims, false);
        Some(())
    }

    /// Computes with the number of rows itself.
    fn counted(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind == Kind::Float && value.dims.first() == Some(&ROWS))?;
        let (shape, count, number) = (self.fresh(), self.fresh(), self.fresh());
        let first = self.int(0);
        self.graph.node("Shape", &[&value.name], &[&shape], &[]);
        self.graph.node("Gather", &[&shape, &first], &[&count], &[]);
        self.graph.node("Cast", &[&count], &[&number], &[("to", Attribute::Int(onnx::FLOAT))]);
        self.node("Mul", &[&value.name, &number], &[], Kind::Float, value.dims, value.exact);
        Some(())
    }

    fn unknown(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind == Kind::Float && value.dims.len() == 2)?;
        match self.random.below(3) {
            0 => {
                let (indices, updates) = (self.fresh(), self.floats(&[1, 1]));
                self.graph.constant(&onnx::ints(&indices, &[1, 2], &[0, 0]));
                let flat = self.fresh();
                let shape = self.ints(&[-1]);
                self.graph.node("Reshape", &[&updates, &shape], &[&flat], &[]);
                self.node(
                    "ScatterND",
                    &[&value.name, &indices, &flat],
                    &[],
                    Kind::Float,
                    value.dims,
                    value.exact,
                );
            }
            1 => {
                let name = self.fresh();
                self.graph.node("NonZero", &[&value.name], &[&name], &[]);
                self.values.push(Value { name, kind: Kind::Int, dims: vec![fixed(2), ROWS], exact: true });
            }
            _ => {
                let flags = self.fresh();
                self.graph.constant(&onnx::tensor(&flags, onnx::BOOL, &[2], &[0, 1]));
                let axis = self.random.below(2);
                let mut dims = value.dims.clone();
                dims[axis] = fixed(1);
                let attributes = [("axis", Attribute::Int(i64::try_from(axis).unwrap()))];
                self.node("Compress", &[&value.name, &flags], &attributes, Kind::Float, dims, value.exact);
            }
        }
        Some(())
    }

    fn words(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind == Kind::Text)?;
        let keys = vec!["a".to_owned(), "b".to_owned()];
        if self.random.below(2) == 0 {
            let attributes = [
                ("keys_strings", Attribute::Texts(keys)),
                ("values_floats", Attribute::Floats(vec![1.0, 2.0])),
            ];
            self.node("ai.onnx.ml:LabelEncoder", &[&value.name], &attributes, Kind::Float, value.dims, true);
        } else {
            let mut dims = value.dims;
            dims.push(fixed(2));
            let attributes = [("cats_strings", Attribute::Texts(keys)), ("zeros", Attribute::Int(1))];
            self.node("ai.onnx.ml:OneHotEncoder", &[&value.name], &attributes, Kind::Float, dims, true);
        }
        Some(())
    }

    fn one_hot(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind == Kind::Int && value.dims.len() < 4)?;
        let (depth, values) = (self.int(4), self.fresh());
        self.graph.constant(&onnx::floats(&values, &[2], &[0.0, 1.0]));
        let axis = self.random.below(value.dims.len() + 1);
        let mut dims = value.dims;
        dims.insert(axis, fixed(4));
        let attributes = [("axis", Attribute::Int(i64::try_from(axis).unwrap()))];
        self.node("OneHot", &[&value.name, &depth, &values], &attributes, Kind::Float, dims, true);
        Some(())
    }

    /// Over whichever dimension comes first as if it were time.
    fn recurrent(&mut self) -> Option<()> {
        let value =
            self.pick(|value| value.kind == Kind::Float && value.dims.len() == 3 && !value.dims[2].rows)?;
        let (inputs, hidden) = (value.dims[2].count, 2);
        let (weights, again) = (self.floats(&[1, 3 * hidden, inputs]), self.floats(&[1, 3 * hidden, hidden]));
        let dims = vec![value.dims[0], fixed(1), value.dims[1], fixed(hidden)];
        let attributes = [("hidden_size", Attribute::Int(hidden))];
        self.node("GRU", &[&value.name, &weights, &again], &attributes, Kind::Float, dims, false);
        Some(())
    }

    fn triangle(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind == Kind::Float && value.dims.len() >= 2)?;
        self.node("Trilu", &[&value.name], &[], Kind::Float, value.dims, value.exact);
        Some(())
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

/// Inputs of so many rows.
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
    let outcome = runner.run(&any::<u64>(), |seed| {
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
        "{row_wise} row-wise, {interacting} interacting, {refused} refused though they agree; proven: {proven:?}"
    );
    // Neither kind may be missing, or the test would show nothing.
    assert!(row_wise > 100 && interacting > 100, "{row_wise} row-wise, {interacting} interacting");
    assert!(proven.len() > 30, "{proven:?}");
}
