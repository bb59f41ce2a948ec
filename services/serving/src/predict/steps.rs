//! Runs the steps of an ensemble: each as soon as all that it takes is there, so that steps which do not
//! depend on each other run together.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use slipway_domain::ensemble::Definition;
use slipway_inference::Tensor;

use super::missed::Missed;
use crate::failure::{Failure, Kind};

/// The outputs of an ensemble; `call` answers one of its steps. The first step that fails ends the others.
/// Dropping it ends all.
///
/// # Errors
/// A step failed, which the message names.
pub(crate) async fn run<F>(
    definition: &Definition,
    inputs: &[Tensor],
    call: impl Fn(usize, Vec<Tensor>) -> F,
) -> Result<Vec<Tensor>, Missed>
where
    F: Future<Output = Result<Arc<Vec<Tensor>>, Missed>>,
{
    let mut tensors: BTreeMap<&str, Tensor> = BTreeMap::new();
    for input in &definition.inputs {
        if let Some(tensor) = inputs.iter().find(|tensor| tensor.name == input.name) {
            tensors.insert(&input.name, tensor.clone());
        }
    }
    let mut waiting: Vec<usize> = (0..definition.steps.len()).collect();
    let mut running = FuturesUnordered::new();
    loop {
        waiting.retain(|&at| {
            let Some(taken) = taken(definition, at, &tensors) else { return true };
            let answered = call(at, taken);
            running.push(async move { (at, answered.await) });
            false
        });
        let Some((at, answered)) = running.next().await else { break };
        let outputs = answered.map_err(|missed| named(&definition.step(at), missed))?;
        // Without a record they have a single owner, and nothing is copied.
        for tensor in Arc::unwrap_or_clone(outputs) {
            if let Some(name) = definition.steps[at].outputs.get(&tensor.name) {
                tensors.insert(name, Tensor { name: name.clone(), ..tensor });
            }
        }
    }
    let outputs = definition.outputs.iter().map(|output| tensors.remove(output.name.as_str()));
    outputs.collect::<Option<_>>().ok_or_else(|| {
        // A model gave less than its signature says.
        Failure::new(Kind::Internal, "an output of the ensemble did not come").into()
    })
}

/// What a step takes, by the names of its model; `None` where some of it is not there yet. Elements are
/// shared, not copied.
fn taken(definition: &Definition, at: usize, tensors: &BTreeMap<&str, Tensor>) -> Option<Vec<Tensor>> {
    let named = |(input, tensor): (&String, &String)| {
        Some(Tensor { name: input.clone(), ..tensors.get(tensor.as_str())?.clone() })
    };
    definition.steps[at].inputs.iter().map(named).collect()
}

fn named(step: &str, missed: Missed) -> Missed {
    let failure = Failure::new(missed.failure.kind, format!("{step}: {}", missed.failure.message));
    Missed { failure, ..missed }
}

#[cfg(test)]
mod tests {
    use slipway_inference::Data;
    use tokio::sync::Barrier;

    use super::*;
    use crate::models::ensemble::definitions::definition;

    fn diamond() -> Definition {
        let steps =
            [("join", "left=a right=b", "sum=total"), ("left", "x=x", "y=a"), ("right", "x=x", "y=b")];
        definition(&["x"], &steps, &["total", "b"]).checked().unwrap()
    }

    fn first(tensor: &Tensor) -> f32 {
        let Data::Raw(bytes) = &tensor.data else { unreachable!("numbers") };
        f32::from_le_bytes(*bytes.first_chunk().unwrap())
    }

    #[tokio::test]
    async fn steps_that_do_not_depend_on_each_other_run_together_and_share_memory() {
        let both = Arc::new(Barrier::new(2));
        let input = Tensor::fp32("x", [1], &[3.0]);
        let Data::Raw(brought) = input.data.clone() else { unreachable!("numbers") };
        let (diamond, inputs) = (diamond(), [input]);
        let outputs = run(&diamond, &inputs, |at, inputs| {
            let (both, brought) = (Arc::clone(&both), brought.clone());
            async move {
                let answer = if at == 0 {
                    Tensor::fp32("sum", [1], &[first(&inputs[0]) - first(&inputs[1])])
                } else {
                    let Data::Raw(bytes) = &inputs[0].data else { unreachable!("numbers") };
                    assert_eq!(bytes.as_ptr(), brought.as_ptr(), "the input was not copied");
                    assert_eq!(inputs[0].name, "x");
                    // One alone would wait indefinitely.
                    both.wait().await;
                    Tensor::fp32("y", [1], &[if at == 1 { 10.0 } else { 4.0 }])
                };
                Ok(Arc::new(vec![answer]))
            }
        });
        let outputs = outputs.await.unwrap();
        let shown: Vec<_> = outputs.iter().map(|tensor| (tensor.name.as_str(), first(tensor))).collect();
        assert_eq!(shown, [("total", 6.0), ("b", 4.0)]);
    }

    #[tokio::test]
    async fn a_step_that_fails_is_named_and_ends_the_others() {
        let (diamond, inputs) = (diamond(), [Tensor::fp32("x", [1], &[3.0])]);
        let failed = run(&diamond, &inputs, |at, _inputs| async move {
            if at == 2 {
                return Err(Failure::new(Kind::Internal, "it broke").into());
            }
            std::future::pending().await
        });
        let missed = failed.await.unwrap_err();
        assert_eq!(missed.failure, Failure::new(Kind::Internal, "step 3 ('right'): it broke"));
    }
}
