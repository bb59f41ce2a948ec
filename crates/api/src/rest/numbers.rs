//! Floating-point numbers, of which JSON has only the finite ones.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{OneOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{ObjectBuilder, RefOr};
use utoipa::{PartialSchema, ToSchema};

const NAN: &str = "NaN";
const INFINITY: &str = "Infinity";
const NEGATIVE_INFINITY: &str = "-Infinity";

/// A 64-bit float: a JSON number if it is finite, otherwise one of the strings `NaN`, `Infinity` and
/// `-Infinity`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Number(pub f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            value if value.is_finite() => serializer.serialize_f64(value),
            value if value.is_nan() => serializer.serialize_str(NAN),
            value if value > 0.0 => serializer.serialize_str(INFINITY),
            _ => serializer.serialize_str(NEGATIVE_INFINITY),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number, or one of the strings \"NaN\", \"Infinity\" and \"-Infinity\"")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Number, E> {
        Ok(Number(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Number, E> {
        Ok(Number(value as f64))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Number, E> {
        Ok(Number(value as f64))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
        match text {
            NAN => Ok(Number(f64::NAN)),
            INFINITY => Ok(Number(f64::INFINITY)),
            NEGATIVE_INFINITY => Ok(Number(f64::NEG_INFINITY)),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

impl PartialSchema for Number {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(SchemaType::new(Type::Number));
        let name = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).enum_values(Some([
            NAN,
            INFINITY,
            NEGATIVE_INFINITY,
        ]));
        OneOfBuilder::new()
            .schema_type(SchemaType::AnyValue)
            .item(number)
            .item(name)
            .description(Some("A number if it is finite, otherwise `NaN`, `Infinity` or `-Infinity`."))
            .into()
    }
}

impl ToSchema for Number {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Number")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_str, to_string};

    use super::*;

    #[test]
    fn every_float_survives_json() {
        for (number, text) in [
            (Number(0.25), "0.25"),
            (Number(-3.0), "-3.0"),
            (Number(f64::INFINITY), "\"Infinity\""),
            (Number(f64::NEG_INFINITY), "\"-Infinity\""),
        ] {
            assert_eq!(to_string(&number).unwrap(), text);
            assert_eq!(from_str::<Number>(text).unwrap(), number);
        }
        assert_eq!(to_string(&Number(f64::NAN)).unwrap(), "\"NaN\"");
        assert!(from_str::<Number>("\"NaN\"").unwrap().0.is_nan());
        assert_eq!(from_str::<Number>("7").unwrap(), Number(7.0));
        for wrong in ["\"7\"", "true", "null", "\"nan\""] {
            assert!(
                from_str::<Number>(wrong).unwrap_err().to_string().contains("expected a number"),
                "{wrong}"
            );
        }
    }
}
