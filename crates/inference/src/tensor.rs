//! Tensors on their way in and out.

use bytes::Bytes;

use crate::Datatype;

/// Values of a tensor, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Little-endian elements of a fixed width.
    Raw(Bytes),
    /// Elements of [`Datatype::Bytes`], all of them UTF-8.
    Strings(Vec<String>),
    /// Elements of [`Datatype::Bytes`] of which at least one is not UTF-8.
    Octets(Vec<Bytes>),
}

impl Data {
    /// The elements of [`Datatype::Bytes`], as text where all of them are.
    pub fn of_octets(elements: Vec<Bytes>) -> Self {
        let texts: Option<Vec<String>> =
            elements.iter().map(|element| std::str::from_utf8(element).ok().map(str::to_owned)).collect();
        texts.map_or(Self::Octets(elements), Self::Strings)
    }

    /// Each element of [`Datatype::Bytes`]; none for other types.
    pub fn octets(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        match self {
            Self::Raw(_) => Box::new(std::iter::empty()),
            Self::Strings(strings) => Box::new(strings.iter().map(String::as_bytes)),
            Self::Octets(elements) => Box::new(elements.iter().map(|element| &element[..])),
        }
    }
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
            Data::Octets(elements) => elements.len(),
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
            Data::Octets(elements) => elements.iter().map(|element| element.len() + size_of::<Bytes>()).sum(),
        }
    }
}

/// No tensor has more elements: a length in bytes always fits.
const MAX_ELEMENTS: usize = 1 << 40;

/// Elements that a shape holds; `None` where a dimension is negative or the product is absurd, whether or not
/// one of them is 0.
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
