//! What a scan found, in codes that a registry can store and sentences that a person can read.

use serde::{Deserialize, Serialize};

/// Findings beyond this many are counted, not kept.
pub const MAX_FINDINGS: usize = 200;
/// Names of globals beyond this many are not kept.
pub const MAX_REPORTED_GLOBALS: usize = 1_000;

/// The kind of a file, decided by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Format {
    /// One or several Python pickles.
    Pickle,
    /// A joblib dump: a pickle with the bytes of arrays between its opcodes.
    Joblib,
    /// The zip archive that `torch.save` writes.
    TorchZip,
    /// What `torch.save` wrote before version 1.6: pickles, then storages.
    TorchLegacy,
    /// One numpy array.
    Npy,
    /// A zip archive of numpy arrays.
    Npz,
    /// A Keras 3 archive.
    Keras,
    /// A skops archive.
    Skops,
    /// Any other zip archive.
    Zip,
    /// A tar archive.
    Tar,
    /// A gzip stream.
    Gzip,
    /// A zlib stream.
    Zlib,
    /// A bzip2 stream.
    Bzip2,
    /// An xz stream.
    Xz,
    /// An LZMA stream of the format before xz.
    Lzma,
    /// Another compressed stream or archive, which is not followed.
    OtherArchive,
    /// A safetensors file.
    Safetensors,
    /// An ONNX model.
    Onnx,
    /// An HDF5 file, which is also a Keras 2 model.
    Hdf5,
    /// A program for an operating system.
    Executable,
    /// Compiled Python.
    PythonBytecode,
    /// A script that names its interpreter.
    Script,
    /// Source code or a template, by its name.
    Source,
    /// UTF-8 text under a name that no loader runs, such as `README.md` or `labels.txt`.
    Text,
    /// A JSON document, or one per line.
    Json,
    /// A YAML document.
    Yaml,
    /// MLflow's description of a model, `MLmodel`.
    Mlmodel,
    /// A list of packages to install: `requirements.txt`, `conda.yaml` or `python_env.yaml`.
    Requirements,
    /// An XGBoost model in UBJSON.
    Xgboost,
    /// A LightGBM model as text.
    Lightgbm,
    /// Weights that an ONNX model keeps in a file of their own.
    Weights,
    /// A graph of TensorFlow or TensorFlow Lite.
    Tensorflow,
    /// An empty file.
    Empty,
    /// None of these.
    Other,
}

impl Format {
    /// Whether a loader makes objects of a file of this format, or unpacks it.
    ///
    /// Text, documents, arrays of numbers and graphs that a runtime interprets are not of that kind.
    pub fn makes_objects(self) -> bool {
        !matches!(
            self,
            Self::Text
                | Self::Json
                | Self::Yaml
                | Self::Mlmodel
                | Self::Requirements
                | Self::Xgboost
                | Self::Lightgbm
                | Self::Weights
                | Self::Empty
                | Self::Other
        )
    }
}

/// Whether a file is safe to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All of it was understood, to the last byte, and nothing in it runs code beyond the allowed globals.
    Safe,
    /// Some of it was not understood, or is code. Nothing that attacks its reader was found in the rest.
    Unverified,
    /// It runs code, attacks its reader, or is a broken or ambiguous file of a format that runs code.
    Unsafe,
}

/// Whether a file carries code that a loader runs. This is a fact of its own: a file can be unverified
/// without code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoaderCode {
    /// It carries none.
    None,
    /// It was not understood to its end, so that is not known.
    Unknown,
    /// It carries code, a reference by which a loader imports code, or instructions that import or call code.
    Present,
}

