//! Conversions between types with the same fields.

/// `mirror!(Body = Domain { field, … })` converts both ways; the fields convert by `From`.
macro_rules! mirror {
    ($body:ident = $domain:path { $($field:ident),* $(,)? }) => {
        impl From<$domain> for $body {
            fn from(value: $domain) -> Self {
                let $domain { $($field),* } = value;
                Self { $($field: $field.into()),* }
            }
        }

        impl From<$body> for $domain {
            fn from(value: $body) -> Self {
                let $body { $($field),* } = value;
                Self { $($field: $field.into()),* }
            }
        }
    };
}

/// As [`mirror!`], with `field: convert` for each field that needs more than `From`. The others have the same
/// type on both sides.
macro_rules! mirror_nested {
    ($body:ident = $domain:path { $($field:ident),* $(,)? } $($nested:ident: $convert:expr),* $(,)?) => {
        impl From<$domain> for $body {
            fn from(value: $domain) -> Self {
                let $domain { $($field,)* $($nested),* } = value;
                Self { $($field,)* $($nested: $convert($nested)),* }
            }
        }

        impl From<$body> for $domain {
            fn from(value: $body) -> Self {
                let $body { $($field,)* $($nested),* } = value;
                Self { $($field,)* $($nested: $convert($nested)),* }
            }
        }
    };
}

/// As [`mirror!`], from the domain alone.
macro_rules! shown {
    ($body:ident = $domain:path { $($field:ident),* $(,)? }) => {
        impl From<$domain> for $body {
            fn from(value: $domain) -> Self {
                let $domain { $($field),* } = value;
                Self { $($field: $field.into()),* }
            }
        }
    };
}

/// `mirror_enum!(Body = Domain { Variant, … })` converts enums without data both ways.
macro_rules! mirror_enum {
    ($body:ident = $domain:path { $($variant:ident),* $(,)? }) => {
        impl From<$domain> for $body {
            fn from(value: $domain) -> Self {
                use $domain as Domain;
                match value {
                    $(Domain::$variant => Self::$variant),*
                }
            }
        }

        impl From<$body> for $domain {
            fn from(value: $body) -> Self {
                match value {
                    $($body::$variant => Self::$variant),*
                }
            }
        }
    };
}

/// Elements converted one by one.
pub(super) fn each<T, U: From<T>>(items: Vec<T>) -> Vec<U> {
    items.into_iter().map(U::from).collect()
}

/// What there is, converted.
pub(super) fn option<T, U: From<T>>(value: Option<T>) -> Option<U> {
    value.map(U::from)
}

pub(super) use {mirror, mirror_enum, mirror_nested, shown};
