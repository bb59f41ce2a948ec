//! Products, convolutions and recurrent layers.

use slipway_testkit::onnx::Attribute;

use super::{Builder, Kind, fixed};

impl Builder {
    pub(super) fn matmul(&mut self) -> Option<()> {
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

    pub(super) fn gemm(&mut self) -> Option<()> {
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

    pub(super) fn einsum(&mut self) -> Option<()> {
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

    pub(super) fn window(&mut self) -> Option<()> {
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

    /// Over whichever dimension comes first as if it were time.
    pub(super) fn recurrent(&mut self) -> Option<()> {
        let value =
            self.pick(|value| value.kind == Kind::Float && value.dims.len() == 3 && !value.dims[2].rows)?;
        let (inputs, hidden) = (value.dims[2].count, 2);
        let (weights, again) = (self.floats(&[1, 3 * hidden, inputs]), self.floats(&[1, 3 * hidden, hidden]));
        let dims = vec![value.dims[0], fixed(1), value.dims[1], fixed(hidden)];
        let attributes = [("hidden_size", Attribute::Int(hidden))];
        self.node("GRU", &[&value.name, &weights, &again], &attributes, Kind::Float, dims, false);
        Some(())
    }
}
