//! The persistent ids of `torch.save`: `("storage", type, key, location, number of elements)`, from
//! `torch/serialization.py`.

use super::value::{Value, Values};

/// Types of storage with the bytes of an element.
const STORAGES: &[(&str, &str, u64)] = &[
    ("torch", "BFloat16Storage", 2),
    ("torch", "BoolStorage", 1),
    ("torch", "ByteStorage", 1),
    ("torch", "CharStorage", 1),
    ("torch", "ComplexDoubleStorage", 16),
    ("torch", "ComplexFloatStorage", 8),
    ("torch", "DoubleStorage", 8),
    ("torch", "FloatStorage", 4),
    ("torch", "HalfStorage", 2),
    ("torch", "IntStorage", 4),
    ("torch", "LongStorage", 8),
    ("torch", "QInt32Storage", 4),
    ("torch", "QInt8Storage", 1),
    ("torch", "QUInt8Storage", 1),
    ("torch", "ShortStorage", 2),
    ("torch.storage", "UntypedStorage", 1),
];

/// The key and the bytes of the storage that a persistent id names; none where it names something else.
pub(super) fn storage(values: &Values, id: Value) -> Option<(Box<str>, u64)> {
    let &[kind, class, key, _location, Value::Int(elements), ..] = values.tuple(id)? else { return None };
    let (module, name) = values.global(class)?;
    let (_, _, item_bytes) = STORAGES.iter().find(|storage| (storage.0, storage.1) == (module, name))?;
    let bytes = u64::try_from(elements).ok()?.checked_mul(*item_bytes)?;
    (values.text(kind)? == "storage").then_some((values.text(key)?.into(), bytes))
}
