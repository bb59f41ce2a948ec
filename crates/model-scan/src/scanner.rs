//! One scan: its findings and budget, and the way from a file to the formats that it can be read as.

use std::{
    collections::BTreeSet,
    io::{self, Read, Seek},
};

use crate::{
    compressed,
    input::Input,
    npy, path,
    pickle::{self, Fault},
    policy::Policy,
    report::{Code, Counts, Finding, Format, MAX_FINDINGS, MAX_REPORTED_GLOBALS, Report, Verdict},
    safetensors, sniff, tar, zip,
};

/// Names of files that a loader unpickles or unpacks, whatever they hold.
const LOADED_SUFFIXES: &[&str] = &[
    ".pkl",
    ".pickle",
    ".joblib",
    ".pt",
    ".pth",
    ".ckpt",
    ".bin",
    ".mar",
    ".dill",
    ".cloudpickle",
    ".pk",
    ".p",
    ".sav",
    ".pt2",
    ".npy",
    ".npz",
    ".h5",
    ".hdf5",
    ".keras",
    ".nemo",
    ".safetensors",
    ".skops",
    ".tar",
    ".tgz",
    ".gz",
    ".bz2",
    ".xz",
    ".zip",
    ".whl",
];

/// A part of a file, and where it lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The way to it, for findings.
    pub(crate) path: &'a str,
    /// Its own name.
    pub(crate) name: &'a str,
    /// Archives and compressed streams around it.
    pub(crate) depth: u32,
    pub(crate) role: Role,
}

/// What a member is to the archive that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing special.
    File,
    /// The pickle of a torch archive, whose persistent ids name storages.
    TorchPickle,
    /// Bytes that the archive's loader takes for numbers, whatever they look like.
    TorchStorage,
}

/// One scan.
pub(crate) struct Scanner<'p> {
    pub(crate) policy: &'p Policy,
    pub(crate) counts: Counts,
    findings: Vec<Finding>,
    globals: BTreeSet<String>,
}

impl<'p> Scanner<'p> {
    pub(crate) fn new(policy: &'p Policy) -> Self {
        Self { policy, counts: Counts::default(), findings: Vec::new(), globals: BTreeSet::new() }
    }

    pub(crate) fn find(&mut self, code: Code, path: &str, detail: impl Into<String>) {
        self.counts.findings += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { code, path: path.to_owned(), detail: detail.into() });
        }
    }

    pub(crate) fn name_global(&mut self, name: String) {
        if self.globals.len() < MAX_REPORTED_GLOBALS {
            self.globals.insert(name);
        }
    }

    /// Counts an opcode, or says that there were too many.
    pub(crate) fn count_opcode(&mut self) -> Result<(), Fault> {
        self.counts.opcodes += 1;
        let limit = self.policy.limits.opcodes;
        if self.counts.opcodes > limit {
            return Err(Fault::Limit(format!("its pickles have more than {limit} opcodes")));
        }
        Ok(())
    }

    /// Counts a member of an archive; false, with a finding, where there are too many.
    pub(crate) fn count_member(&mut self, archive: &str) -> bool {
        self.counts.members += 1;
        let limit = self.policy.limits.members;
        if self.counts.members > limit {
            self.find(Code::TooManyMembers, archive, format!("its archives have more than {limit} members"));
        }
        self.counts.members <= limit
    }

    pub(crate) fn into_report(self, format: Format) -> Report {
        let verdict = if self.counts.findings == 0 { Verdict::Safe } else { Verdict::Unsafe };
        let globals = self.globals.into_iter().collect();
        Report { format, verdict, findings: self.findings, globals, counts: self.counts }
    }

    /// Looks at a file or member as everything that a loader could take it for.
    pub(crate) fn examine(&mut self, input: &mut Input<'_>, place: Place<'_>) -> io::Result<Format> {
        if place.depth > self.policy.limits.nesting_depth {
            let limit = self.policy.limits.nesting_depth;
            self.find(Code::NestingTooDeep, place.path, format!("it lies more than {limit} archives deep"));
            return Ok(Format::Other);
        }
        let head = input.peek(0, sniff::HEAD_BYTES)?;
        let mut format = sniff::sniff(&head, input)?;
        if place.role == Role::TorchStorage && !sniff::is_certain(format) {
            format = Format::Other;
        }
        input.seek(0);
        let mut seen = self.examine_as(format, input, place)?;
        // A loader does not ask what a file looks like first, so it is tried as the others too.
        if !matches!(seen, Format::Pickle | Format::Joblib | Format::TorchLegacy) {
            input.seek(0);
            if pickle::try_scan(self, input, place.path)? && seen == Format::Other {
                seen = Format::Pickle;
            }
        }
        if format != Format::Tar && sniff::is_tar_header(&head) {
            input.seek(0);
            tar::scan(self, input, place)?;
        }
        if !sniff::begins_as_zip(&head) && zip::has_directory(input)? {
            let inner = zip::scan(self, input, place)?;
            seen = if seen == Format::Other { inner } else { seen };
        }
        if seen == Format::Other && place.role != Role::TorchStorage && is_loaded_by_name(place.name) {
            let detail =
                "its name is that of a model or an archive, but its content is of no format that is known";
            self.find(Code::CannotBeFollowed, place.path, detail);
        }
        Ok(seen)
    }

    fn examine_as(&mut self, format: Format, input: &mut Input<'_>, place: Place<'_>) -> io::Result<Format> {
        match format {
            Format::Pickle => {
                return pickle::scan(self, input, place.path, place.role == Role::TorchPickle);
            }
            Format::Zip => return zip::scan(self, input, place),
            Format::Tar => tar::scan(self, input, place)?,
            Format::Npy => npy::scan(self, input, place)?,
            Format::Safetensors => safetensors::scan(self, input, place)?,
            Format::Gzip | Format::Zlib | Format::Bzip2 | Format::Xz | Format::Lzma => {
                return compressed::scan(self, format, input, place);
            }
            Format::OtherArchive
            | Format::Hdf5
            | Format::Executable
            | Format::PythonBytecode
            | Format::Script => {
                let (code, detail) = refused(format);
                self.find(code, place.path, detail);
            }
            // The pickle of a torch archive is one whatever protocol it is written with.
            _ if place.role == Role::TorchPickle => {
                return pickle::scan(self, input, place.path, true);
            }
            _ => {}
        }
        Ok(format)
    }
}

fn is_loaded_by_name(name: &str) -> bool {
    let name = path::file_name(name).to_lowercase();
    LOADED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// Scans a whole file.
pub(crate) fn scan(name: &str, file: &mut (impl Read + Seek), policy: &Policy) -> io::Result<Report> {
    let mut scanner = Scanner::new(policy);
    let shown = path::shown(name);
    let mut input = Input::new(file)?;
    let place = Place { path: &shown, name, depth: 0, role: Role::File };
    let format = scanner.examine(&mut input, place)?;
    Ok(scanner.into_report(format))
}

/// Why a format is not followed at all.
fn refused(format: Format) -> (Code, &'static str) {
    match format {
        Format::Hdf5 => (
            Code::CannotBeFollowed,
            "it is an HDF5 file, which may hold layers of code and links to other files",
        ),
        Format::Executable => (Code::Executable, "it is a program; a model was expected"),
        Format::PythonBytecode => (Code::Executable, "it is compiled Python; a model was expected"),
        Format::Script => {
            (Code::Executable, "it is a script that names its interpreter; a model was expected")
        }
        _ => (Code::CannotBeFollowed, "it is an archive or compressed stream of a kind that is not followed"),
    }
}
