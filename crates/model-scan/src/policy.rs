//! What may be imported, and how much work one file may cause.

use std::{collections::BTreeSet, path::PathBuf};

/// Archives and compressed streams inside each other.
pub const MAX_NESTING_DEPTH: u32 = 6;
/// Members of all archives in one file.
pub const MAX_MEMBERS: u64 = 100_000;
/// What all compressed content of one file may inflate to. It goes through a temporary file.
pub const MAX_INFLATED_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// Inflated over compressed bytes, for one stream.
pub const MAX_INFLATE_RATIO: u64 = 250;
/// Opcodes of all pickles in one file.
pub const MAX_OPCODES: u64 = 64 * 1024 * 1024;

/// Bounds of one scan. Time is bounded by them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Archives and compressed streams inside each other.
    pub nesting_depth: u32,
    /// Members of all archives in one file.
    pub members: u64,
    /// What all compressed content may inflate to.
    pub inflated_bytes: u64,
    /// Inflated over compressed bytes, once [`FREE_INFLATED_BYTES`] came out of a stream.
    pub inflate_ratio: u64,
    /// Opcodes of all pickles.
    pub opcodes: u64,
}

/// A stream may inflate to this much at any ratio: an array of zeros does no harm.
pub const FREE_INFLATED_BYTES: u64 = 64 * 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            nesting_depth: MAX_NESTING_DEPTH,
            members: MAX_MEMBERS,
            inflated_bytes: MAX_INFLATED_BYTES,
            inflate_ratio: MAX_INFLATE_RATIO,
            opcodes: MAX_OPCODES,
        }
    }
}

/// What a scan accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Globals that a pickle may import and call, each as `module.name` with the names of Python 3.
    ///
    /// A name that gives away the machine, such as `os.system`, is refused even when it stands here.
    pub allowed_globals: BTreeSet<String>,
    /// Whether pickles may also use what [`crate::listed_globals`] lists, each entry within its permission.
    pub model_classes: bool,
    /// The setting by which an administrator adds to `allowed_globals`, named in findings about globals that
    /// are not allowed.
    pub setting: Option<&'static str>,
    /// How much work one file may cause.
    pub limits: Limits,
    /// Where compressed content is unpacked while it is looked at; the system's temporary folder by default.
    pub spool_dir: Option<PathBuf>,
}

impl Default for Policy {
    /// Globals that construct plain data (arrays, tensors and Python's own containers), and the classes that
    /// ordinary models of scikit-learn, XGBoost and LightGBM consist of.
    fn default() -> Self {
        Self {
            allowed_globals: DATA_GLOBALS.iter().map(|name| (*name).to_owned()).collect(),
            model_classes: true,
            setting: None,
            limits: Limits::default(),
            spool_dir: None,
        }
    }
}

impl Policy {
    /// The policy that allows globals which construct plain data, and no estimator of any library.
    pub fn data_only() -> Self {
        Self { model_classes: false, ..Self::default() }
    }

    /// The same policy with more allowed globals, each as `module.name`.
    #[must_use]
    pub fn allow<S: Into<String>>(mut self, globals: impl IntoIterator<Item = S>) -> Self {
        self.allowed_globals.extend(globals.into_iter().map(Into::into));
        self
    }
}

/// Globals that construct data and do nothing else. numpy 2 calls its `numpy.core` `numpy._core`; names are
/// compared after the one is rewritten to the other.
const DATA_GLOBALS: &[&str] = &[
    "_codecs.encode",
    "builtins.bytearray",
    "builtins.bytes",
    "builtins.complex",
    "builtins.frozenset",
    "builtins.set",
    "builtins.slice",
    "collections.OrderedDict",
    "joblib.numpy_pickle.NumpyArrayWrapper",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.core.numeric._frombuffer",
    "numpy.dtype",
    "numpy.frombuffer",
    "numpy.ndarray",
    "torch.BFloat16Storage",
    "torch.BoolStorage",
    "torch.ByteStorage",
    "torch.CharStorage",
    "torch.ComplexDoubleStorage",
    "torch.ComplexFloatStorage",
    "torch.DoubleStorage",
    "torch.FloatStorage",
    "torch.HalfStorage",
    "torch.IntStorage",
    "torch.LongStorage",
    "torch.QInt32Storage",
    "torch.QInt8Storage",
    "torch.QUInt8Storage",
    "torch.ShortStorage",
    "torch.Size",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor_v2",
    "torch.storage.UntypedStorage",
];
