//! Which globals give away the machine, and which names mean the same thing.

use crate::{
    listed::{self, Permission},
    policy::Policy,
    report::Code,
    scanner::Scanner,
};

/// Modules of Python's own library, 2.7 to 3.14, one per line.
const STANDARD_MODULES: &str = include_str!("../lists/standard_modules.txt");
/// Packages that are installed where models are loaded.
const MODEL_PACKAGES: &[&str] = &[
    "joblib",
    "keras",
    "lightgbm",
    "mlflow",
    "numpy",
    "onnx",
    "onnxruntime",
    "pandas",
    "pytest",
    "scipy",
    "six",
    "skl2onnx",
    "sklearn",
    "skops",
    "tensorflow",
    "torch",
    "transformers",
    "xgboost",
    "yaml",
];

/// Modules of which every global is dangerous: they run programs or code, open files or connections, or reach
/// into the interpreter. A submodule is in its module.
const DANGEROUS_MODULES: &[&str] = &[
    "_io",
    "_posixsubprocess",
    "_pickle",
    "_socket",
    "_thread",
    "aiohttp",
    "asyncio",
    "bdb",
    "builtins.__dict__",
    "cProfile",
    "cgitb",
    "cloudpickle",
    "code",
    "codeop",
    "commands",
    "concurrent",
    "ctypes",
    "dill",
    "distutils",
    "doctest",
    "ensurepip",
    "fileinput",
    "ftplib",
    "gc",
    "glob",
    "http",
    "httplib",
    "idlelib",
    "imaplib",
    "imp",
    "importlib",
    "inspect",
    "io",
    "lib2to3",
    "linecache",
    "marshal",
    "mmap",
    "multiprocessing",
    "nt",
    "ntpath",
    "operator",
    "os",
    "paramiko",
    "pdb",
    "pickle",
    "pip",
    "pkg_resources",
    "pkgutil",
    "popen2",
    "posix",
    "posixpath",
    "poplib",
    "profile",
    "pty",
    "py_compile",
    "pydoc",
    "requests",
    "resource",
    "rlcompleter",
    "runpy",
    "setuptools",
    "shelve",
    "shutil",
    "signal",
    "site",
    "smtplib",
    "socket",
    "socketserver",
    "sqlite3",
    "ssl",
    "subprocess",
    "sys",
    "tarfile",
    "telnetlib",
    "tempfile",
    "test",
    "threading",
    "timeit",
    "trace",
    "urllib",
    "urllib2",
    "venv",
    "webbrowser",
    "xmlrpc",
    "zipfile",
    "zipimport",
    "_operator",
    "_ctypes",
    "_frozen_importlib",
    "_frozen_importlib_external",
    "_imp",
    "_signal",
    "IPython",
    "numpy.f2py",
    "numpy.distutils",
    "numpy.testing",
    "torch.hub",
    "torch.jit",
    "torch.package",
    "torch.serialization",
    "torch.utils.cpp_extension",
    "torch.utils.collect_env",
    "torch.utils.bottleneck",
    "torch.distributed",
    "torch._dynamo",
    "torch._inductor",
    "torch.fx",
    "keras.src.legacy.saving",
];

