//! Floating point types that are narrower than 64 bits.

/// Significand of a floating point type narrower than 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// `FP32`, 24 bits.
    Single,
    /// `FP16`, 11 bits.
    Half,
    /// `BF16`, 8 bits.
    BrainFloat,
}

impl Precision {
    /// The nearest number of this precision. The range of exponents is that of 32 bits.
    pub fn round(self, number: f64) -> f64 {
        let single = f64::from(number as f32);
        let dropped_bits = match self {
            Self::Single => return single,
            Self::Half => 53 - 11,
            Self::BrainFloat => 53 - 8,
        };
        if !single.is_finite() {
            return single;
        }
        // Veltkamp's splitting: what is added and taken away again drops the low bits, rounded to nearest.
        let scaled = number * (2f64.powi(dropped_bits) + 1.0);
        scaled - (scaled - number)
    }
}
