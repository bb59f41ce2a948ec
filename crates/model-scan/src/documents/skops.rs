//! The `schema.json` of skops archives, whose loader imports what its nodes name.

use super::tree::Tree;
use crate::{globals, path, report::Code, scanner::Scanner};

/// Types that skops makes from data alone.
const SKOPS_DATA_TYPES: &[&str] = &[
    "builtins.bool",
    "builtins.bytearray",
    "builtins.bytes",
    "builtins.dict",
    "builtins.float",
    "builtins.int",
    "builtins.list",
    "builtins.set",
    "builtins.slice",
    "builtins.str",
    "builtins.tuple",
    "builtins.NoneType",
    "collections.OrderedDict",
    "collections.defaultdict",
    "numpy.bool",
    "numpy.bool_",
    "numpy.dtype",
    "numpy.float16",
    "numpy.float32",
    "numpy.float64",
    "numpy.int16",
    "numpy.int32",
    "numpy.int64",
    "numpy.int8",
    "numpy.ndarray",
    "numpy.ma.MaskedArray",
    "numpy.str_",
    "numpy.uint16",
    "numpy.uint32",
    "numpy.uint64",
    "numpy.uint8",
    "numpy.random.mtrand.RandomState",
    "scipy.sparse._csc.csc_matrix",
    "scipy.sparse._csr.csr_matrix",
];

/// The nodes of skops; each is read by a class of the library that does with the names what its own name
/// says.
const SKOPS_LOADERS: &[&str] = &[
    "BunchNode",
    "BytearrayNode",
    "BytesNode",
    "CachedNode",
    "DefaultDictNode",
    "DictNode",
    "DictWithDeprecatedKeysNode",
    "DTypeNode",
    "FunctionNode",
    "JsonNode",
    "ListNode",
    "LossNode",
    "MaskedArrayNode",
    "MethodNode",
    "NdArrayNode",
    "ObjectNode",
    "OrderedDictNode",
    "PartialNode",
    "RandomGeneratorNode",
    "RandomStateNode",
    "SGDNode",
    "SetNode",
    "SliceNode",
    "SparseMatrixNode",
    "TreeNode",
    "TupleNode",
    "TypeNode",
    "_DictWithDeprecatedKeysNode",
    "_LossNode",
    "_BunchNode",
];

/// Looks at every type that a skops archive would make.
pub(super) fn check(scanner: &mut Scanner<'_>, path: &str, tree: &Tree) {
    tree.each_map(&mut |node| check_node(scanner, path, node));
}

fn check_node(scanner: &mut Scanner<'_>, path: &str, node: &Tree) {
    let named = ["__module__", "__class__", "__loader__"].map(|key| node.get(key));
    if named.iter().any(Option::is_some) {
        match named.map(|name| name.and_then(Tree::as_text)) {
            [Some(module), Some(class), Some(loader)] => {
                if !SKOPS_LOADERS.contains(&loader) {
                    let detail = format!("its node `{}` is none that is understood", path::shown(loader));
                    scanner.find(Code::CannotBeFollowed, path, detail);
                }
                if !SKOPS_DATA_TYPES.contains(&globals::canonical(module, class).as_str()) {
                    globals::check(scanner, path, module, class);
                }
            }
            _ => {
                let detail = "a node lacks one of `__module__`, `__class__` and `__loader__` as strings";
                scanner.find(Code::CannotBeFollowed, path, detail);
            }
        }
    }
    // A function or operator by another name than that of its node.
    if let (Some(module), Some(function)) = (node.get_text("module_path"), node.get_text("function")) {
        globals::check(scanner, path, module, function);
    }
}
