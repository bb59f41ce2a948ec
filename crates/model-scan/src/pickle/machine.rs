//! The pickle machine with its stack, marks and memo, on symbolic values: every opcode has the effect on the stack that
//! `Modules/_pickle.c` gives it, and no import or call is ever carried out.
//!
//! Where CPython would certainly raise, the machine stops with [`Fault::Malformed`]; where it might go on, so does the
//! machine. A pickle that CPython can run is therefore never left early.

use std::collections::{BTreeSet, HashMap};

use super::{
    opcode::{Fault, Names, Op, malformed},
    torch,
    value::{ArrayLayout, Value, Values},
};
use crate::{
    globals::{self, Use},
    listed::Permission,
    policy::Policy,
    report::Code,
};

/// Values on the stack at once.
const MAX_STACK: usize = 8 * 1024 * 1024;
/// Findings of one pickle beyond this many are left out.
const MAX_NOTES: usize = 100;
/// Imports of one pickle beyond this many are not named.
const MAX_NAMED_IMPORTS: usize = 1_000;
/// What all copies of a machine's state may take together, one after another.
const MAX_FORKED_BYTES: usize = 4 * 1024 * 1024 * 1024;
/// Codecs that turn text into bytes and do nothing else.
const PLAIN_CODECS: &[&str] = &["latin1", "latin-1", "iso-8859-1", "ascii", "utf-8", "utf8"];
/// Classes of Python itself that an instance can be based on.
const PLAIN_BASES: &[&str] = &["builtins.object", "builtins.dict", "builtins.list", "builtins.tuple"];
/// A call such as `bytearray(n)` may ask for this many bytes.
const MAX_REQUESTED_BYTES: i64 = 16 * 1024 * 1024;

/// What the reader of the file has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    Stop,
    /// joblib reads an array from the file here.
    Array(ArrayLayout),
}

/// How far what was seen lets a pickle run code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Acts {
    pub(super) imports: bool,
    pub(super) calls: bool,
    pub(super) dangerous: bool,
}

/// The state of one pickle.
#[derive(Clone)]
pub(super) struct Machine<'p> {
    policy: &'p Policy,
    /// Whether persistent ids name torch's storages.
    torch: bool,
    stack: Vec<Value>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    values: Values,
    pub(super) notes: Vec<(Code, String)>,
    pub(super) named: BTreeSet<String>,
    pub(super) acts: Acts,
    /// Bytes that torch's storages take in an old file, by their key.
    pub(super) storages: HashMap<Box<str>, u64>,
    pub(super) is_torch_magic: bool,
    pub(super) has_arrays: bool,
    forked_bytes: usize,
}

impl<'p> Machine<'p> {
    pub(super) fn new(policy: &'p Policy, torch: bool) -> Self {
        Self {
            policy,
            torch,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            values: Values::default(),
            notes: Vec::new(),
            named: BTreeSet::new(),
            acts: Acts::default(),
            storages: HashMap::new(),
            is_torch_magic: false,
            has_arrays: false,
            forked_bytes: 0,
        }
    }

    /// A machine in the same state, to try something with. All of them together cost a bounded amount.
    pub(super) fn fork(&mut self) -> Result<Self, Fault> {
        self.forked_bytes += self.values.used_bytes() + size_of_val(self.stack.as_slice());
        if self.forked_bytes > MAX_FORKED_BYTES {
            return Err(Fault::Limit("too many of its arrays hold bytes that read as imports".to_owned()));
        }
        Ok(Self { notes: Vec::new(), ..self.clone() })
    }

    pub(super) fn note(&mut self, code: Code, detail: impl Into<String>) {
        self.acts.dangerous |= code == Code::DangerousGlobal;
        if self.notes.len() < MAX_NOTES {
            self.notes.push((code, detail.into()));
        }
    }

