//! NaN and infinities among outputs. JSON has no form for them: records carry `null`, and how many there
//! were.

use slipway_inference::{Data, Datatype, Tensor};

/// Values of these tensors that are NaN or infinite.
pub(crate) fn of(tensors: &[Tensor]) -> u64 {
    let each = tensors.iter().map(|tensor| match &tensor.data {
        Data::Raw(bytes) => among(tensor.datatype, bytes),
        Data::Strings(_) | Data::Octets(_) => 0,
    });
    each.sum()
}

/// Little-endian values of this type that are NaN or infinite: all bits of their exponent are set.
pub(super) fn among(datatype: Datatype, bytes: &[u8]) -> u64 {
    let count = match datatype {
        Datatype::Fp32 => count(bytes, |value| u32::from_le_bytes(*value) & 0x7f80_0000 == 0x7f80_0000),
        Datatype::Fp64 => {
            const EXPONENT: u64 = 0x7ff0_0000_0000_0000;
            count(bytes, |value| u64::from_le_bytes(*value) & EXPONENT == EXPONENT)
        }
        Datatype::Fp16 => count(bytes, |value| u16::from_le_bytes(*value) & 0x7c00 == 0x7c00),
        Datatype::Bf16 => count(bytes, |value| u16::from_le_bytes(*value) & 0x7f80 == 0x7f80),
        _ => 0,
    };
    count as u64
}

fn count<const N: usize>(bytes: &[u8], is_set: impl Fn(&[u8; N]) -> bool) -> usize {
    bytes.as_chunks::<N>().0.iter().filter(|value| is_set(value)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_and_infinities_are_counted_in_every_floating_type() {
        let values = [1.5, f64::NAN, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::MAX];
        let wide: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(among(Datatype::Fp64, &wide), 3);
        let single = values.map(|value| if value == f64::MAX { f32::MAX } else { value as f32 });
        let narrow: Vec<u8> = single.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(among(Datatype::Fp32, &narrow), 3);
        // The upper halves of FP32 are BF16.
        let upper: Vec<u8> = single[..5].iter().flat_map(|value| value.to_le_bytes()[2..].to_vec()).collect();
        assert_eq!(among(Datatype::Bf16, &upper), 3);
        let half: Vec<u8> =
            [0x3c00_u16, 0x7c00, 0xfc00, 0x7e00, 0x7bff].iter().flat_map(|half| half.to_le_bytes()).collect();
        assert_eq!(among(Datatype::Fp16, &half), 3);
        assert_eq!(among(Datatype::Int32, &[0xff; 8]), 0);
        assert_eq!(of(&[Tensor::fp32("y", [1, 2], &[f32::NAN, 1.0])]), 1);
    }
}
