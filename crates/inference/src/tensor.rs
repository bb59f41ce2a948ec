//! Tensors on their way in and out.

use bytes::Bytes;

use crate::Datatype;

/// Values of a tensor, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Little-endian elements of a fixed width.
    Raw(Bytes),
    /// Elements of [`Datatype::Bytes`]. ONNX strings are UTF-8.
    Strings(Vec<String>),
}

/// A named tensor. Cheap to clone, unless it holds strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Name of the model's input or output.
    pub name: String,
    /// Type of its elements.
    pub datatype: Datatype,
    /// Shape; no dimension is negative.
    pub shape: Vec<i64>,
    /// The elements.
    pub data: Data,
}

impl Tensor {
    /// A tensor of fixed-width elements.
    pub fn raw(
        name: impl Into<String>,
        datatype: Datatype,
        shape: impl Into<Vec<i64>>,
        bytes: impl Into<Bytes>,
    ) -> Self {
        Self { name: name.into(), datatype, shape: shape.into(), data: Data::Raw(bytes.into()) }
    }

    /// A tensor of strings.
    pub fn strings(name: impl Into<String>, shape: impl Into<Vec<i64>>, strings: Vec<String>) -> Self {
        Self {
            name: name.into(),
            datatype: Datatype::Bytes,
            shape: shape.into(),
            data: Data::Strings(strings),
        }
    }

    /// A tensor of single precision numbers.
    pub fn fp32(name: impl Into<String>, shape: impl Into<Vec<i64>>, values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::raw(name, Datatype::Fp32, shape, bytes)
    }

    /// Elements that the data holds, whatever the shape says.
    pub fn elements(&self) -> usize {
        match &self.data {
            Data::Raw(bytes) => bytes.len() / self.datatype.element_bytes().unwrap_or(1),
            Data::Strings(strings) => strings.len(),
        }
    }

    /// Size of the first dimension; 1 for a scalar.
    pub fn rows(&self) -> u64 {
        self.shape.first().map_or(1, |rows| u64::try_from(*rows).unwrap_or(0))
    }

    /// Memory that the elements take.
    pub fn size_bytes(&self) -> usize {
        match &self.data {
            Data::Raw(bytes) => bytes.len(),
            Data::Strings(strings) => strings.iter().map(|text| text.len() + size_of::<String>()).sum(),
        }
    }
}

/// No tensor has more elements: a length in bytes always fits.
const MAX_ELEMENTS: usize = 1 << 40;

/// Elements that a shape holds; `None` where a dimension is negative or the product is absurd, whether or not one of them is 0.
pub(crate) fn shape_elements(shape: &[i64]) -> Option<usize> {
    let product =
        |product: usize, dimension: &i64| product.checked_mul(usize::try_from(*dimension).ok()?.max(1));
    let elements = shape.iter().try_fold(1, product).filter(|elements| *elements <= MAX_ELEMENTS)?;
    Some(if shape.contains(&0) { 0 } else { elements })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absurd_shape_is_one_in_whatever_order() {
        let huge = 1 << 62;
        for (shape, elements) in [
            (&[][..], Some(1)),
            (&[2, 3], Some(6)),
            (&[2, 0], Some(0)),
            (&[0, -1], None),
            (&[huge, huge, 0], None),
            (&[0, huge, huge], None),
        ] {
            assert_eq!(shape_elements(shape), elements, "{shape:?}");
        }
    }
}
