//! Operators that move numbers.

use slipway_testkit::onnx::{self, Attribute};

use super::{Builder, Dim, Kind, ROWS, Value, fixed};

impl Builder {
    pub(super) fn transpose(&mut self) -> Option<()> {
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
    pub(super) fn reshape(&mut self) -> Option<()> {
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

    pub(super) fn flatten(&mut self) -> Option<()> {
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

    pub(super) fn unsqueeze(&mut self) -> Option<()> {
        let value = self.pick(|value| value.dims.len() < 4)?;
        let axis = self.random.below(value.dims.len() + 1);
        let axes = self.ints(&[i64::try_from(axis).unwrap()]);
        let mut dims = value.dims;
        dims.insert(axis, fixed(1));
        self.node("Unsqueeze", &[&value.name, &axes], &[], value.kind, dims, value.exact);
        Some(())
    }

    pub(super) fn squeeze(&mut self) -> Option<()> {
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

    pub(super) fn slice(&mut self) -> Option<()> {
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

    pub(super) fn concat(&mut self) -> Option<()> {
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

    pub(super) fn split(&mut self) -> Option<()> {
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

    /// A constant to as many rows as there are, and rows to rows.
    pub(super) fn expand(&mut self) -> Option<()> {
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

    pub(super) fn pad(&mut self) -> Option<()> {
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

    pub(super) fn tile(&mut self) -> Option<()> {
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

    /// Computes with the number of rows itself.
    pub(super) fn counted(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind == Kind::Float && value.dims.first() == Some(&ROWS))?;
        let (shape, count, number) = (self.fresh(), self.fresh(), self.fresh());
        let first = self.int(0);
        self.graph.node("Shape", &[&value.name], &[&shape], &[]);
        self.graph.node("Gather", &[&shape, &first], &[&count], &[]);
        self.graph.node("Cast", &[&count], &[&number], &[("to", Attribute::Int(onnx::FLOAT))]);
        self.node("Mul", &[&value.name, &number], &[], Kind::Float, value.dims, value.exact);
        Some(())
    }

    pub(super) fn unknown(&mut self) -> Option<()> {
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
                self.operators.push("NonZero".to_owned());
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

    pub(super) fn triangle(&mut self) -> Option<()> {
        let value = self.pick(|value| value.kind == Kind::Float && value.dims.len() >= 2)?;
        self.node("Trilu", &[&value.name], &[], Kind::Float, value.dims, value.exact);
        Some(())
    }
}
