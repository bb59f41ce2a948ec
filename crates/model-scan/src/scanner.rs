//! One scan: its findings, and its budget of members and opcodes.

use std::collections::{BTreeSet, HashMap};

use crate::{
    context::Context,
    pickle::Fault,
    policy::Policy,
    report::{
        Code, Counts, Finding, Format, LoaderCode, MAX_FINDINGS, MAX_REPORTED_GLOBALS, Report, Verdict,
    },
};

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
    Numbers,
    /// A few characters that a torch archive says its version or byte order with.
    TorchNote,
    /// Weights that an ONNX model names, which any other loader may be pointed at too.
    Weights,
}

/// One scan.
pub(crate) struct Scanner<'p> {
    pub(crate) policy: &'p Policy,
    pub(crate) context: &'p Context,
    pub(crate) counts: Counts,
    /// The storages that torch pickles asked for, with their bytes, since this was last emptied.
    pub(crate) storages: HashMap<Box<str>, u64>,
    findings: Vec<Finding>,
    globals: BTreeSet<String>,
    verdict: Verdict,
    carries_code: bool,
}

impl<'p> Scanner<'p> {
    pub(crate) fn new(policy: &'p Policy, context: &'p Context) -> Self {
        Self {
            policy,
            context,
            counts: Counts::default(),
            storages: HashMap::new(),
            findings: Vec::new(),
            globals: BTreeSet::new(),
            verdict: Verdict::Safe,
            carries_code: false,
        }
    }

    pub(crate) fn find(&mut self, code: Code, path: &str, detail: impl Into<String>) {
        self.counts.findings += 1;
        self.verdict = self.verdict.max(code.verdict());
        self.carries_code |= code.is_code();
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
        let code = match self.verdict {
            _ if self.carries_code => LoaderCode::Present,
            Verdict::Safe => LoaderCode::None,
            _ => LoaderCode::Unknown,
        };
        let globals = self.globals.into_iter().collect();
        let Self { verdict, findings, counts, .. } = self;
        Report { format, verdict, code, findings, globals, counts }
    }
}