    /// Carries out one opcode.
    pub(super) fn step(&mut self, op: Op) -> Result<Flow, Fault> {
        match op {
            Op::Proto | Op::Frame(_) => {}
            Op::Mark => {
                self.values.charge(0)?;
                self.marks.push(self.stack.len());
            }
            Op::Stop => {
                self.is_torch_magic = self.pop()? == Value::TorchMagic;
                return Ok(Flow::Stop);
            }
            Op::None => self.push(Value::None)?,
            Op::Bool(value) => self.push(Value::Bool(value))?,
            Op::Int(value) => self.push(value.map_or(Value::Opaque, Value::Int))?,
            Op::TorchMagic => self.push(Value::TorchMagic)?,
            Op::Opaque | Op::EmptyList | Op::EmptySet => self.push(Value::Opaque)?,
            Op::Text(None) => self.push(Value::Opaque)?,
            Op::Text(Some(text)) => {
                let text = self.values.new_text(text)?;
                self.push(text)?;
            }
            Op::EmptyDict => {
                let dict = self.values.new_dict()?;
                self.push(dict)?;
            }
            Op::Pop | Op::PopMark | Op::Dup | Op::Get(_) | Op::Put(_) | Op::Memoize => self.rearrange(op)?,
            Op::TupleOf(_) | Op::Tuple | Op::List | Op::Dict | Op::FrozenSet => self.collect(op)?,
            Op::Append | Op::Appends | Op::SetItem | Op::SetItems | Op::AddItems => self.fill(op)?,
            Op::Global(names) => self.import(names)?,
            Op::StackGlobal => {
                let (name, module) = (self.pop()?, self.pop()?);
                let names = self.values.text(module).zip(self.values.text(name));
                let names = names.map(|(module, name)| (module.into(), name.into()));
                self.import(names)?;
            }
            Op::Inst(_) | Op::Obj | Op::Reduce | Op::NewObj | Op::NewObjEx => self.call(op)?,
            Op::Build => return self.build(),
            Op::Extension(_)
            | Op::PersistentLine(_)
            | Op::PersistentStack
            | Op::NextBuffer
            | Op::ReadonlyBuffer => {
                self.ask_process(op)?;
            }
        }
        Ok(Flow::Continue)
    }

    fn push(&mut self, value: Value) -> Result<(), Fault> {
        if self.stack.len() >= MAX_STACK {
            return Err(Fault::Limit(format!("its stack holds more than {MAX_STACK} values")));
        }
        self.stack.push(value);
        Ok(())
    }

    /// The height below which nothing may be taken: that of the last mark.
    fn fence(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Value, Fault> {
        match self.stack.last() {
            Some(value) if self.stack.len() > self.fence() => Ok(*value),
            _ => Err(malformed("it takes a value from an empty stack")),
        }
    }

    fn pop(&mut self) -> Result<Value, Fault> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    /// The values above the last mark, which goes too.
    fn pop_to_mark(&mut self) -> Result<Vec<Value>, Fault> {
        let height = self.marks.pop().ok_or_else(|| malformed("it looks for a mark where there is none"))?;
        Ok(self.stack.split_off(height.min(self.stack.len())))
    }

    fn rearrange(&mut self, op: Op) -> Result<(), Fault> {
        match op {
            Op::Pop if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
            }
            Op::Pop => {
                self.pop()?;
            }
            Op::PopMark => {
                self.pop_to_mark()?;
            }
            Op::Dup => {
                let value = self.top()?;
                self.push(value)?;
            }
            Op::Get(key) => match self.memo.get(&key).copied() {
                Some(value) => self.push(value)?,
                None => {
                    return Err(malformed(format!(
                        "it reads place {key} of the memo, which was never written"
                    )));
                }
            },
            Op::Put(key) => self.remember(key)?,
            _ => self.remember(self.memo.len() as u64)?,
        }
        Ok(())
    }

    fn remember(&mut self, key: u64) -> Result<(), Fault> {
        let value = self.top()?;
        if self.memo.insert(key, value).is_none() {
            self.values.charge(0)?;
        }
        Ok(())
    }

    /// Values become parts of another one.
    fn keep(&mut self, items: &[Value]) {
        for item in items {
            if self.use_of(*item) == Some(Use::Listed(Permission::Instance)) {
                let shown = self.shown(*item);
                let detail = format!("it refers to `{shown}`, of which a pickle may only make instances");
                self.note(Code::CallNotFollowed, detail);
            }
        }
    }

    /// What the policy lets a pickle do with an imported global.
    fn use_of(&self, value: Value) -> Option<Use> {
        let (module, name) = self.values.global(value)?;
        globals::use_of(self.policy, module, name)
    }

    fn shown(&self, value: Value) -> String {
        let (module, name) = self.values.global(value).unwrap_or_default();
        crate::path::shown(&globals::canonical(module, name))
    }

