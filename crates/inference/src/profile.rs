//! What a model shows when it is warmed up: how fast it is.

use std::time::{Duration, Instant};

use crate::raw::Runner;
use crate::{Datatype, Error, Signature, Tensor};

/// Number of runs of which the fastest counts, within a time.
const MEASURED_RUNS: usize = 5;
const MEASURING_LIMIT: Duration = Duration::from_millis(20);
/// Inputs of more bytes are not tried: their shape is the model's word alone, and memory for it need not be
/// there.
const MAX_INPUT_BYTES: usize = 256 * 1024 * 1024;

/// What the warm-up showed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Profile {
    /// Inputs that the model took, if any of those tried.
    pub(crate) taken: Option<Vec<Tensor>>,
    /// Time of a run of one row; `None` where it took no inputs.
    pub(crate) run: Option<Duration>,
    /// What it said of the inputs tried last, where it took none.
    pub(crate) refused: Option<String>,
}

/// Runs the model until it is warm.
pub(crate) fn measure(runner: &Runner, signature: &Signature) -> Profile {
    let mut profile = Profile::default();
    if !is_affordable(signature) {
        tracing::info!("inputs of a model too large for a warm-up; its first request warms it up");
        return profile;
    }
    // Zeros need not be valid inputs of every model, nor 1 a valid size.
    for inputs in [signature.zeros(), samples(signature, 1), samples(signature, 2)] {
        match run(runner, &inputs) {
            Ok(_) => {
                (profile.taken, profile.refused) = (Some(inputs), None);
                break;
            }
            Err(error) => profile.refused = Some(error.to_string()),
        }
    }
    let Some(inputs) = &profile.taken else {
        tracing::info!("no warm-up input accepted by a model; its first request warms it up");
        return profile;
    };
    let begun = Instant::now();
    for _ in 0..MEASURED_RUNS {
        let started = Instant::now();
        if run(runner, inputs).is_ok() {
            let took = started.elapsed();
            profile.run = Some(profile.run.map_or(took, |fastest| fastest.min(took)));
        }
        if begun.elapsed() > MEASURING_LIMIT {
            break;
        }
    }
    profile
}

/// Whether one row of every input is small enough to be made.
pub(crate) fn is_affordable(signature: &Signature) -> bool {
    let bytes = |spec: &crate::TensorSpec| {
        let sizes = spec.shape.iter().map(|size| usize::try_from(*size).unwrap_or(2));
        let each = spec.datatype.element_bytes().unwrap_or(size_of::<String>());
        sizes.fold(each, usize::saturating_mul)
    };
    signature.inputs.iter().map(bytes).fold(0, usize::saturating_add) <= MAX_INPUT_BYTES
}

fn run(runner: &Runner, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    Ok(runner.run(&inputs, false)?.outputs)
}

/// Inputs of one row: small whole numbers, fractions, words. Further dimensions that vary are `free_size`.
fn samples(signature: &Signature, free_size: i64) -> Vec<Tensor> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        // Xorshift (Marsaglia 2003): the numbers have to differ, nothing more.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut sample = |spec: &crate::TensorSpec| {
        let sized = |(at, dimension): (usize, &i64)| match (at, *dimension) {
            (0, -1) => 1,
            (_, dimension) if dimension < 0 => free_size,
            (_, dimension) => dimension,
        };
        let shape: Vec<i64> = spec.shape.iter().enumerate().map(sized).collect();
        let elements = crate::tensor::shape_elements(&shape).unwrap_or(0);
        if spec.datatype == Datatype::Bytes {
            let words =
                (0..elements).map(|_| if (next() >> 33) % 2 == 0 { "a".to_owned() } else { "b".to_owned() });
            return Tensor::strings(&spec.name, shape, words.collect());
        }
        let mut bytes = Vec::new();
        for _ in 0..elements {
            let number = u8::try_from((next() >> 33) % 2).unwrap_or(0);
            match spec.datatype {
                #[expect(clippy::cast_precision_loss, reason = "any fraction will do")]
                Datatype::Fp32 => bytes.extend((((next() >> 40) as f32) / 8_388_608.0 - 1.0).to_le_bytes()),
                #[expect(clippy::cast_precision_loss, reason = "any fraction will do")]
                Datatype::Fp64 => bytes.extend((((next() >> 40) as f64) / 8_388_608.0 - 1.0).to_le_bytes()),
                // 1.0, as each type writes it, or 0.
                Datatype::Fp16 => bytes.extend((u16::from(number) * 0x3c00).to_le_bytes()),
                Datatype::Bf16 => bytes.extend((u16::from(number) * 0x3f80).to_le_bytes()),
                other => {
                    let each = other.element_bytes().unwrap_or(1);
                    bytes.extend((0..each).map(|at| if at == 0 { number } else { 0 }));
                }
            }
        }
        Tensor::raw(&spec.name, spec.datatype, shape, bytes)
    };
    signature.inputs.iter().map(&mut sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_that_no_machine_holds_are_not_made() {
        let takes = |shape: &[i64]| {
            let input =
                crate::TensorSpec { name: "x".into(), datatype: Datatype::Fp32, shape: shape.to_vec() };
            is_affordable(&Signature { inputs: vec![input], ..Signature::default() })
        };
        assert!(takes(&[-1, 1024]) && takes(&[]));
        assert!(!takes(&[-1, 1 << 40]) && !takes(&[i64::MAX, i64::MAX]));
    }
}
