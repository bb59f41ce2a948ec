//! The way from a file to the formats that it can be read as, and from those to the files within it.

use std::io::{self, Read, Seek};

use crate::{
    compressed,
    context::Context,
    documents,
    input::Input,
    npy, onnx, path,
    pickle::{self, Trial},
    policy::Policy,
    report::{Code, Format, Report},
    safetensors,
    scanner::{Place, Role, Scanner},
    sniff, source, tar, zip,
};

impl Scanner<'_> {
    /// Looks at a file or member as everything that a loader could take it for. What is left over, and is
    /// none of the documents that are understood, is reported.
    pub(crate) fn examine(&mut self, input: &mut Input<'_>, place: Place<'_>) -> io::Result<Format> {
        if place.depth > self.policy.limits.nesting_depth {
            let limit = self.policy.limits.nesting_depth;
            self.find(Code::NestingTooDeep, place.path, format!("it lies more than {limit} archives deep"));
            return Ok(Format::Other);
        }
        let seen = self.examine_content(input, place)?;
        if let Some(why) =
            source::by_name(place.name).filter(|_| matches!(place.role, Role::File | Role::Weights))
        {
            self.find(Code::SourceCode, place.path, why);
            return Ok(if seen == Format::Other { Format::Source } else { seen });
        }
        input.seek(0);
        match seen {
            Format::Other | Format::Onnx if onnx::is_name(place.name) => {
                onnx::scan(self, input, place).map(|()| Format::Onnx)
            }
            Format::Other | Format::Onnx => documents::scan(self, input, place),
            _ => Ok(seen),
        }
    }

    fn examine_content(&mut self, input: &mut Input<'_>, place: Place<'_>) -> io::Result<Format> {
        let head = input.peek(0, sniff::HEAD_BYTES)?;
        let format = sniff::sniff(&head, input, place.role)?;
        input.seek(0);
        let mut seen = self.examine_as(format, input, place)?;
        // A loader does not ask what a file looks like first, so it is tried as the others too.
        if !matches!(seen, Format::Pickle | Format::Joblib | Format::TorchLegacy) {
            input.seek(0);
            match pickle::try_scan(self, input, place.path)? {
                Trial::Acts if seen == Format::Other => seen = Format::Pickle,
                Trial::Data if seen == Format::Other && pickle::is_name(place.name) => seen = Format::Pickle,
                _ => {}
            }
        }
        if format != Format::Tar && tar::is_header(&head) {
            input.seek(0);
            tar::scan(self, input, place)?;
        }
        // In a tar archive, an archive lies in a member, which is looked at by itself.
        if format != Format::Tar && !sniff::begins_as_zip(&head) && zip::has_directory(input)? {
            let inner = zip::scan(self, input, place)?;
            let detail = "a zip archive stands behind other bytes; loaders disagree on what such a file is";
            self.find(Code::ZipUnlistedBytes, place.path, detail);
            seen = if seen == Format::Other { inner } else { seen };
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
            | Format::Tensorflow
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

/// Scans a whole file.
pub(crate) fn scan(
    name: &str,
    file: &mut (impl Read + Seek),
    policy: &Policy,
    context: &Context,
) -> io::Result<Report> {
    let mut scanner = Scanner::new(policy, context);
    let shown = path::shown(name);
    let mut input = Input::new(file)?;
    let role = if context.weights.contains(name) { Role::Weights } else { Role::File };
    let place = Place { path: &shown, name, depth: 0, role };
    let format = scanner.examine(&mut input, place)?;
    Ok(scanner.into_report(format))
}

/// Why a format is not followed at all.
fn refused(format: Format) -> (Code, &'static str) {
    match format {
        Format::Hdf5 => (
            Code::NotUnderstood,
            "it is an HDF5 file, which may hold layers of code and links to other files and is not read",
        ),
        Format::Tensorflow => {
            (Code::GraphProgram, "it is a TensorFlow Lite graph, whose operators are not read")
        }
        Format::Executable => (Code::Executable, "it is a program; a model was expected"),
        Format::PythonBytecode => (Code::Executable, "it is compiled Python; a model was expected"),
        Format::Script => {
            (Code::Executable, "it is a script that names its interpreter; a model was expected")
        }
        _ => (
            Code::NotUnderstood,
            "from byte 0 on it is an archive or compressed stream of a kind that is not unpacked",
        ),
    }
}