    fn collect(&mut self, op: Op) -> Result<(), Fault> {
        let made = match op {
            Op::TupleOf(count) => {
                let mut items = Vec::with_capacity(count);
                for _ in 0..count {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.keep(&items);
                self.values.new_tuple(&items)?
            }
            Op::Tuple => {
                let items = self.pop_to_mark()?;
                self.keep(&items);
                self.values.new_tuple(&items)?
            }
            Op::Dict => {
                let items = self.pop_to_mark()?;
                self.keep(&items);
                let dict = self.values.new_dict()?;
                self.set_items(dict, &items)?;
                dict
            }
            _ => {
                let items = self.pop_to_mark()?;
                self.keep(&items);
                Value::Opaque
            }
        };
        self.push(made)
    }

    fn set_items(&mut self, dict: Value, items: &[Value]) -> Result<(), Fault> {
        items.chunks_exact(2).try_for_each(|pair| self.values.set_item(dict, pair[0], pair[1]))
    }

    fn fill(&mut self, op: Op) -> Result<(), Fault> {
        let items = match op {
            Op::Append => vec![self.pop()?],
            Op::SetItem => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_to_mark()?,
        };
        let target = self.top()?;
        self.keep(&items);
        if self.values.has_state(target) && !matches!(op, Op::SetItem | Op::SetItems) {
            // A state can put a function where the method is expected.
            self.note(Code::CallNotFollowed, "it adds items to an object after it set the object's state");
        }
        // Appending calls a method of the target; that of an imported object itself is none that data needs.
        if matches!(target, Value::Global(_) | Value::ArrayWrapper(_) | Value::Dtype(_)) && !items.is_empty()
        {
            self.note(
                Code::CallNotFollowed,
                "it adds items to an imported object; a list, dict or set was expected",
            );
        }
        if matches!(op, Op::SetItem | Op::SetItems) {
            self.set_items(target, &items)?;
        }
        Ok(())
    }

    fn import(&mut self, names: Names) -> Result<(), Fault> {
        self.acts.imports = true;
        let Some((module, name)) = names else {
            let detail =
                "it imports a name that it computes, or that is too long; two constant strings were expected";
            self.note(Code::CallNotFollowed, detail);
            return self.push(Value::Opaque);
        };
        if self.named.len() < MAX_NAMED_IMPORTS {
            self.named.insert(globals::canonical(&module, &name));
        }
        if let Some((code, detail)) = globals::judge(self.policy, &module, &name) {
            self.note(code, detail);
        }
        let global = self.values.new_global(&module, &name)?;
        self.push(global)
    }

    fn call(&mut self, op: Op) -> Result<(), Fault> {
        let is_new = matches!(op, Op::NewObj | Op::NewObjEx);
        let (callable, arguments) = match op {
            Op::Reduce | Op::NewObj => {
                let arguments = self.pop()?;
                (self.pop()?, arguments)
            }
            Op::NewObjEx => {
                self.pop()?;
                let arguments = self.pop()?;
                (self.pop()?, arguments)
            }
            Op::Inst(names) => {
                let items = self.pop_to_mark()?;
                self.import(names)?;
                (self.pop()?, self.values.new_tuple(&items)?)
            }
            _ => {
                let items = self.pop_to_mark()?;
                let (first, rest) =
                    items.split_first().ok_or_else(|| malformed("it makes an object without its class"))?;
                (*first, self.values.new_tuple(rest)?)
            }
        };
        self.acts.calls = true;
        let made = self.construct(callable, arguments, is_new)?;
        self.push(made)
    }

    fn construct(&mut self, callable: Value, arguments: Value, is_new: bool) -> Result<Value, Fault> {
        let Some((module, name)) = self.values.global(callable) else {
            let detail = "it calls a value that it computes; an imported global was expected";
            self.note(Code::CallNotFollowed, detail);
            return Ok(Value::Opaque);
        };
        let full = globals::canonical(module, name);
        let first = self.values.tuple(arguments).and_then(|items| items.first().copied());
        let used = globals::use_of(self.policy, module, name);
        self.keep(&[arguments]);
        if let Some(used) = used {
            self.check_call(used, &full, arguments, is_new);
        }
        match full.as_str() {
            "numpy.dtype" if !is_new => return self.values.new_dtype(arguments),
            "joblib.numpy_pickle.NumpyArrayWrapper" => {
                if !is_new || self.values.tuple(arguments) != Some(&[]) {
                    self.note(
                        Code::CallNotFollowed,
                        "it makes an array wrapper of joblib in a way that joblib does not",
                    );
                }
                return self.values.new_wrapper();
            }
            "numpy.core.multiarray.scalar"
                if first.and_then(|first| self.values.dtype(first)).is_none_or(|dtype| dtype.has_objects) =>
            {
                // Of objects, it gives back its argument, which may be the name for an import.
                self.note(
                    Code::CallNotFollowed,
                    "it makes a numpy scalar of a dtype that holds objects or is not known",
                );
            }
            "_codecs.encode" => {
                let codec = self.values.tuple(arguments).and_then(|items| self.values.text(*items.get(1)?));
                if !codec.is_some_and(|codec| PLAIN_CODECS.contains(&codec)) {
                    let detail = "it calls `_codecs.encode` with something else than a plain text codec such as latin1";
                    self.note(Code::CallNotFollowed, detail);
                }
            }
            "builtins.bytearray" | "builtins.bytes" => {
                if matches!(first, Some(Value::Int(count)) if count > MAX_REQUESTED_BYTES) {
                    let detail = format!(
                        "it asks for more than {MAX_REQUESTED_BYTES} bytes of memory by their number"
                    );
                    self.note(Code::LimitExceeded, detail);
                }
            }
            _ => {}
        }
        self.values.new_instance()
    }

    /// Holds a call against what the global may be used for.
    fn check_call(&mut self, used: Use, full: &str, arguments: Value, is_new: bool) {
        let shown = crate::path::shown(full);
        let detail = match used {
            Use::Any | Use::Listed(Permission::Call) => return,
            Use::Listed(Permission::Class | Permission::Instance) if is_new => return,
            Use::Reconstruct if !is_new && self.is_reconstruction(arguments) => return,
            Use::DefaultDict if self.is_default(arguments) => return,
            Use::Listed(Permission::Class | Permission::Instance) => {
                format!(
                    "it calls `{shown}`, of which a pickle may only make instances without its constructor"
                )
            }
            Use::Listed(Permission::Reference) => {
                format!("it calls `{shown}`, which a pickle may only refer to")
            }
            Use::Reconstruct => {
                format!("it calls `{shown}` with something else than a listed class and its base")
            }
            Use::DefaultDict => format!("it calls `{shown}` with something else than a listed class"),
        };
        self.note(Code::CallNotFollowed, detail);
    }

    /// Whether arguments are `(class, base, state)`, with a listed class and a base of Python's own.
    fn is_reconstruction(&self, arguments: Value) -> bool {
        let Some(&[class, base, _]) = self.values.tuple(arguments) else { return false };
        let base = self.values.global(base).map(|(module, name)| globals::canonical(module, name));
        self.is_class(class) && base.is_some_and(|base| PLAIN_BASES.contains(&base.as_str()))
    }

    /// Whether arguments are nothing, or a listed class, which is made where a key is missing.
    fn is_default(&self, arguments: Value) -> bool {
        match self.values.tuple(arguments) {
            Some([]) => true,
            Some([class]) => *class == Value::None || self.is_class(*class),
            _ => false,
        }
    }

    fn is_class(&self, value: Value) -> bool {
        matches!(self.use_of(value), Some(Use::Any | Use::Listed(Permission::Class)))
    }

    fn build(&mut self) -> Result<Flow, Fault> {
        let state = self.pop()?;
        let target = self.top()?;
        self.acts.calls = true;
        self.keep(&[state]);
        if self.values.has_state(target) {
            // The first state can put a function where the second one looks for `__setstate__`.
            self.note(Code::CallNotFollowed, "it sets the state of an object twice");
        }
        self.values.set_state(target);
        match target {
            Value::Global(_) => {
                let detail = "it changes the attributes of an imported object; an instance was expected";
                self.note(Code::CallNotFollowed, detail);
            }
            Value::Dtype(_) if !self.values.build_dtype(target, state) => {
                let detail = "it gives a numpy dtype a state that numpy does not write";
                self.note(Code::CallNotFollowed, detail);
            }
            Value::ArrayWrapper(_) => {
                self.has_arrays = true;
                return self.values.build_wrapper(target, state).map(Flow::Array);
            }
            _ => {}
        }
        Ok(Flow::Continue)
    }

    /// joblib puts the array where its wrapper was.
    pub(super) fn array_was_read(&mut self) {
        if let Some(top) = self.stack.last_mut() {
            *top = Value::Opaque;
        }
    }

    /// Takes over what a pickle within this one did.
    pub(super) fn absorb(&mut self, inner: Machine<'_>) {
        for (code, detail) in inner.notes {
            self.note(code, detail);
        }
        self.named.extend(inner.named);
        self.acts.imports |= inner.acts.imports;
        self.acts.calls |= inner.acts.calls;
        self.has_arrays |= inner.has_arrays;
    }

    fn ask_process(&mut self, op: Op) -> Result<(), Fault> {
        match op {
            Op::Extension(code) => {
                self.acts.imports = true;
                let detail = format!(
                    "it imports extension {code} of the process's registry, which is not in the file"
                );
                self.note(Code::ExtensionCode, detail);
            }
            Op::PersistentLine(id) => {
                let detail = format!("it asks its loader for the object `{}`", crate::path::shown(&id));
                self.note(Code::PersistentId, detail);
            }
            Op::PersistentStack => {
                let id = self.pop()?;
                match torch::storage(&self.values, id).filter(|_| self.torch) {
                    Some((key, bytes)) => {
                        self.values.charge(key.len())?;
                        self.storages.insert(key, bytes);
                    }
                    None => {
                        let detail = "it asks its loader for an object that is no storage of a torch file";
                        self.note(Code::PersistentId, detail);
                    }
                }
            }
            _ => {
                if op == Op::ReadonlyBuffer {
                    self.pop()?;
                }
                self.note(Code::CannotBeFollowed, "it takes a buffer from outside the file");
            }
        }
        self.push(Value::Opaque)
    }
}
