//! What a scan knows of the values that a pickle would build: constants, imports, and the few objects whose
//! content decides how the file goes on.

use super::opcode::{Fault, malformed};

/// All values of one pickle that need room of their own take this much at most.
const MAX_SYMBOLIC_BYTES: usize = 256 * 1024 * 1024;
/// Entries of a tuple or dict beyond this many make it opaque.
const MAX_ENTRIES: usize = 64;
/// What a value costs besides its content.
const VALUE_OVERHEAD_BYTES: usize = 48;
/// numpy's own bound of dimensions is 64.
const MAX_DIMENSIONS: usize = 64;

/// A value on the stack or in the memo. Those with an index have their content in [`Values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// Something that holds data, of which nothing is known.
    Opaque,
    None,
    Bool(bool),
    Int(i64),
    TorchMagic,
    Text(usize),
    Global(usize),
    Tuple(usize),
    Dict(usize),
    Dtype(usize),
    ArrayWrapper(usize),
    /// What a call gave back.
    Instance(usize),
}

/// A numpy dtype, as far as it decides how many bytes an element takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dtype {
    /// None if it could not be determined.
    pub(super) item_bytes: Option<u64>,
    pub(super) kind: u8,
    pub(super) has_objects: bool,
}

/// What follows the state of a joblib array in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArrayLayout {
    /// A pickle of its own.
    Pickle,
    /// This many bytes, after a length byte and padding where `padded`.
    Bytes { count: u64, padded: bool },
}

/// A dict's entries; none once it has too many.
type Entries = Option<Vec<(Value, Value)>>;

/// The content of all values of one pickle.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    texts: Vec<Box<str>>,
    globals: Vec<(Box<str>, Box<str>)>,
    tuples: Vec<Box<[Value]>>,
    dicts: Vec<Entries>,
    dtypes: Vec<Dtype>,
    /// Whether the wrapper got its state.
    wrappers: Vec<bool>,
    /// Whether the instance got its state.
    instances: Vec<bool>,
    used_bytes: usize,
}

