//! Operators that join numbers along a dimension.

use slipway_testkit::onnx::{self, Attribute};

use super::{Builder, Kind, Value, fixed, without};

impl Builder {
    pub(super) fn reduce(&mut self) -> Option<()> {
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

    pub(super) fn extreme(&mut self) -> Option<()> {
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

    pub(super) fn cumulate(&mut self) -> Option<()> {
        let value = self.float().filter(|value| !value.dims.is_empty())?;
        let axis = self.random.below(value.dims.len());
        let axis = self.int(i64::try_from(axis).unwrap());
        self.node("CumSum", &[&value.name, &axis], &[], Kind::Float, value.dims, value.exact);
        Some(())
    }

    pub(super) fn softmax(&mut self) -> Option<()> {
        let value = self.float().filter(|value| !value.dims.is_empty())?;
        let operator = *self.random.one_of(&["Softmax", "LogSoftmax", "LpNormalization"]);
        let attributes =
            [("axis", Attribute::Int(i64::try_from(self.random.below(value.dims.len())).unwrap()))];
        self.node(operator, &[&value.name], &attributes, Kind::Float, value.dims, false);
        Some(())
    }

    pub(super) fn normal(&mut self) -> Option<()> {
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

    pub(super) fn top(&mut self) -> Option<()> {
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
}
