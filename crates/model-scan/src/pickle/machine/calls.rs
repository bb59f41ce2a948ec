//! Imports, and the calls that make objects.

use super::{
    super::{
        opcode::{Fault, Names, Op, malformed},
        value::Value,
    },
    Machine,
};
use crate::{
    globals::{self, Use},
    listed::Permission,
    report::Code,
};

/// Imports of one pickle beyond this many are not named.
const MAX_NAMED_IMPORTS: usize = 1_000;
/// Codecs that turn text into bytes and do nothing else.
const PLAIN_CODECS: &[&str] = &["latin1", "latin-1", "iso-8859-1", "ascii", "utf-8", "utf8"];
/// Classes of Python itself that an instance can be based on.
const PLAIN_BASES: &[&str] = &["builtins.object", "builtins.dict", "builtins.list", "builtins.tuple"];
/// A call such as `bytearray(n)` may ask for this many bytes.
const MAX_REQUESTED_BYTES: i64 = 16 * 1024 * 1024;

impl<'p> Machine<'p> {
    pub(super) fn import(&mut self, names: Names) -> Result<(), Fault> {
        self.acts.imports = true;
        let Some((module, name)) = names else {
            let detail =
                "it imports a name that it computes, or that is too long; two constant strings were expected";
            self.note(Code::CallNotFollowed, detail);
            return self.push(Value::Opaque);
        };
        self.acts.importable |= globals::is_importable(&module);
        if self.named.len() < MAX_NAMED_IMPORTS {
            self.named.insert(globals::canonical(&module, &name));
        }
        if let Some((code, detail)) = globals::judge(self.policy, &module, &name) {
            self.note(code, detail);
        }
        let global = self.values.new_global(&module, &name)?;
        self.push(global)
    }

    pub(super) fn call(&mut self, op: Op) -> Result<(), Fault> {
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

    pub(super) fn construct(
        &mut self,
        callable: Value,
        arguments: Value,
        is_new: bool,
    ) -> Result<Value, Fault> {
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
                    let detail = "it calls `_codecs.encode` with something else than a plain text codec such \
                        as latin1";
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
    pub(super) fn check_call(&mut self, used: Use, full: &str, arguments: Value, is_new: bool) {
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
    pub(super) fn is_reconstruction(&self, arguments: Value) -> bool {
        let Some(&[class, base, _]) = self.values.tuple(arguments) else { return false };
        let base = self.values.global(base).map(|(module, name)| globals::canonical(module, name));
        self.is_class(class) && base.is_some_and(|base| PLAIN_BASES.contains(&base.as_str()))
    }

    /// Whether arguments are nothing, or a listed class, which is made where a key is missing.
    pub(super) fn is_default(&self, arguments: Value) -> bool {
        match self.values.tuple(arguments) {
            Some([]) => true,
            Some([class]) => *class == Value::None || self.is_class(*class),
            _ => false,
        }
    }

    pub(super) fn is_class(&self, value: Value) -> bool {
        matches!(self.use_of(value), Some(Use::Any | Use::Listed(Permission::Class)))
    }
}
