//! The part of the walk that reads tensors. Of their numbers only few are kept; all of them are counted.

use super::element::{self, FLOAT, Field, INT64};
use super::external::{Entries, shown};
use super::model::Tensor;
use super::payload::{self, Payload};
use super::read::{OVERHEAD_BYTES, Reader, once};
use super::wire::{FIXED32, FIXED64, LENGTH, Source, VARINT};
use super::{Fault, malformed};

/// Files that hold weights.
const MAX_EXTERNAL_FILES: usize = 10_000;
/// Numbers of a constant that are kept: shapes and the like. Longer ones are weights.
const MAX_NUMBERS: usize = 64;
/// Largest tensor that few bytes of a file may unpack to.
pub(crate) const MAX_UNPACKED_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// Bytes of the widest element.
pub(crate) const ELEMENT_BYTES: u64 = 8;
/// Element types whose few numbers are kept: INT32, INT64 and BOOL.
const INTEGERS: [i32; 3] = [6, INT64, 9];
/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;

impl<R: Source> Reader<R> {
    /// Reads a `SparseTensorProto`; its name is that of its values, and none of its numbers are kept.
    pub(crate) fn sparse(&mut self, end: u64) -> Result<Tensor, Fault> {
        let (mut values, mut shape) = (Tensor::default(), Vec::new());
        let (mut places, mut indices) = (Tensor::default(), Vec::new());
        let mut seen = [false; 2];
        while self.wire.at < end {
            match self.wire.tag(end)? {
                (1, LENGTH) => {
                    once(true, &mut seen[0])?;
                    let inner = self.wire.enter(end)?;
                    values = self.tensor(inner)?;
                }
                (2, LENGTH) => {
                    once(true, &mut seen[1])?;
                    let inner = self.wire.enter(end)?;
                    places = self.counted(inner, Some(&mut indices))?;
                }
                (3, kind @ (VARINT | LENGTH)) => self.dimensions(kind, end, &mut shape)?,
                (_, kind) => self.wire.skip(kind, end)?,
            }
        }
        let elements = product(&shape);
        if elements.saturating_mul(ELEMENT_BYTES) > MAX_UNPACKED_BYTES {
            self.model.bomb.get_or_insert(unpacked("a sparse tensor of it unpacks to one", elements));
        }
        if let Err(why) = fits(&shape, &values, &places, &indices) {
            self.hazard(format!("its sparse tensor '{}' cannot be unpacked: {why}", shown(&values.name)));
        }
        Ok(Tensor { shape, ints: None, floats: None, ..values })
    }

    pub(crate) fn dimensions(&mut self, kind: u64, end: u64, shape: &mut Vec<i64>) -> Result<(), Fault> {
        let inner = if kind == VARINT { end } else { self.wire.enter(end)? };
        while self.wire.at < inner {
            self.keep(size_of::<i64>())?;
            shape.push(self.wire.varint(inner)?.cast_signed());
            if kind == VARINT {
                break;
            }
        }
        Ok(())
    }

    /// Reads a `TensorProto`; of its numbers only few integers or floats.
    pub(crate) fn tensor(&mut self, end: u64) -> Result<Tensor, Fault> {
        self.counted(end, None)
    }

    /// The same; `indices` gets all of its 64-bit integers.
    fn counted(&mut self, end: u64, mut indices: Option<&mut Vec<i64>>) -> Result<Tensor, Fault> {
        self.keep(size_of::<Tensor>())?;
        let (mut tensor, mut numbers) = (Tensor::default(), Numbers::default());
        let (mut payload, mut entries, mut location) = (Payload::default(), Entries::default(), 0);
        let (mut refused, mut has_raw) = (None, false);
        while self.wire.at < end {
            match self.wire.tag(end)? {
                (1, kind @ (VARINT | LENGTH)) => self.dimensions(kind, end, &mut tensor.shape)?,
                (2, VARINT) => tensor.element = self.wire.int32(end)?,
                (4, kind @ (FIXED32 | LENGTH)) => {
                    payload.count(Field::Floats, self.floats(kind, end, &mut numbers)?);
                }
                (field @ (5 | 7 | 11), kind @ (VARINT | LENGTH)) => {
                    let indices = indices.as_deref_mut().filter(|_| field == 7);
                    let kept = (field != 11).then_some(&mut numbers);
                    payload.count(integers(field), self.integers(kind, end, kept, indices)?);
                }
                (6, LENGTH) => {
                    payload.count(Field::Strings, 1);
                    self.wire.skip(LENGTH, end)?;
                }
                (8, LENGTH) => tensor.name = self.text(end)?,
                (9, LENGTH) => {
                    once(true, &mut has_raw)?;
                    payload.raw_bytes = Some(self.raw(end, &mut numbers, indices.as_deref_mut())?);
                }
                (10, FIXED64) => {
                    payload.count(Field::Doubles, 1);
                    self.wire.skip(FIXED64, end)?;
                }
                (10, LENGTH) => {
                    let inner = self.wire.enter(end)?;
                    payload.count(Field::Doubles, (inner - self.wire.at) / 8);
                    self.wire.pass(inner)?;
                }
                (13, LENGTH) => {
                    if let Err(why) = self.external(&mut entries, end)? {
                        refused.get_or_insert(why);
                    }
                }
                (14, VARINT) => location = self.wire.int32(end)?,
                (_, kind) => self.wire.skip(kind, end)?,
            }
        }
        let outside = location != 0 || !entries.is_empty();
        let checked = match refused {
            Some(why) => Err(why),
            None if outside => self.refer(&tensor, &payload, &entries, location)?,
            None => payload.check(tensor.element, &tensor.shape),
        };
        if let Err(why) = checked {
            self.hazard(format!("its tensor '{}' cannot be read: {why}", shown(&tensor.name)));
        }
        if !outside {
            numbers.put_into(&mut tensor);
        }
        self.keep(numbers_bytes(&tensor))?;
        Ok(tensor)
    }

