//! One handler at several paths, each with its description.

use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, OpenApi, RefOr, Required, Type};

/// Describes the operations of `other` as those of `path`.
pub(crate) fn describe(document: &mut OpenApi, path: &str, other: &str) {
    let paths = &mut document.paths.paths;
    if let Some(mut item) = paths.get(path).cloned() {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            add_parameters(operation, path, other);
        }
        paths.insert(other.to_owned(), item);
    }
}

/// Describes the parameters that only the other path has.
fn add_parameters(operation: &mut Operation, path: &str, other: &str) {
    let names = other.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let added = names.filter(|name| !path.contains(&format!("{{{name}}}")));
    let added = added.map(|name| RefOr::T(parameter(name)));
    operation.parameters.get_or_insert_default().extend(added);
}

fn parameter(name: &str) -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String).build();
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(text))
        .build()
}
