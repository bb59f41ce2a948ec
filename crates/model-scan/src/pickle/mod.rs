//! Pickles, parsed opcode by opcode and never loaded: one or several after another, with what joblib and old
//! versions of torch put between and behind them.

mod machine;
mod opcode;
mod torch;
mod value;

use std::io;

use machine::{Flow, Machine};
pub(crate) use opcode::Fault;
use opcode::{Op, malformed};
use value::ArrayLayout;

use crate::{
    input::Input,
    report::{Code, Format},
    scanner::Scanner,
};

/// Opcodes that the bytes of an array are tried for.
const MAX_SHADOW_OPCODES: u32 = 4_096;
/// Pickles of an old torch file: magic number, version, system, the object, and the storages' keys.
const TORCH_LEGACY_PICKLES: u64 = 5;
/// What stands before each storage of an old torch file: its number of elements.
const TORCH_STORAGE_HEADER_BYTES: u64 = 8;

/// How a pickle ended, and what it did until then.
struct Run<'p> {
    machine: Machine<'p>,
    /// None where it reached STOP.
    fault: Option<Fault>,
}

/// How a pickle is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The file is one.
    Certain,
    /// The file may well be something else.
    Trial,
    /// joblib reads it as an array, with Python's own loader.
    Nested,
}

/// How a file came out that was tried as pickles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trial {
    /// It imports or calls something on the way, which was reported.
    Acts,
    /// It is pickles of plain data to its last byte.
    Data,
    /// It is none.
    No,
}

/// Ends of names of files that Python unpickles.
const NAME_SUFFIXES: &[&str] =
    &[".pkl", ".pickle", ".pk", ".p", ".joblib", ".dill", ".cloudpickle", ".sav", ".dat"];

/// Whether a file is one that Python unpickles, by its name.
pub(crate) fn is_name(name: &str) -> bool {
    let name = name.to_lowercase();
    NAME_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// Whether a file begins as pickles of protocol 2 and later do.
pub(crate) fn has_magic(head: &[u8]) -> bool {
    matches!(head, [0x80, 2..=5, ..])
}

/// Follows a file that is a pickle to its end, whatever comes after the first one.
pub(crate) fn scan(
    scanner: &mut Scanner<'_>,
    input: &mut Input<'_>,
    path: &str,
    torch: bool,
) -> io::Result<Format> {
    let (mut format, mut count, mut storages) = (Format::Pickle, 0, 0_u64);
    loop {
        let start = input.position();
        let legacy = format == Format::TorchLegacy;
        let run = run(scanner, input, torch || legacy, Mode::Certain)?;
        if count > 0 && run.fault.is_some() {
            commit(scanner, path, run.machine);
            let detail =
                format!("after {count} pickles, the bytes from {start} are neither a pickle nor the end");
            scanner.find(Code::TrailingBytes, path, detail);
            return Ok(format);
        }
        count += 1;
        if run.machine.has_arrays {
            format = Format::Joblib;
        } else if count == 1 && run.machine.is_torch_magic {
            format = Format::TorchLegacy;
        }
        scanner.storages.extend(run.machine.storages.clone());
        let sizes = run.machine.storages.values();
        storages = sizes
            .fold(storages, |sum, size| sum.saturating_add(size.saturating_add(TORCH_STORAGE_HEADER_BYTES)));
        let fault = run.fault.as_ref().map(ToString::to_string);
        commit(scanner, path, run.machine);
        if let Some(fault) = fault {
            let detail = format!("it is a pickle that cannot be followed to its end: {fault}");
            scanner.find(Code::CannotBeFollowed, path, detail);
            return Ok(format);
        }
        if input.remaining() == 0 {
            return Ok(format);
        }
        if format == Format::TorchLegacy && count == TORCH_LEGACY_PICKLES {
            if input.remaining() != storages {
                let left = input.remaining();
                let detail = format!("its storages take {storages} bytes, but {left} follow its pickles");
                scanner.find(Code::TrailingBytes, path, detail);
            }
            return Ok(format);
        }
    }
}

/// Tries a file of any kind as pickles. Reports what they would do where Python's loader would import or call
/// something on the way, or reach an end with something imported. Text can begin like an import by accident,
/// so where that is all there is, the module has to be one that can be imported.
pub(crate) fn try_scan(scanner: &mut Scanner<'_>, input: &mut Input<'_>, path: &str) -> io::Result<Trial> {
    loop {
        let run = run(scanner, input, false, Mode::Trial)?;
        let acts = run.machine.acts;
        let followed = match run.fault {
            None => acts.imports || acts.calls,
            Some(Fault::Limit(_)) => true,
            Some(_) => acts.dangerous || acts.importable || (acts.imports && acts.calls),
        };
        if followed {
            // Once more, from the first pickle and beyond this one.
            input.seek(0);
            scan(scanner, input, path, false)?;
            return Ok(Trial::Acts);
        }
        match run.fault {
            Some(_) => return Ok(Trial::No),
            None if input.remaining() == 0 => return Ok(Trial::Data),
            None => {}
        }
    }
}

fn commit(scanner: &mut Scanner<'_>, path: &str, machine: Machine<'_>) {
    scanner.counts.pickles += 1;
    for (code, detail) in machine.notes {
        scanner.find(code, path, detail);
    }
    for name in machine.named {
        scanner.name_global(name);
    }
}

/// Runs one pickle from the input's position.
fn run<'p>(scanner: &mut Scanner<'p>, input: &mut Input<'_>, torch: bool, mode: Mode) -> io::Result<Run<'p>> {
    let mut machine = Machine::new(scanner.policy, torch);
    let fault = match steps(&mut machine, scanner, input, mode) {
        Ok(()) => None,
        Err(Fault::Read(error)) => return Err(error),
        Err(fault) => Some(fault),
    };
    Ok(Run { machine, fault })
}

fn steps<'p>(
    machine: &mut Machine<'p>,
    scanner: &mut Scanner<'p>,
    input: &mut Input<'_>,
    mode: Mode,
) -> Result<(), Fault> {
    let mut frame_end = 0;
    loop {
        scanner.count_opcode()?;
        let op = opcode::read(input)?;
        if let Op::Frame(length) = op {
            frame_end = input.position().saturating_add(length);
            if length > input.remaining() {
                let detail = format!("it frames {length} bytes where {} are left", input.remaining());
                machine.note(Code::CannotBeFollowed, detail);
            }
        }
        if mode == Mode::Trial && matches!(op, Op::PersistentLine(_)) {
            // Python's loaders refuse it, and the first letter of a zip archive reads as one.
            return Err(malformed("it asks its loader for an object"));
        }
        match machine.step(op)? {
            Flow::Continue => {}
            Flow::Stop if frame_end > input.position() => {
                // A loader that is called again may begin behind the frame.
                return Err(Fault::Limit("it ends inside a frame".to_owned()));
            }
            Flow::Stop => return Ok(()),
            Flow::Array(_) if mode == Mode::Nested || frame_end > input.position() => {
                // joblib reads behind the frame, and not at all in a pickle within an array.
                let detail = "an array of joblib begins inside a frame or in another array's pickle";
                return Err(Fault::Limit(detail.to_owned()));
            }
            Flow::Array(layout) => {
                shadow(machine, scanner, input, layout)?;
                read_array(machine, scanner, input, layout)?;
                machine.array_was_read();
            }
        }
    }
}

