//! What a model shows when it is warmed up: how fast it is, and whether rows that run together are answered as they are alone.

use std::time::{Duration, Instant};

use crate::raw::Runner;
use crate::{Data, Datatype, Error, Signature, Tensor, batch};

/// Rows that are run alone and together.
const PROOF_ROWS: usize = 3;
/// The fastest of so many runs counts, within a time.
const MEASURED_RUNS: usize = 5;
const MEASURING_LIMIT: Duration = Duration::from_millis(20);
/// Numbers closer than this, relative to their size, are the same: sums are made in another order for more rows.
const TOLERANCE: f32 = 1e-3;

/// What the warm-up showed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Profile {
    /// Inputs that the model took, if any of those tried.
    pub(crate) taken: Option<Vec<Tensor>>,
    /// Time of a run of one row; `None` where it took no inputs.
    pub(crate) run: Option<Duration>,
    /// Whether requests can be joined.
    pub(crate) batchable: bool,
}

/// Runs the model until it is warm.
pub(crate) fn measure(runner: &Runner, signature: &Signature, max_rows: usize) -> Profile {
    let mut profile = Profile::default();
    // Zeros need not be lawful inputs of every model, nor 1 a lawful size.
    for inputs in [signature.zeros(), samples(signature, 1, 1), samples(signature, 1, 2)] {
        if run(runner, &inputs).is_ok() {
            profile.taken = Some(inputs);
            break;
        }
    }
    let Some(inputs) = &profile.taken else {
        tracing::info!("a model takes none of the inputs tried; its first request warms it up");
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
    profile.batchable = max_rows > 1 && has_free_rows(signature) && {
        let proven = [2, 1].into_iter().find_map(|size| rows_are_independent(runner, signature, size).ok());
        proven.unwrap_or(false)
    };
    profile
}

/// Whether the first dimension of every input and output varies.
fn has_free_rows(signature: &Signature) -> bool {
    let free = |specs: &[crate::TensorSpec]| specs.iter().all(|spec| spec.shape.first() == Some(&-1));
    !signature.inputs.is_empty() && free(&signature.inputs) && free(&signature.outputs)
}

/// Whether rows run together are answered as each alone; an error where the model does not take them.
fn rows_are_independent(runner: &Runner, signature: &Signature, free_size: i64) -> Result<bool, Error> {
    let together = samples(signature, PROOF_ROWS, free_size);
    let outputs = run(runner, &together)?;
    let Some(parts) = batch::split(together, &[1; PROOF_ROWS]) else { return Ok(false) };
    let Some(answers) = batch::split(outputs, &[1; PROOF_ROWS]) else { return Ok(false) };
    for (inputs, together) in parts.iter().zip(answers) {
        let alone = run(runner, inputs)?;
        if alone.len() != together.len()
            || !alone.iter().zip(&together).all(|(left, right)| same(left, right))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn run(runner: &Runner, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    Ok(runner.run(&inputs, false)?.outputs)
}

fn same(left: &Tensor, right: &Tensor) -> bool {
    if left.shape != right.shape || left.datatype != right.datatype {
        return false;
    }
    if left.data == right.data {
        return true;
    }
    let (Data::Raw(left_bytes), Data::Raw(right_bytes)) = (&left.data, &right.data) else { return false };
    let close = |left: f32, right: f32| {
        (left.is_nan() && right.is_nan())
            || left.total_cmp(&right).is_eq()
            || (left - right).abs() <= TOLERANCE * left.abs().max(right.abs()).max(1.0)
    };
    match left.datatype {
        Datatype::Fp32 => {
            let numbers = |bytes: &[u8]| -> Vec<f32> {
                bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
            };
            numbers(left_bytes).iter().zip(numbers(right_bytes)).all(|(left, right)| close(*left, right))
        }
        Datatype::Fp64 => {
            let numbers = |bytes: &[u8]| -> Vec<f32> {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "compared within a tolerance that is coarser"
                )]
                let narrow = |chunk: &[u8; 8]| f64::from_le_bytes(*chunk) as f32;
                bytes.as_chunks::<8>().0.iter().map(narrow).collect()
            };
            numbers(left_bytes).iter().zip(numbers(right_bytes)).all(|(left, right)| close(*left, right))
        }
        // Half precision that differs at all is not worth the risk.
        _ => false,
    }
}

/// Inputs whose rows differ: small whole numbers, fractions, words.
fn samples(signature: &Signature, rows: usize, free_size: i64) -> Vec<Tensor> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        // Xorshift (Marsaglia 2003): the rows have to differ, nothing more.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let rows = i64::try_from(rows).unwrap_or(1);
    let mut sample = |spec: &crate::TensorSpec| {
        let sized = |(at, dimension): (usize, &i64)| match (at, *dimension) {
            (0, -1) => rows,
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
