//! Recurrent layers, which go through the steps of each sequence alone.

use super::call::{Call, Derived};
use super::size::Size;
use super::value::Tensor;

pub(super) fn derive(call: &mut Call<'_>) -> Option<Derived> {
    // Places of the states that a sequence may begin with.
    let states: &[usize] = match call.node.operator.as_str() {
        "LSTM" => &[5, 6],
        "GRU" | "RNN" => &[5],
        _ => return None,
    };
    Some(recurrent(call, states))
}

/// `steps · batch · inputs`; in the other layout the batch comes first.
fn recurrent(call: &mut Call<'_>, states: &[usize]) -> Derived {
    let first = call.node.int("layout").unwrap_or(0) != 0;
    let tensor = call.input(0)?;
    let dims =
        tensor.dims.as_ref().filter(|dims| dims.len() == 3).ok_or("its input has not three dimensions")?;
    let (rows, steps) = if first { (0, 1) } else { (1, 0) };
    if tensor.axis != Some(rows) {
        return Err("the batch is another dimension of its input".to_owned());
    }
    let batch = dims[rows].clone();
    for at in 1..call.inputs.len() {
        let Some(given) = call.given(at) else { continue };
        let expected = match at {
            4 => Some(0),
            _ if states.contains(&at) => Some(rows),
            _ => None,
        };
        let size = |axis: usize| given.dims.as_ref().and_then(|dims| dims.get(axis));
        match expected {
            Some(axis) if given.axis == Some(axis) && size(axis) == Some(&batch) => {}
            Some(_) => return Err("its lengths or first states are not one for each row".to_owned()),
            None => call.constant(at)?,
        }
    }
    let directions = if call.node.text("direction") == Some("bidirectional") { 2 } else { 1 };
    let (directions, steps) = (Size::fixed(directions), dims[steps].clone());
    let hidden = match call.node.int("hidden_size").and_then(|size| u64::try_from(size).ok()) {
        Some(size) => Size::fixed(size),
        None => call.symbols.fresh(),
    };
    let (all, last) = if first {
        (vec![batch.clone(), steps, directions.clone(), hidden.clone()], vec![batch, directions, hidden])
    } else {
        (vec![steps, directions.clone(), batch.clone(), hidden.clone()], vec![directions, batch, hidden])
    };
    let rows_of = |dims: &[Size]| dims.iter().position(|size| size.rows);
    let (all_rows, last_rows) = (rows_of(&all), rows_of(&last));
    let last = Tensor::new(last, last_rows);
    Ok(vec![Tensor::new(all, all_rows), last.clone(), last])
}
