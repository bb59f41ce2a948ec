//! The state that an object gets, and what a pickle asks of the process that loads it.

use super::{
    super::{
        opcode::{Fault, Op},
        torch,
        value::Value,
    },
    Flow, Machine,
};
use crate::report::Code;

impl<'p> Machine<'p> {
    pub(super) fn build(&mut self) -> Result<Flow, Fault> {
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

    pub(super) fn ask_process(&mut self, op: Op) -> Result<(), Fault> {
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
