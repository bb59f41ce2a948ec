//! Where the columns of a profile are in a model's tensors.

use serde::{Deserialize, Serialize};

use super::{ColumnProfile, Profile};

/// Columns that a complaint names.
const MAX_NAMED: usize = 5;

/// An input of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The tensor's name.
    pub name: String,
    /// Elements of a row; `None` where that varies.
    pub width: Option<usize>,
}

/// Element `offset` of each row of tensor number `tensor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the tensor, counted from 0.
    pub tensor: usize,
    /// Element within a row, counted from 0.
    pub offset: usize,
}

impl Input {
    /// From a name and a shape of the model's signature, -1 for a dimension that varies; the first dimension
    /// counts rows.
    pub fn of_shape(name: &str, shape: &[i64]) -> Self {
        let width = shape
            .iter()
            .skip(1)
            .try_fold(1_usize, |width, size| width.checked_mul(usize::try_from(*size).ok()?));
        Self { name: name.to_owned(), width }
    }
}

/// The place of each feature; `None` where the model has none for it.
///
/// A feature that names its tensor is there. Of one tensor, the columns are the features in their order. Of
/// several, each feature is the tensor of its name; where no name fits and the widths add up, the columns of
/// all tensors are the features in their order.
pub fn places(features: &[ColumnProfile], inputs: &[Input]) -> Vec<Option<Place>> {
    let find = |name: &str| inputs.iter().position(|input| input.name == name);
    let by_name = |column: &ColumnProfile| find(&column.name).map(|tensor| Place { tensor, offset: 0 });
    let named = features.iter().any(|column| column.tensor.is_some());
    if named {
        return in_named_tensors(features, inputs);
    }
    let by_position = by_position(inputs);
    let total = inputs.iter().map(|input| input.width).sum::<Option<usize>>();
    let positional = inputs.len() == 1
        || (features.iter().all(|column| find(&column.name).is_none()) && total == Some(features.len()));
    let in_order = (0..features.len()).zip(features);
    in_order.map(|(at, column)| if positional { by_position(at) } else { by_name(column) }).collect()
}

fn in_named_tensors(features: &[ColumnProfile], inputs: &[Input]) -> Vec<Option<Place>> {
    let mut next = vec![0; inputs.len()];
    features
        .iter()
        .map(|column| {
            let name = column.tensor.as_ref().unwrap_or(&column.name);
            let tensor = inputs.iter().position(|input| input.name == *name)?;
            let offset =
                column.index.map_or(next[tensor], |index| usize::try_from(index).unwrap_or(usize::MAX));
            next[tensor] = offset.saturating_add(1);
            inputs[tensor].width.is_none_or(|width| offset < width).then_some(Place { tensor, offset })
        })
        .collect()
}

/// Place of a column among those of all inputs.
fn by_position(inputs: &[Input]) -> impl Fn(usize) -> Option<Place> {
    let widths: Vec<Option<usize>> = inputs.iter().map(|input| input.width).collect();
    move |mut offset| {
        for (tensor, width) in widths.iter().enumerate() {
            match width {
                Some(width) if offset >= *width => offset -= width,
                _ => return Some(Place { tensor, offset }),
            }
        }
        None
    }
}

/// What of a profile does not fit the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// All of it fits.
    Whole,
    /// Some columns are compared, and others are not.
    Partly(String),
    /// No column can be found.
    None(String),
}

/// Holds a profile against the model's inputs.
pub fn fit(profile: &Profile, inputs: &[Input]) -> Fit {
    if profile.features.is_empty() {
        return Fit::Whole;
    }
    let places = places(&profile.features, inputs);
    let found = places.iter().flatten().count();
    let model = describe(inputs);
    if found == 0 {
        return Fit::None(format!(
            "none of its {} features is an input of the model ({model})",
            places.len()
        ));
    }
    let lacking: Vec<&str> = profile
        .features
        .iter()
        .zip(&places)
        .filter(|(_, place)| place.is_none())
        .map(|(column, _)| column.name.as_str())
        .collect();
    if !lacking.is_empty() {
        return Fit::Partly(format!(
            "the profile does not fit the model ({model}): {} of its {} features are not compared: {}",
            lacking.len(),
            places.len(),
            listed(&lacking)
        ));
    }
    let columns = inputs.iter().map(|input| input.width).sum::<Option<usize>>();
    match columns {
        Some(columns) if columns > found => Fit::Partly(format!(
            "the profile does not fit the model ({model}): it has {found} features, and {} columns of the \
             model are not compared",
            columns - found
        )),
        _ => Fit::Whole,
    }
}

