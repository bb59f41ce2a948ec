//! Operators that treat each number alone.

use slipway_testkit::onnx;

use super::{Builder, Kind, Value, broadcast, fixed};

impl Builder {
    pub(super) fn unary(&mut self) -> Option<()> {
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
    pub(super) fn binary(&mut self) -> Option<()> {
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

    /// Where, by a comparison.
    pub(super) fn choose(&mut self) -> Option<()> {
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

    /// With a constant scale, or with one of the values.
    pub(super) fn quantize(&mut self) -> Option<()> {
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
}