/// Goes over the array that joblib would read here.
fn read_array<'p>(
    machine: &mut Machine<'p>,
    scanner: &mut Scanner<'p>,
    input: &mut Input<'_>,
    layout: ArrayLayout,
) -> Result<(), Fault> {
    let ArrayLayout::Bytes { count, padded } = layout else {
        let inner = run(scanner, input, false, Mode::Nested)?;
        scanner.counts.pickles += 1;
        machine.absorb(inner.machine);
        return inner.fault.map_or(Ok(()), Err);
    };
    if padded {
        let padding = input.byte()?.ok_or_else(|| malformed("it ends before the padding of an array"))?;
        input.skip(u64::from(padding));
    }
    let (at, left) = (input.position(), input.remaining());
    if !input.skip(count) {
        return Err(malformed(format!("the array at byte {at} takes {count} bytes, but {left} are left")));
    }
    Ok(())
}

/// Looks at the bytes of an array the way Python's own loader would: it knows nothing of joblib and takes
/// them for opcodes. Leaves the input where it was.
fn shadow<'p>(
    machine: &mut Machine<'p>,
    scanner: &mut Scanner<'p>,
    input: &mut Input<'_>,
    layout: ArrayLayout,
) -> Result<(), Fault> {
    let start = input.position();
    let is_pickle = layout == ArrayLayout::Pickle;
    let suspicious = is_pickle || could_import(scanner, input)?;
    input.seek(start);
    if !suspicious {
        return Ok(());
    }
    let mut other = machine.fork()?;
    let mut opcodes = 0;
    loop {
        scanner.count_opcode()?;
        opcodes += 1;
        // A pickle ends by itself.
        if opcodes > MAX_SHADOW_OPCODES && !is_pickle {
            return Err(Fault::Limit("the bytes of an array read as opcodes for too long".to_owned()));
        }
        let flow = match opcode::read(input) {
            Ok(op) => other.step(op),
            Err(fault) => Err(fault),
        };
        match flow {
            Ok(Flow::Stop) | Err(Fault::Malformed(_)) => break,
            Err(Fault::Limit(_)) if is_pickle => break,
            Err(fault) => return Err(fault),
            Ok(Flow::Continue | Flow::Array(_)) => {}
        }
    }
    input.seek(start);
    for (code, detail) in other.notes {
        // An honest pickle within another reads names from the other's memo, which are no modules.
        if !is_pickle || matches!(code, Code::DangerousGlobal | Code::DottedGlobal | Code::ExtensionCode) {
            machine.note(
                code,
                format!("in the bytes of an array, which Python's own loader takes for opcodes: {detail}"),
            );
        }
    }
    Ok(())
}

/// Whether bytes read as opcodes up to one that imports, or for too long to tell.
fn could_import(scanner: &mut Scanner<'_>, input: &mut Input<'_>) -> Result<bool, Fault> {
    for _ in 0..MAX_SHADOW_OPCODES {
        scanner.count_opcode()?;
        match opcode::read(input) {
            Ok(Op::Global(_) | Op::Inst(_) | Op::StackGlobal | Op::Extension(_)) => return Ok(true),
            Ok(Op::Stop) | Err(Fault::Malformed(_)) => return Ok(false),
            Err(fault) => return Err(fault),
            Ok(_) => {}
        }
    }
    Ok(true)
}