fn describe(inputs: &[Input]) -> String {
    let one = |input: &Input| match input.width {
        Some(1) => format!("`{}` with 1 column", input.name),
        Some(width) => format!("`{}` with {width} columns", input.name),
        None => format!("`{}`", input.name),
    };
    let named: Vec<String> = inputs.iter().take(MAX_NAMED).map(one).collect();
    let more = inputs.len().saturating_sub(MAX_NAMED);
    if more > 0 { format!("{} and {more} more inputs", named.join(", ")) } else { named.join(", ") }
}

/// Names for people, the first few of them.
pub fn listed(names: &[&str]) -> String {
    let more = names.len().saturating_sub(MAX_NAMED);
    let first = names.iter().take(MAX_NAMED).copied().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(names: &[&str]) -> Vec<ColumnProfile> {
        names.iter().map(|name| ColumnProfile { name: (*name).into(), ..ColumnProfile::default() }).collect()
    }

    fn inputs(widths: &[(&str, i64)]) -> Vec<Input> {
        widths.iter().map(|(name, width)| Input::of_shape(name, &[-1, *width])).collect()
    }

    fn found(features: &[ColumnProfile], inputs: &[Input]) -> Vec<Option<(usize, usize)>> {
        places(features, inputs)
            .into_iter()
            .map(|place| place.map(|place| (place.tensor, place.offset)))
            .collect()
    }

    #[test]
    fn columns_are_found_by_tensor_by_name_and_by_position() {
        let abc = features(&["a", "b", "c"]);
        assert_eq!(found(&abc, &inputs(&[("X", 3)])), [Some((0, 0)), Some((0, 1)), Some((0, 2))]);
        assert_eq!(found(&abc, &inputs(&[("X", 2)])), [Some((0, 0)), Some((0, 1)), None]);
        assert_eq!(found(&abc, &inputs(&[("X", -1)])), [Some((0, 0)), Some((0, 1)), Some((0, 2))]);
        assert_eq!(found(&abc, &inputs(&[("c", 1), ("a", 1)])), [Some((1, 0)), None, Some((0, 0))]);
        assert_eq!(
            found(&abc, &inputs(&[("num", 2), ("cat", 1)])),
            [Some((0, 0)), Some((0, 1)), Some((1, 0))]
        );
        assert_eq!(found(&abc, &inputs(&[("num", 2), ("cat", 2)])), [None, None, None]);
        let mut named = abc;
        for (column, (tensor, index)) in
            named.iter_mut().zip([("cat", None), ("num", Some(1)), ("num", Some(5))])
        {
            (column.tensor, column.index) = (Some(tensor.into()), index);
        }
        assert_eq!(found(&named, &inputs(&[("num", 3), ("cat", 1)])), [Some((1, 0)), Some((0, 1)), None]);
    }

    #[test]
    fn a_misfit_says_what_is_not_compared() {
        let profile = |names: &[&str]| Profile {
            schema: crate::drift::PROFILE_SCHEMA.into(),
            rows: 1,
            distinct_rows: None,
            features: features(names),
            predictions: Vec::new(),
        };
        assert_eq!(fit(&profile(&["a", "b"]), &inputs(&[("X", 2)])), Fit::Whole);
        assert_eq!(fit(&profile(&["a", "b"]), &inputs(&[("X", -1)])), Fit::Whole);
        let Fit::Partly(text) = fit(&profile(&["a", "b", "c"]), &inputs(&[("X", 2)])) else {
            panic!("it is too wide")
        };
        assert!(
            text.contains("`X` with 2 columns") && text.ends_with("1 of its 3 features are not compared: c")
        );
        let Fit::Partly(text) = fit(&profile(&["a"]), &inputs(&[("X", 3)])) else {
            panic!("it is too narrow")
        };
        assert!(text.contains("2 columns of the model are not compared"), "{text}");
        let Fit::None(text) = fit(&profile(&["a"]), &inputs(&[("p", 2), ("q", 3)])) else {
            panic!("nothing fits")
        };
        assert!(text.contains("`p` with 2 columns, `q` with 3 columns"), "{text}");
    }
}