    /// Reads an entry of `external_data`; the inner error is the reason why it is not one.
    fn external(&mut self, entries: &mut Entries, end: u64) -> Result<Result<(), String>, Fault> {
        let bytes = self.wire.bytes(end)?;
        self.keep(bytes.len() + OVERHEAD_BYTES)?;
        Ok(entries.push(&bytes))
    }

    /// Reads `int32_data`, `int64_data` or `uint64_data`, or one entry of it; gives the number of entries.
    fn integers(
        &mut self,
        kind: u64,
        end: u64,
        mut numbers: Option<&mut Numbers>,
        mut indices: Option<&mut Vec<i64>>,
    ) -> Result<u64, Fault> {
        let inner = if kind == VARINT { end } else { self.wire.enter(end)? };
        let mut entries = 0;
        while self.wire.at < inner {
            let number = self.wire.varint(inner)?.cast_signed();
            entries += 1;
            if let Some(numbers) = &mut numbers {
                numbers.ints.push(number);
            }
            if let Some(indices) = &mut indices {
                self.keep(size_of::<i64>())?;
                indices.push(number);
            }
            if kind == VARINT {
                break;
            }
        }
        Ok(entries)
    }

    /// Reads `float_data`; gives the number of its entries.
    fn floats(&mut self, kind: u64, end: u64, numbers: &mut Numbers) -> Result<u64, Fault> {
        let inner = if kind == FIXED32 { self.wire.at + 4 } else { self.wire.enter(end)? };
        let entries = (inner - self.wire.at) / 4;
        if entries > MAX_NUMBERS as u64 || numbers.is_full() {
            numbers.floats.count = usize::MAX;
            if inner > end {
                return Err(malformed("it ends within a number"));
            }
            self.wire.pass(inner)?;
        }
        while self.wire.at < inner {
            numbers.floats.push(f32::from_le_bytes(self.wire.fixed32(inner.min(end))?));
        }
        Ok(entries)
    }

    /// Reads `raw_data`; gives its length.
    fn raw(&mut self, end: u64, numbers: &mut Numbers, indices: Option<&mut Vec<i64>>) -> Result<u64, Fault> {
        let inner = self.wire.enter(end)?;
        let bytes = inner - self.wire.at;
        if let Some(indices) = indices {
            while inner - self.wire.at >= 8 {
                self.keep(size_of::<i64>())?;
                let next = self.wire.at + 8;
                let taken = self.wire.take(next)?;
                indices.extend(taken.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)));
            }
            self.wire.pass(inner)?;
        } else if bytes > (MAX_NUMBERS * size_of::<u64>()) as u64 {
            self.wire.pass(inner)?;
        } else {
            numbers.raw = Some(self.wire.take(inner)?);
        }
        Ok(bytes)
    }

    /// Takes a tensor whose numbers lie in a file.
    fn refer(
        &mut self,
        tensor: &Tensor,
        payload: &Payload,
        entries: &Entries,
        location: i32,
    ) -> Result<Result<(), String>, Fault> {
        let range = || {
            if location != EXTERNAL {
                return Err("it names a file of weights, but does not say that they lie there".to_owned());
            }
            if !payload.is_empty() {
                return Err("its numbers lie both in the model and in a file".to_owned());
            }
            let reference = entries.reference()?;
            let element = element::of(tensor.element)
                .ok_or_else(|| format!("it has the unknown element type {}", tensor.element))?;
            let elements = payload::elements(&tensor.shape)?;
            let bytes = element.packed_bytes(elements).ok_or_else(|| {
                if element.bits == 0 {
                    "strings cannot lie in a file of weights".to_owned()
                } else {
                    payload::too_large(&tensor.shape)
                }
            })?;
            let end = reference.end(bytes)?;
            Ok((reference.location, end))
        };
        match range() {
            Err(why) => Ok(Err(why)),
            Ok((location, end)) => {
                self.keep(location.len() + OVERHEAD_BYTES)?;
                let needed = self.model.external_data.entry(location).or_default();
                *needed = end.max(*needed);
                if self.model.external_data.len() > MAX_EXTERNAL_FILES {
                    return Err(malformed(format!(
                        "its weights lie in more than {MAX_EXTERNAL_FILES} files"
                    )));
                }
                Ok(Ok(()))
            }
        }
    }
}

