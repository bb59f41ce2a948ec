//! `ai.onnx.ml`: what scikit-learn, XGBoost and LightGBM are exported to.

use super::call::{Call, Derived, one};
use super::size::Size;
use super::value::Tensor;

pub(super) fn derive(call: &mut Call<'_>) -> Option<Derived> {
    Some(match call.node.operator.as_str() {
        "LinearClassifier" | "SVMClassifier" | "TreeEnsembleClassifier" => classifier(call),
        "LinearRegressor" | "SVMRegressor" | "TreeEnsembleRegressor" | "TreeEnsemble" => regressor(call),
        "Scaler" | "Imputer" | "Normalizer" => table(call).and_then(|tensor| one(tensor.shaped())),
        "Binarizer" | "LabelEncoder" | "CategoryMapper" => {
            call.input(0).and_then(|tensor| one(tensor.shaped()))
        }
        "OneHotEncoder" => one_hot(call),
        "ArrayFeatureExtractor" => extract(call),
        "FeatureVectorizer" => vectorize(call),
        // The runtime gets Identity in its place.
        "ZipMap" => table(call).and_then(|tensor| one(tensor.shaped())),
        _ => return None,
    })
}

/// A table of one row for each; a vector would be one row.
fn table<'call>(call: &Call<'call>) -> Result<&'call Tensor, String> {
    let tensor = call.input(0)?;
    match (tensor.axis, tensor.rank()) {
        (Some(0), Some(2)) => Ok(tensor),
        _ => Err("its input is not a table with a line for each row".to_owned()),
    }
}

fn rows_of(tensor: &Tensor) -> Size {
    tensor.dims.as_ref().and_then(|dims| dims.first().cloned()).unwrap_or_else(Size::rows)
}

fn classifier(call: &mut Call<'_>) -> Derived {
    let rows = rows_of(table(call)?);
    let lists = ["classlabels_strings", "classlabels_ints", "classlabels_int64s"];
    let classes = lists.iter().map(|name| call.node.count(name)).max().unwrap_or(0) as u64;
    // Models of one target may score two classes.
    let scores = if classes > 2 { Size::fixed(classes) } else { call.symbols.fresh() };
    let scores = if classes == 2 { Size::fixed(2) } else { scores };
    Ok(vec![Tensor::new(vec![rows.clone()], Some(0)), Tensor::new(vec![rows, scores], Some(0))])
}

fn regressor(call: &mut Call<'_>) -> Derived {
    let rows = rows_of(table(call)?);
    let targets = ["n_targets", "targets"].iter().find_map(|name| call.node.int(name));
    let fixed = targets.and_then(|targets| u64::try_from(targets).ok()).filter(|targets| *targets > 0);
    let width = match (fixed, call.node.operator.as_str()) {
        (Some(targets), _) => Size::fixed(targets),
        (None, "LinearRegressor" | "SVMRegressor" | "TreeEnsembleRegressor") => Size::fixed(1),
        (None, _) => call.symbols.fresh(),
    };
    one(Tensor::new(vec![rows, width], Some(0)))
}

/// Adds a dimension of the categories.
fn one_hot(call: &Call<'_>) -> Derived {
    let tensor = call.input(0)?;
    let categories = ["cats_int64s", "cats_strings"].iter().map(|name| call.node.count(name)).max();
    let mut sizes = tensor.dims.clone().ok_or("the shape of its input is not known")?;
    sizes.push(Size::fixed(categories.unwrap_or(0) as u64));
    one(Tensor::new(sizes, tensor.axis))
}

/// Columns by constant indices, or entries of a constant by the indices of each row.
fn extract(call: &Call<'_>) -> Derived {
    let (tensor, indices) = (call.input(0)?, call.input(1)?);
    let dims = tensor.dims.as_ref().ok_or("the shape of its input is not known")?;
    let picked = indices.dims.as_ref().ok_or("the shape of its indices is not known")?;
    let count = Size::product(picked).ok_or("its size cannot be followed")?;
    let before = dims.get(..dims.len().saturating_sub(1)).unwrap_or_default();
    let mut sizes = if before.is_empty() { vec![Size::fixed(1)] } else { before.to_vec() };
    match (tensor.axis, indices.axis) {
        (Some(rows), None) if rows + 1 < dims.len() => {
            sizes.push(count);
            one(Tensor::new(sizes, Some(rows)))
        }
        (None, Some(rows)) if picked.iter().take(rows).all(|size| size.is(1)) => {
            sizes.push(count);
            let rows = sizes.len() - 1;
            one(Tensor::new(sizes, Some(rows)))
        }
        (None, None) => {
            sizes.push(count);
            one(Tensor::new(sizes, None))
        }
        _ => Err("it picks entries across rows, or by their place in the batch".to_owned()),
    }
}

fn vectorize(call: &mut Call<'_>) -> Derived {
    let inputs = (0..call.inputs.len()).map(|at| call.input(at)).collect::<Result<Vec<_>, _>>()?;
    if inputs.iter().any(|tensor| tensor.axis != Some(0) || tensor.rank() != Some(2)) {
        return Err("its input is not a table with a line for each row".to_owned());
    }
    super::index::concatenated(call, &inputs)
}
