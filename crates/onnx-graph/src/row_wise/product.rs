//! Products of matrices.

use super::call::{Call, Derived, Symbols, broadcast, one};
use super::size::Size;
use super::value::Tensor;

pub(super) fn derive(call: &mut Call<'_>) -> Option<Derived> {
    Some(match call.node.operator.as_str() {
        "MatMul" => both(call).and_then(|(left, right)| one(multiplied(call.symbols, left, right)?)),
        "Gemm" => gemm(call, 0, 1, 2),
        "Einsum" => einsum(call),
        _ => return None,
    })
}

fn both<'call>(call: &Call<'call>) -> Result<(&'call Tensor, &'call Tensor), String> {
    Ok((call.input(0)?, call.input(1)?))
}

fn contracted() -> String {
    "it sums over the rows of the run".to_owned()
}

/// As `numpy.matmul`: the batch may be a dimension before the matrices, the rows of the left, or the columns
/// of the right ones.
pub(super) fn multiplied(symbols: &mut Symbols, left: &Tensor, right: &Tensor) -> Result<Tensor, String> {
    let (Some(first), Some(second)) = (&left.dims, &right.dims) else {
        return if left.is_constant() && right.is_constant() {
            Ok(Tensor::constant(None))
        } else {
            Err("the shape of a matrix is not known".to_owned())
        };
    };
    let behind = |tensor: &Tensor, dims: &[Size]| tensor.axis.map(|rows| dims.len() - 1 - rows);
    let (of_left, of_right) = (behind(left, first), behind(right, second));
    // The last dimension of the left and the last but one of the right are summed over; so is the only one of
    // a vector.
    if of_left == Some(0) || of_right == Some(1) || of_right == Some(0) && second.len() == 1 {
        return Err(contracted());
    }
    if of_left == Some(1) && of_right.is_some() || of_right == Some(0) && of_left.is_some() {
        return Err("rows of one input meet all rows of another".to_owned());
    }
    if first.is_empty() || second.is_empty() {
        return Err("a matrix of it is a number".to_owned());
    }
    let matrices = |dims: &[Size]| dims.get(..dims.len().saturating_sub(2)).unwrap_or_default().to_vec();
    let stack = |dims: &[Size]| {
        let dims = matrices(dims);
        let rows = dims.iter().position(|size| size.rows);
        Tensor::new(dims, rows)
    };
    let stacked = broadcast(symbols, &[&stack(first), &stack(second)])?;
    let mut sizes = stacked.dims.unwrap_or_default();
    if let (true, Some(rows)) = (first.len() >= 2, first.get(first.len().wrapping_sub(2))) {
        sizes.push(rows.clone());
    }
    if let (true, Some(columns)) = (second.len() >= 2, second.last()) {
        sizes.push(columns.clone());
    }
    if sizes.iter().filter(|size| size.rows).count() > 1 {
        return Err("rows of one input meet all rows of another".to_owned());
    }
    let rows = sizes.iter().position(|size| size.rows);
    Ok(Tensor::new(sizes, rows))
}

/// `left · right + bias`, all matrices.
pub(super) fn gemm(call: &mut Call<'_>, left: usize, right: usize, bias: usize) -> Derived {
    let (left, right) = (call.input(left)?, call.input(right)?);
    let turned = |tensor: &Tensor, name: &str| -> Result<Option<Tensor>, String> {
        let Some(dims) = &tensor.dims else { return Ok(None) };
        let [rows, columns] = dims.as_slice() else {
            return Err("one of its inputs is no matrix".to_owned());
        };
        let turned = call.node.int(name).unwrap_or(0) != 0;
        let dims = if turned { [columns, rows] } else { [rows, columns] }.map(Size::clone).to_vec();
        let rows = dims.iter().position(|size| size.rows);
        Ok(Some(Tensor::new(dims, rows)))
    };
    let product = match (turned(left, "transA")?, turned(right, "transB")?) {
        (Some(left), Some(right)) => multiplied(call.symbols, &left, &right)?,
        _ if left.is_constant() && right.is_constant() => Tensor::constant(None),
        // Weights of unknown shape are a matrix all the same.
        (Some(left), None) if right.is_constant() => {
            let matrix = Tensor::new(vec![call.symbols.fresh(), call.symbols.fresh()], None);
            multiplied(call.symbols, &left, &matrix)?
        }
        _ => return Err("the shape of a matrix is not known".to_owned()),
    };
    match call.given(bias) {
        Some(bias) => one(call.broadcast(&[&product, bias])?),
        None => one(product),
    }
}

/// Sums over letters that the output lacks; the batch has one letter everywhere.
fn einsum(call: &mut Call<'_>) -> Derived {
    let equation: String = call.node.text("equation").unwrap_or_default().replace(' ', "");
    let (operands, output) = equation.split_once("->").ok_or("its equation names no output")?;
    let operands: Vec<&str> = operands.split(',').collect();
    if equation.contains('.') || operands.len() != call.inputs.len() {
        return Err("its equation cannot be followed".to_owned());
    }
    let mut sizes: Vec<(char, Size)> = Vec::new();
    for (at, letters) in operands.iter().enumerate() {
        let tensor = call.input(at)?;
        let dims = tensor.dims.as_ref().ok_or("the shape of one of its inputs is not known")?;
        if letters.chars().count() != dims.len() {
            return Err("its equation does not fit its inputs".to_owned());
        }
        for (place, letter) in letters.chars().enumerate() {
            let (size, before) = (&dims[place], sizes.iter().position(|(known, _)| *known == letter));
            let twice = letters.chars().filter(|other| *other == letter).count() > 1;
            match before.map(|at| sizes[at].1.clone()) {
                _ if twice && size.rows => return Err("it takes the diagonal of the batch".to_owned()),
                None => sizes.push((letter, size.clone())),
                Some(known) if known == *size => {}
                Some(known) if known.rows || size.rows => {
                    return Err("rows of one input meet another dimension".to_owned());
                }
                Some(_) => {
                    if let Some(at) = before {
                        sizes[at].1 = call.symbols.fresh();
                    }
                }
            }
        }
    }
    let batches: Vec<char> = sizes.iter().filter(|(_, size)| size.rows).map(|(letter, _)| *letter).collect();
    match batches.as_slice() {
        [] => {}
        [letter] if output.chars().filter(|other| other == letter).count() == 1 => {}
        [_] => return Err(contracted()),
        _ => return Err("rows of one input meet all rows of another".to_owned()),
    }
    let size = |letter: char| sizes.iter().find(|(known, _)| *known == letter).map(|(_, size)| size.clone());
    let dims: Option<Vec<Size>> = output.chars().map(size).collect();
    let dims = dims.ok_or("its output names a letter that no input has")?;
    let rows = dims.iter().position(|size| size.rows);
    one(Tensor::new(dims, rows))
}
