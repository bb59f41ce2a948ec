//! The pickle machine with its stack, marks and memo, on symbolic values: every opcode has the effect on the
//! stack that `Modules/_pickle.c` gives it, and no import or call is ever carried out.
//!
//! Where CPython would certainly raise, the machine stops with [`Fault::Malformed`]; where it might go on, so
//! does the machine. A pickle that CPython can run is therefore never left early.

mod calls;
mod containers;
mod state;

use std::collections::{BTreeSet, HashMap};

use super::{
    opcode::{Fault, Op, malformed},
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
/// What all copies of a machine's state may take together, one after another.
const MAX_FORKED_BYTES: usize = 4 * 1024 * 1024 * 1024;

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
    /// It imports from a module that is there wherever models are loaded.
    pub(super) importable: bool,
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

    /// What the policy lets a pickle do with an imported global.
    fn use_of(&self, value: Value) -> Option<Use> {
        let (module, name) = self.values.global(value)?;
        globals::use_of(self.policy, module, name)
    }

    fn shown(&self, value: Value) -> String {
        let (module, name) = self.values.global(value).unwrap_or_default();
        crate::path::shown(&globals::canonical(module, name))
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

    /// joblib puts the array where its wrapper was.
    pub(super) fn array_was_read(&mut self) {
        if let Some(top) = self.stack.last_mut() {
            *top = Value::Opaque;
        }
    }
}