impl Values {
    /// Makes room, or says that there is none left.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), Fault> {
        self.used_bytes = self.used_bytes.saturating_add(bytes + VALUE_OVERHEAD_BYTES);
        if self.used_bytes > MAX_SYMBOLIC_BYTES {
            return Err(Fault::Limit(format!(
                "its values take more than {MAX_SYMBOLIC_BYTES} bytes to follow"
            )));
        }
        Ok(())
    }

    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    pub(super) fn new_text(&mut self, text: Box<str>) -> Result<Value, Fault> {
        self.charge(text.len())?;
        self.texts.push(text);
        Ok(Value::Text(self.texts.len() - 1))
    }

    pub(super) fn new_global(&mut self, module: &str, name: &str) -> Result<Value, Fault> {
        self.charge(module.len() + name.len())?;
        self.globals.push((module.into(), name.into()));
        Ok(Value::Global(self.globals.len() - 1))
    }

    pub(super) fn new_tuple(&mut self, items: &[Value]) -> Result<Value, Fault> {
        if items.len() > MAX_ENTRIES {
            return Ok(Value::Opaque);
        }
        self.charge(size_of_val(items))?;
        self.tuples.push(items.into());
        Ok(Value::Tuple(self.tuples.len() - 1))
    }

    pub(super) fn new_dict(&mut self) -> Result<Value, Fault> {
        self.charge(0)?;
        self.dicts.push(Some(Vec::new()));
        Ok(Value::Dict(self.dicts.len() - 1))
    }

    pub(super) fn new_wrapper(&mut self) -> Result<Value, Fault> {
        self.charge(0)?;
        self.wrappers.push(false);
        Ok(Value::ArrayWrapper(self.wrappers.len() - 1))
    }

    pub(super) fn new_instance(&mut self) -> Result<Value, Fault> {
        self.charge(0)?;
        self.instances.push(false);
        Ok(Value::Instance(self.instances.len() - 1))
    }

    /// Whether a value is an instance that got its state.
    pub(super) fn has_state(&self, value: Value) -> bool {
        matches!(value, Value::Instance(index) if self.instances.get(index) == Some(&true))
    }

    /// Notes that an instance gets its state.
    pub(super) fn set_state(&mut self, value: Value) {
        if let Value::Instance(index) = value
            && let Some(has_state) = self.instances.get_mut(index)
        {
            *has_state = true;
        }
    }

    pub(super) fn text(&self, value: Value) -> Option<&str> {
        match value {
            Value::Text(index) => self.texts.get(index).map(AsRef::as_ref),
            _ => None,
        }
    }

    pub(super) fn global(&self, value: Value) -> Option<(&str, &str)> {
        match value {
            Value::Global(index) => {
                self.globals.get(index).map(|(module, name)| (module.as_ref(), name.as_ref()))
            }
            _ => None,
        }
    }

    pub(super) fn tuple(&self, value: Value) -> Option<&[Value]> {
        match value {
            Value::Tuple(index) => self.tuples.get(index).map(AsRef::as_ref),
            _ => None,
        }
    }

    /// Adds an entry, where the value is a dict that is followed.
    pub(super) fn set_item(&mut self, dict: Value, key: Value, value: Value) -> Result<(), Fault> {
        let Value::Dict(index) = dict else { return Ok(()) };
        let Some(entries) = self.dicts.get_mut(index) else { return Ok(()) };
        if entries.as_ref().is_some_and(|entries| entries.len() >= MAX_ENTRIES) {
            *entries = None;
        }
        if let Some(entries) = entries {
            entries.push((key, value));
            return self.charge(size_of::<(Value, Value)>());
        }
        Ok(())
    }

    fn entries(&self, dict: Value) -> Option<&[(Value, Value)]> {
        match dict {
            Value::Dict(index) => self.dicts.get(index)?.as_deref(),
            _ => None,
        }
    }

    /// What `numpy.dtype(…)` gives for its arguments.
    pub(super) fn new_dtype(&mut self, arguments: Value) -> Result<Value, Fault> {
        let name = self.tuple(arguments).and_then(|items| items.first()).and_then(|first| self.text(*first));
        let dtype = dtype_named(name.unwrap_or_default());
        self.charge(size_of::<Dtype>())?;
        self.dtypes.push(dtype);
        Ok(Value::Dtype(self.dtypes.len() - 1))
    }

    /// Applies the state of a dtype,
    /// `(version, byte order, subarray, names, fields, item size, alignment, flags, …)`; false where the
    /// state is none that numpy writes.
    pub(super) fn build_dtype(&mut self, dtype: Value, state: Value) -> bool {
        let Value::Dtype(index) = dtype else { return false };
        let (Some(known), Some(items)) = (self.dtypes.get(index).copied(), self.tuple(state)) else {
            return false;
        };
        let &[_, _, subarray, _, fields, Value::Int(item_bytes), _, Value::Int(flags), ..] = items else {
            return false;
        };
        let mut built = known;
        if matches!(known.kind, b'S' | b'U' | b'V') && item_bytes >= 0 {
            built.item_bytes = u64::try_from(item_bytes).ok();
        }
        let (Some(subarray), Some(fields)) =
            (self.subarray_has_objects(subarray), self.fields_have_objects(fields))
        else {
            return false;
        };
        built.has_objects |= subarray | fields;
        self.dtypes[index] = built;
        // numpy believes the flags: cleared, it takes raw bytes for pointers to objects; set, joblib reads a
        // pickle.
        if built.has_objects { flags & OBJECT_FLAGS == OBJECT_FLAGS } else { flags & HOLDS_OBJECTS == 0 }
    }

    /// Whether a dtype in a tuple is of objects; none where the tuple has no dtype that is followed.
    fn tuple_has_objects(&self, tuple: Value) -> Option<bool> {
        self.dtype(*self.tuple(tuple)?.first()?).map(|dtype| dtype.has_objects)
    }

    fn subarray_has_objects(&self, subarray: Value) -> Option<bool> {
        if subarray == Value::None { Some(false) } else { self.tuple_has_objects(subarray) }
    }

    fn fields_have_objects(&self, fields: Value) -> Option<bool> {
        if fields == Value::None {
            return Some(false);
        }
        let fields = self.entries(fields)?.iter().map(|(_, field)| self.tuple_has_objects(*field));
        fields.collect::<Option<Vec<bool>>>().map(|fields| fields.contains(&true))
    }

    pub(super) fn dtype(&self, value: Value) -> Option<Dtype> {
        match value {
            Value::Dtype(index) => self.dtypes.get(index).copied(),
            _ => None,
        }
    }

    /// What follows the state of a joblib `NumpyArrayWrapper`, from `joblib/numpy_pickle.py`.
    pub(super) fn build_wrapper(&mut self, wrapper: Value, state: Value) -> Result<ArrayLayout, Fault> {
        let Value::ArrayWrapper(index) = wrapper else {
            return Err(malformed("no array wrapper gets a state"));
        };
        match self.wrappers.get_mut(index) {
            Some(built) if !*built => *built = true,
            _ => return Err(Fault::Limit("an array wrapper of joblib gets its state twice".to_owned())),
        }
        self.layout(state).ok_or_else(|| {
            let expected =
                "subclass, shape, order, dtype, allow_mmap and numpy_array_alignment_bytes, all constant";
            Fault::Limit(format!("the state of an array wrapper of joblib is not {expected}"))
        })
    }

    fn layout(&self, state: Value) -> Option<ArrayLayout> {
        let entries = self.entries(state)?;
        let (mut shape, mut dtype, mut padded) = (None, None, false);
        let mut seen = std::collections::BTreeSet::new();
        for (key, value) in entries {
            let key = self.text(*key)?;
            match (key, *value) {
                ("shape", value) => shape = Some(self.tuple(value)?),
                ("dtype", value) => dtype = Some(self.dtype(value)?),
                ("subclass", Value::Global(_))
                | ("order", Value::Text(_))
                | ("allow_mmap", Value::Bool(_)) => {}
                ("numpy_array_alignment_bytes", Value::Int(_)) => padded = true,
                ("numpy_array_alignment_bytes", Value::None) => {}
                _ => return None,
            }
            if !seen.insert(key) {
                return None;
            }
        }
        let (shape, dtype) = (shape?, dtype?);
        if dtype.has_objects {
            return matches!(dtype.kind, b'O' | b'V').then_some(ArrayLayout::Pickle);
        }
        if shape.len() > MAX_DIMENSIONS {
            return None;
        }
        let count = shape.iter().try_fold(dtype.item_bytes?, |count, side| match side {
            Value::Int(side) => count.checked_mul(u64::try_from(*side).ok()?),
            _ => None,
        })?;
        (count <= i64::MAX as u64).then_some(ArrayLayout::Bytes { count, padded })
    }
}