const fn integers(field: u64) -> Field {
    match field {
        5 => Field::Ints,
        7 => Field::Longs,
        _ => Field::Unsigned,
    }
}

/// Whether the parts of a sparse tensor fit each other. Runtimes write each value where its index says: one
/// beyond the shape is a write beyond the tensor's memory.
fn fits(shape: &[i64], values: &Tensor, places: &Tensor, indices: &[i64]) -> Result<(), String> {
    let elements = payload::elements(shape)?;
    let [count] = values.shape.as_slice() else {
        return Err(format!("its values have the shape {:?}; expected one dimension", values.shape));
    };
    if places.element != INT64 {
        return Err("its indices are not INT64".to_owned());
    }
    let columns = match places.shape.as_slice() {
        [rows] if rows == count => None,
        [rows, columns] if rows == count && usize::try_from(*columns) == Ok(shape.len()) => Some(shape.len()),
        other => return Err(format!("its indices have the shape {other:?} for {count} values")),
    };
    let expected = payload::elements(&places.shape)?;
    if indices.len() as u64 != expected {
        return Err(format!("it holds {} indices; expected {expected}", indices.len()));
    }
    let linear = [i64::try_from(elements).unwrap_or(i64::MAX)];
    let limits = if columns.is_some() { shape } else { &linear[..] };
    // Without dimensions there is nothing to count by.
    let beyond =
        indices.iter().zip(limits.iter().cycle()).find(|(index, limit)| !(0..**limit).contains(*index));
    match beyond {
        Some((index, limit)) => Err(format!("the index {index} is not below {limit}")),
        None => Ok(()),
    }
}

/// The numbers of a tensor while it is read.
#[derive(Default)]
struct Numbers {
    ints: Few<i64>,
    floats: Few<f32>,
    raw: Option<Vec<u8>>,
}

/// Numbers of a tensor; those beyond the largest shape are counted and not kept.
struct Few<T> {
    kept: Vec<T>,
    count: usize,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), count: 0 }
    }
}

impl<T> Few<T> {
    fn push(&mut self, number: T) {
        if self.kept.len() < MAX_NUMBERS {
            self.kept.push(number);
        }
        self.count = self.count.saturating_add(1);
    }

    /// All of them, where there are `expected`.
    fn whole(self, expected: usize) -> Option<Vec<T>> {
        (self.count == expected && self.kept.len() == expected).then_some(self.kept)
    }
}

impl Numbers {
    fn is_full(&self) -> bool {
        self.floats.kept.len() >= MAX_NUMBERS
    }

    fn put_into(self, tensor: &mut Tensor) {
        let Ok(expected) = usize::try_from(product(&tensor.shape)) else { return };
        if expected > MAX_NUMBERS {
            return;
        }
        if tensor.element == FLOAT {
            let of_raw = |raw: Vec<u8>| {
                raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<f32>>()
            };
            let floats = self.raw.map(of_raw).filter(|floats| floats.len() == expected);
            tensor.floats = floats.or_else(|| self.floats.whole(expected));
        } else if INTEGERS.contains(&tensor.element) {
            let ints = self.raw.and_then(|raw| ints_of(tensor.element, &raw));
            let ints = ints.filter(|ints| ints.len() == expected);
            tensor.ints = ints.or_else(|| self.ints.whole(expected));
        }
    }
}

fn ints_of(element: i32, raw: &[u8]) -> Option<Vec<i64>> {
    match element {
        6 => Some(raw.as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes).into()).collect()),
        7 => Some(raw.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()),
        9 => Some(raw.iter().map(|byte| i64::from(*byte)).collect()),
        _ => None,
    }
}

fn numbers_bytes(tensor: &Tensor) -> usize {
    let count = tensor.ints.as_ref().map_or(0, Vec::len) + tensor.floats.as_ref().map_or(0, Vec::len);
    count * size_of::<i64>()
}

/// Elements of a tensor of this shape; dimensions below 0 count as 1.
pub(crate) fn product(shape: &[i64]) -> u64 {
    shape.iter().fold(1_u64, |product, size| product.saturating_mul(u64::try_from(*size).unwrap_or(1)))
}

pub(crate) fn unpacked(what: &str, elements: u64) -> String {
    format!("{what} of {elements} elements, more than {MAX_UNPACKED_BYTES} bytes hold")
}
