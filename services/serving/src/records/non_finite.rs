//! NaN and infinities among outputs. JSON has no form for them: records carry `null`, and how many there were.

use slipway_inference::{Data, Datatype, Tensor};

/// Values of these tensors that are NaN or infinite.
pub(super) fn of(tensors: &[Tensor]) -> u64 {
    let each = tensors.iter().map(|tensor| match &tensor.data {
        Data::Raw(bytes) => among(tensor.datatype, bytes),
        Data::Strings(_) | Data::Octets(_) => 0,
    });
    each.sum()
}

/// Little-endian values of this type that are NaN or infinite: all bits of their exponent are set.
pub(super) fn among(datatype: Datatype, bytes: &[u8]) -> u64 {
    let count = match datatype {
        Datatype::Fp32 => all_set(bytes, 0x7f80_0000_u32.to_le_bytes()),
        Datatype::Fp64 => all_set(bytes, 0x7ff0_0000_0000_0000_u64.to_le_bytes()),
        Datatype::Fp16 => all_set(bytes, 0x7c00_u16.to_le_bytes()),
        Datatype::Bf16 => all_set(bytes, 0x7f80_u16.to_le_bytes()),
        _ => 0,
    };
    count as u64
}

fn all_set<const N: usize>(bytes: &[u8], mask: [u8; N]) -> usize {
    let is_set = |value: &&[u8]| value.iter().zip(mask).all(|(byte, mask)| byte & mask == mask);
    bytes.chunks_exact(N).filter(is_set).count()
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
