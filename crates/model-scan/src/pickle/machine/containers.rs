//! The stack, the memo, and what tuples, lists, dicts and sets are made of.

use super::{
    super::{
        opcode::{Fault, Op, malformed},
        value::Value,
    },
    Machine,
};
use crate::report::Code;

impl<'p> Machine<'p> {
    pub(super) fn rearrange(&mut self, op: Op) -> Result<(), Fault> {
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

    pub(super) fn remember(&mut self, key: u64) -> Result<(), Fault> {
        let value = self.top()?;
        if self.memo.insert(key, value).is_none() {
            self.values.charge(0)?;
        }
        Ok(())
    }

    pub(super) fn collect(&mut self, op: Op) -> Result<(), Fault> {
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

    pub(super) fn set_items(&mut self, dict: Value, items: &[Value]) -> Result<(), Fault> {
        items.chunks_exact(2).try_for_each(|pair| self.values.set_item(dict, pair[0], pair[1]))
    }

    pub(super) fn fill(&mut self, op: Op) -> Result<(), Fault> {
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
}
