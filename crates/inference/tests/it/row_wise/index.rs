//! Operators that look numbers up, and words.

use slipway_testkit::onnx::{self, Attribute};

use super::{Builder, Kind, fixed, stump};

impl Builder {
    pub(super) fn gather(&mut self) -> Option<()> {
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
    pub(super) fn embed(&mut self) -> Option<()> {
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

    /// Of `ai.onnx.ml`.
    pub(super) fn table(&mut self) -> Option<()> {
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

    pub(super) fn words(&mut self) -> Option<()> {
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

    pub(super) fn one_hot(&mut self) -> Option<()> {
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
}