/// Globals of modules that also hold harmless ones.
const DANGEROUS_NAMES: &[&str] = &[
    "builtins.__build_class__",
    "builtins.__import__",
    "builtins.__loader__",
    "builtins.__spec__",
    "builtins.apply",
    "builtins.breakpoint",
    "builtins.classmethod",
    "builtins.compile",
    "builtins.delattr",
    "builtins.dir",
    "builtins.eval",
    "builtins.exec",
    "builtins.execfile",
    "builtins.exit",
    "builtins.file",
    "builtins.filter",
    "builtins.getattr",
    "builtins.globals",
    "builtins.help",
    "builtins.input",
    "builtins.locals",
    "builtins.map",
    "builtins.memoryview",
    "builtins.open",
    "builtins.print",
    "builtins.quit",
    "builtins.raw_input",
    "builtins.reload",
    "builtins.setattr",
    "builtins.staticmethod",
    "builtins.super",
    "builtins.type",
    "builtins.vars",
    "codecs.open",
    "copyreg.add_extension",
    "copyreg.constructor",
    "copyreg.pickle",
    "joblib.load",
    "joblib.numpy_pickle.load",
    "joblib.numpy_pickle.NDArrayWrapper",
    "joblib.numpy_pickle.ZNDArrayWrapper",
    "joblib.numpy_pickle_compat.NDArrayWrapper",
    "joblib.numpy_pickle_compat.ZNDArrayWrapper",
    "numpy.core.memmap",
    "numpy.fromfile",
    "numpy.genfromtxt",
    "numpy.lib.npyio.load",
    "numpy.load",
    "numpy.loadtxt",
    "numpy.memmap",
    "numpy.save",
    "numpy.savetxt",
    "pandas.eval",
    "pandas.read_pickle",
    "pandas.io.pickle.read_pickle",
    "torch.compile",
    "torch.from_file",
    "torch.load",
    "torch.save",
    "torch._C._jit_call",
    "torch.storage._load_from_bytes",
    "tensorflow.io.read_file",
    "tensorflow.io.write_file",
];

/// The name of Python 3 and of numpy 1 for a global, so that one entry of a list covers all its spellings.
pub(crate) fn canonical(module: &str, name: &str) -> String {
    // Lib/_compat_pickle.py: what CPython itself rewrites in pickles of protocols 0 to 2.
    let module = match module {
        "__builtin__" | "exceptions" => "builtins",
        "copy_reg" => "copyreg",
        "cPickle" => "_pickle",
        "thread" => "_thread",
        other => other,
    };
    let name = if module == "builtins" && name == "xrange" { "range" } else { name };
    match module.strip_prefix("numpy._core") {
        Some(rest) if rest.is_empty() || rest.starts_with('.') => format!("numpy.core{rest}.{name}"),
        _ => format!("{module}.{name}"),
    }
}

/// What is wrong with an import; nothing where the policy allows it.
pub(crate) fn judge(policy: &Policy, module: &str, name: &str) -> Option<(Code, String)> {
    let full = canonical(module, name);
    let shown = crate::path::shown(&full);
    if is_dangerous(&full, name) {
        let detail = format!("it imports `{shown}`, which can run code, reach files or open connections");
        return Some((Code::DangerousGlobal, detail));
    }
    if name.contains('.') {
        let detail = format!("it imports `{shown}` by walking attributes; a name without dots was expected");
        return Some((Code::DottedGlobal, detail));
    }
    if use_of(policy, module, name).is_some() {
        return None;
    }
    let setting = policy
        .setting
        .map(|setting| format!("; an administrator who trusts it can add it to the setting {setting}"));
    let detail = format!(
        "it imports `{shown}`, which is not on the list of allowed globals{}",
        setting.unwrap_or_default()
    );
    Some((Code::GlobalNotAllowed, detail))
}

/// Names what a document imports, and reports it where the policy does not allow it.
pub(crate) fn check(scanner: &mut Scanner<'_>, path: &str, module: &str, name: &str) {
    scanner.name_global(canonical(module, name));
    if let Some((code, detail)) = judge(scanner.policy, module, name) {
        scanner.find(code, path, detail);
    }
}

/// Names what a document imports from a module that it must not name at all, and reports it.
pub(crate) fn check_reference(scanner: &mut Scanner<'_>, path: &str, module: &str, name: &str) {
    let full = canonical(module, name);
    let shown = crate::path::shown(&full);
    scanner.name_global(full);
    let (code, detail) = match judge(scanner.policy, module, name) {
        Some(judged) => judged,
        None => (Code::LoaderReference, format!("it imports `{shown}`, which is no part of such a model")),
    };
    scanner.find(code, path, detail);
}

