//! Files that are code by their name, whatever they hold: an interpreter, an installer or a template engine
//! runs them.

use crate::path;

/// Ends of names in lower case.
const SUFFIXES: &[&str] = &[
    ".py",
    ".pyw",
    ".pyx",
    ".pxd",
    ".pxi",
    ".pyi",
    ".pyc",
    ".pyo",
    ".pyd",
    ".pyz",
    ".ipynb",
    ".pth",
    ".egg",
    ".egg-link",
    ".whl",
    ".so",
    ".dylib",
    ".dll",
    ".exe",
    ".com",
    ".msi",
    ".jar",
    ".war",
    ".ear",
    ".class",
    ".jmod",
    ".dex",
    ".apk",
    ".wasm",
    ".sh",
    ".bash",
    ".zsh",
    ".fish",
    ".csh",
    ".ksh",
    ".bat",
    ".cmd",
    ".ps1",
    ".psm1",
    ".vbs",
    ".r",
    ".rmd",
    ".rprofile",
    ".jl",
    ".lua",
    ".js",
    ".mjs",
    ".cjs",
    ".jsx",
    ".ts",
    ".tsx",
    ".rb",
    ".pl",
    ".pm",
    ".php",
    ".java",
    ".scala",
    ".kt",
    ".groovy",
    ".go",
    ".rs",
    ".c",
    ".cc",
    ".cpp",
    ".cxx",
    ".h",
    ".hpp",
    ".cu",
    ".cuh",
    ".cl",
    ".ptx",
    ".cubin",
    ".f90",
    ".m",
    ".swift",
    ".sql",
    ".jinja",
    ".jinja2",
    ".j2",
    ".tmpl",
    ".mustache",
    ".mk",
    ".cmake",
    ".desktop",
    ".service",
    ".deb",
    ".rpm",
    ".nemo",
    ".mar",
];

/// Whole names in lower case.
const NAMES: &[&str] = &[
    "dockerfile",
    "containerfile",
    "makefile",
    "jenkinsfile",
    "procfile",
    "vagrantfile",
    "mlproject",
    "setup.cfg",
    "pyproject.toml",
    "pipfile",
    ".rprofile",
    ".bashrc",
    ".profile",
    ".envrc",
    "pickle_module_info.txt",
];

/// Why a file of this name is code; none where it is not.
pub(crate) fn by_name(name: &str) -> Option<String> {
    let name = path::file_name(name);
    // Windows drops these at the end.
    let plain = name.trim_end_matches(['.', ' ']).to_lowercase();
    // torch writes models with the name of Python's path files, too; those are known by their content.
    let is_library = plain.split('.').skip(1).any(|part| part == "so");
    let is_code = NAMES.contains(&plain.as_str())
        || SUFFIXES.iter().any(|suffix| plain.ends_with(suffix))
        || is_library;
    is_code.then(|| {
        let shown = path::shown(name);
        format!("its name `{shown}` is that of source code, a template or a package, which are not read")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_known_by_its_name() {
        for name in [
            "code/model.py",
            "a/B.PY",
            "x.so",
            "libx.so.1",
            "run.sh",
            "x.ipynb",
            "chat_template.jinja",
            "a.whl",
            "Dockerfile",
            "x.py. ",
            "MLproject",
        ] {
            assert!(by_name(name).is_some(), "{name}");
        }
        for name in ["README.md", "model.pkl", "data.csv", "py", "so.txt", "MLmodel", "copy"] {
            assert!(by_name(name).is_none(), "{name}");
        }
    }
}