/// What kind of thing was found. No file with a finding is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Code {
    /// A pickle imports something that gives away the machine.
    DangerousGlobal,
    /// A pickle imports something that is not on the allowlist.
    GlobalNotAllowed,
    /// An import whose name has dots, which walks from attribute to attribute.
    DottedGlobal,
    /// A pickle calls, or changes, what the scan cannot tell.
    CallNotFollowed,
    /// A pickle uses the process's registry of extensions.
    ExtensionCode,
    /// A pickle asks its loader for an object by a persistent id.
    PersistentId,
    /// Bytes after the end of what the format describes.
    TrailingBytes,
    /// The file cannot be read to its end as what it is.
    CannotBeFollowed,
    /// Archives within archives, too deep.
    NestingTooDeep,
    /// A limit of the scan was reached.
    LimitExceeded,
    /// The content inflates more than honest data does.
    InflateRatio,
    /// The content inflates to more than the limit.
    InflateTotal,
    /// An archive has more members than the limit.
    TooManyMembers,
    /// A member's name is an absolute path.
    MemberNameAbsolute,
    /// A member's name climbs out of the folder that it is unpacked to.
    MemberNameTraversal,
    /// A member's name holds a NUL, or is not text, or is too long.
    MemberNameInvalid,
    /// Two members have the same name.
    MemberNameDuplicate,
    /// A member is a symbolic or a hard link.
    MemberIsLink,
    /// A member is a device, a pipe or something else that is no file.
    MemberIsSpecial,
    /// A member is encrypted.
    MemberEncrypted,
    /// A zip archive's directory and its local headers tell different stories.
    ZipDirectoryMismatch,
    /// A zip archive holds bytes that its directory does not list.
    ZipUnlistedBytes,
    /// Members of a zip archive share bytes.
    ZipOverlap,
    /// A safetensors header that breaks its format's rules.
    SafetensorsHeader,
    /// A tensor whose dtype, shape and offsets do not agree.
    SafetensorsTensor,
    /// A program, compiled Python or a script.
    Executable,
    /// A layer or module of code inside a model.
    EmbeddedCode,
    /// A tag of YAML that makes its loader import or call something.
    YamlTag,
    /// A path that leads out of the model's folder.
    ReferenceOutside,
    /// Content, a layer or a field that this scan does not understand.
    NotUnderstood,
    /// Source code or a template.
    SourceCode,
    /// A name by which a loader imports a module, a class, a function or a library.
    LoaderReference,
    /// A line by which an installer runs code from elsewhere than the package index.
    InstallCode,
    /// A graph whose operators may read and write files.
    GraphProgram,
}

impl Code {
    /// The verdict that a finding of this kind leads to.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::NotUnderstood
            | Self::SourceCode
            | Self::LoaderReference
            | Self::InstallCode
            | Self::GraphProgram => Verdict::Unverified,
            _ => Verdict::Unsafe,
        }
    }

    /// Whether what was found is code that a loader runs, or the way to it.
    pub fn is_code(self) -> bool {
        matches!(
            self,
            Self::DangerousGlobal
                | Self::GlobalNotAllowed
                | Self::DottedGlobal
                | Self::CallNotFollowed
                | Self::ExtensionCode
                | Self::Executable
                | Self::EmbeddedCode
                | Self::YamlTag
                | Self::SourceCode
                | Self::LoaderReference
                | Self::InstallCode
                | Self::GraphProgram
        )
    }
}

/// One thing that keeps a file from being safe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of thing.
    pub code: Code,
    /// The file, with the members that lead to the place: `model.zip!/archive/data.pkl`.
    pub path: String,
    /// What was found and what was expected.
    pub detail: String,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Members of archives, at every depth.
    pub members: u64,
    /// Pickles, those inside others' arrays included.
    pub pickles: u64,
    /// Opcodes of all pickles.
    pub opcodes: u64,
    /// Bytes that came out of compressed content.
    pub inflated_bytes: u64,
    /// Findings, those that were not kept included.
    pub findings: u64,
}

/// The outcome of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What the file is.
    pub format: Format,
    /// Whether it is safe to load.
    pub verdict: Verdict,
    /// Whether it carries code that a loader runs.
    pub code: LoaderCode,
    /// Why it is not safe: the first [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// What the pickles and skops archives import, allowed or not, as `module.name`, sorted: the first
    /// [`MAX_REPORTED_GLOBALS`].
    pub globals: Vec<String>,
    /// How much was looked at.
    pub counts: Counts,
}