/// Whether the first name of a module is one of Python's own library or of a package that models use, so that
/// an import of it succeeds. Text can begin like an import by accident, but hardly with such a name.
pub(crate) fn is_importable(module: &str) -> bool {
    let first = module.split('.').next().unwrap_or(module);
    STANDARD_MODULES.lines().any(|line| line == first)
        || DANGEROUS_MODULES.iter().any(|dangerous| dangerous.split('.').next() == Some(first))
        || MODEL_PACKAGES.contains(&first)
}

/// What a pickle may do with a global.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Anything: the policy names it.
    Any,
    /// What its entry in the list of model classes permits.
    Listed(Permission),
    /// Make an instance of a listed class as the pickles of protocols 0 and 1 do: `copyreg._reconstructor`.
    Reconstruct,
    /// Make a dict with a listed class as its default: `collections.defaultdict`.
    DefaultDict,
}

/// What the policy lets a pickle do with a global; none where it is not allowed.
pub(crate) fn use_of(policy: &Policy, module: &str, name: &str) -> Option<Use> {
    let full = canonical(module, name);
    if policy.allowed_globals.contains(&full) || policy.allowed_globals.contains(&format!("{module}.{name}"))
    {
        return Some(Use::Any);
    }
    if !policy.model_classes {
        return None;
    }
    match full.as_str() {
        "copyreg._reconstructor" => Some(Use::Reconstruct),
        "collections.defaultdict" => Some(Use::DefaultDict),
        listed => listed::permission(listed).map(Use::Listed),
    }
}

/// Whether a global gives away the machine, by its module, its name or the first of its dotted names.
fn is_dangerous(full: &str, name: &str) -> bool {
    let is_in = |module: &&str| full.strip_prefix(*module).is_some_and(|rest| rest.starts_with('.'));
    let is_name = |listed: &&str| {
        full.strip_prefix(*listed).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    // An allowed module's own imports, or the way from any object to the interpreter.
    let climbs = name.split('.').any(|part| {
        matches!(
            part,
            "__globals__"
                | "__builtins__"
                | "__subclasses__"
                | "__import__"
                | "__code__"
                | "__class__"
                | "__reduce__"
                | "__dict__"
                | "__getattribute__"
                | "__mro__"
                | "__base__"
                | "__init__"
                | "system"
                | "popen"
                | "eval"
                | "exec"
        )
    });
    DANGEROUS_MODULES.iter().any(is_in)
        || DANGEROUS_NAMES.iter().any(is_name)
        || (climbs && name.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(module: &str, name: &str) -> Option<Code> {
        judge(&Policy::default(), module, name).map(|(code, _)| code)
    }

    #[test]
    fn globals_fall_into_their_classes() {
        assert_eq!(code("os", "system"), Some(Code::DangerousGlobal));
        assert_eq!(code("os.path", "join"), Some(Code::DangerousGlobal));
        assert_eq!(code("__builtin__", "eval"), Some(Code::DangerousGlobal));
        assert_eq!(code("torch", "load"), Some(Code::DangerousGlobal));
        assert_eq!(code("numpy", "os.system"), Some(Code::DangerousGlobal));
        assert_eq!(code("numpy", "ndarray.sum"), Some(Code::DottedGlobal));
        assert_eq!(code("torch._utils", "x"), Some(Code::GlobalNotAllowed));
        assert_eq!(code("torch", "_utils._rebuild_tensor_v2"), Some(Code::DottedGlobal));
        assert_eq!(code("ossify", "system"), Some(Code::GlobalNotAllowed));
        assert_eq!(code("numpy._core.multiarray", "_reconstruct"), None);
        assert_eq!(code("numpy._corexx", "_reconstruct"), Some(Code::GlobalNotAllowed));
    }

    #[test]
    fn a_dangerous_global_stays_refused_when_a_policy_lists_it() {
        let policy = Policy::default().allow(["os.system"]);
        assert_eq!(judge(&policy, "os", "system").unwrap().0, Code::DangerousGlobal);
    }
}