/// numpy's NPY_ITEM_REFCOUNT and NPY_LIST_PICKLE.
const HOLDS_OBJECTS: i64 = 0x01 | 0x02;
/// These, NPY_NEEDS_INIT and NPY_NEEDS_PYAPI: what a dtype that holds objects has.
const OBJECT_FLAGS: i64 = HOLDS_OBJECTS | 0x08 | 0x10;

/// A dtype from the string that numpy pickles it by, such as `f8` or `U12`.
fn dtype_named(name: &str) -> Dtype {
    let name = name.trim_start_matches(['<', '>', '=', '|']);
    let kind = name.bytes().next().unwrap_or(b'?');
    let width: Option<u64> =
        name.get(1..).and_then(|digits| digits.parse().ok()).filter(|width| *width < 1 << 31);
    let item_bytes = match kind {
        b'b' | b'i' | b'u' | b'f' | b'c' | b'm' | b'M' => width.filter(|width| (1..=32).contains(width)),
        b'S' | b'V' => width,
        b'U' => width.map(|width| width * 4),
        _ => None,
    };
    // What is not understood may hold objects; an array of it cannot be followed.
    Dtype { item_bytes, kind, has_objects: item_bytes.is_none() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dtype_tells_the_bytes_of_an_element() {
        assert_eq!(dtype_named("f8").item_bytes, Some(8));
        assert_eq!(dtype_named("<U3").item_bytes, Some(12));
        assert_eq!(dtype_named("O8"), Dtype { item_bytes: None, kind: b'O', has_objects: true });
        assert_eq!(dtype_named("f8,O").item_bytes, None);
        assert_eq!(dtype_named("é").item_bytes, None);
        assert_eq!(dtype_named("").item_bytes, None);
    }

    #[test]
    fn shapes_beyond_any_file_are_not_followed() {
        let mut values = Values::default();
        let name = values.new_text("f8".into()).unwrap();
        let arguments = values.new_tuple(&[name]).unwrap();
        let dtype = values.new_dtype(arguments).unwrap();
        let state = values.new_dict().unwrap();
        let shape = values.new_tuple(&[Value::Int(1 << 40), Value::Int(1 << 40)]).unwrap();
        for (key, value) in [("shape", shape), ("dtype", dtype)] {
            let key = values.new_text(key.into()).unwrap();
            values.set_item(state, key, value).unwrap();
        }
        assert_eq!(values.layout(state), None);
    }
}
