//! Configurations of Keras: the `config.json` of an archive, the same file on its own, and models as JSON.
//! Keras makes an object of every `class_name`, so only classes that compute with their arguments are
//! understood. The rules are those of `keras/src/saving/serialization_lib.py` up to version 3.15, and of its
//! legacy form.

use super::tree::Tree;
use crate::{globals, path, report::Code, scanner::Scanner};

/// Layers and models that compute with their arguments, and neither run code nor read files.
const LAYERS: &[&str] = &[
    "Activation",
    "ActivityRegularization",
    "Add",
    "AdditiveAttention",
    "AlphaDropout",
    "Attention",
    "Average",
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "BatchNormalization",
    "Bidirectional",
    "CategoryEncoding",
    "CenterCrop",
    "Concatenate",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "ConvLSTM1D",
    "ConvLSTM2D",
    "ConvLSTM3D",
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "Discretization",
    "Dot",
    "Dropout",
    "ELU",
    "EinsumDense",
    "Embedding",
    "Flatten",
    "Functional",
    "GRU",
    "GRUCell",
    "GaussianDropout",
    "GaussianNoise",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
    "GroupNormalization",
    "GroupQueryAttention",
    "HashedCrossing",
    "Hashing",
    "Identity",
    "InputLayer",
    "IntegerLookup",
    "LSTM",
    "LSTMCell",
    "LayerNormalization",
    "LeakyReLU",
    "Masking",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
    "Maximum",
    "Minimum",
    "Model",
    "MultiHeadAttention",
    "Multiply",
    "Normalization",
    "PReLU",
    "Permute",
    "RMSNormalization",
    "RNN",
    "ReLU",
    "RepeatVector",
    "Rescaling",
    "Reshape",
    "Resizing",
    "SeparableConv1D",
    "SeparableConv2D",
    "Sequential",
    "SimpleRNN",
    "SimpleRNNCell",
    "Softmax",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "SpectralNormalization",
    "StackedRNNCells",
    "StringLookup",
    "Subtract",
    "TextVectorization",
    "ThresholdedReLU",
    "TimeDistributed",
    "UnitNormalization",
    "UpSampling1D",
    "UpSampling2D",
    "UpSampling3D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
];
/// What layers are configured by: optimizers, schedules, losses, metrics, initializers, regularizers and
/// constraints.
const PARTS: &[&str] = &[
    "AUC",
    "Accuracy",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalHinge",
    "Constant",
    "CosineDecay",
    "CosineDecayRestarts",
    "CosineSimilarity",
    "DTypePolicy",
    "ExponentialDecay",
    "F1Score",
    "FalseNegatives",
    "FalsePositives",
    "FloatDTypePolicy",
    "Ftrl",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Hinge",
    "Huber",
    "IdentityInitializer",
    "InverseTimeDecay",
    "KLDivergence",
    "L1",
    "L1L2",
    "L2",
    "Lamb",
    "LecunNormal",
    "LecunUniform",
    "Lion",
    "LogCosh",
    "LossScaleOptimizer",
    "MaxNorm",
    "Mean",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "MinMaxNorm",
    "Muon",
    "Nadam",
    "NonNeg",
    "Ones",
    "Orthogonal",
    "OrthogonalInitializer",
    "OrthogonalRegularizer",
    "PiecewiseConstantDecay",
    "Poisson",
    "PolynomialDecay",
    "Precision",
    "RMSprop",
    "RandomNormal",
    "RandomUniform",
    "Recall",
    "RootMeanSquaredError",
    "SGD",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "SquaredHinge",
    "Sum",
    "TopKCategoricalAccuracy",
    "TrueNegatives",
    "TruePositives",
    "TruncatedNormal",
    "UnitNorm",
    "VarianceScaling",
    "Zeros",
];
/// Activations, losses and metrics that are functions.
const FUNCTIONS: &[&str] = &[
    "acc",
    "accuracy",
    "binary_accuracy",
    "binary_crossentropy",
    "categorical_accuracy",
    "categorical_crossentropy",
    "categorical_hinge",
    "celu",
    "cosine_similarity",
    "elu",
    "exponential",
    "gelu",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "hinge",
    "huber",
    "kl_divergence",
    "leaky_relu",
    "linear",
    "log_cosh",
    "log_sigmoid",
    "log_softmax",
    "mae",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "mish",
    "mse",
    "poisson",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy",
    "sparse_plus",
    "sparse_sigmoid",
    "sparsemax",
    "squared_hinge",
    "squareplus",
    "swish",
    "tanh",
    "tanh_shrink",
    "threshold",
    "top_k_categorical_accuracy",
];
/// Layers that hold or load code of their own.
const CODE_LAYERS: &[&str] =
    &["TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer", "__bytes__", "__typespec__"];
/// Data that is written as an object.
const VALUES: &[&str] = &["__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__"];
/// Modules of Keras that hold these classes.
const MODULES: &[&str] = &[
    "activations",
    "constraints",
    "dtype_policies",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "regularizers",
];
/// Arguments that name a file, which Keras reads when it makes the layer.
const FILE_ARGUMENTS: &[&str] = &["vocabulary", "idf_weights", "filepath", "file_path", "weights"];

/// Looks at every object that a configuration would make.
pub(super) fn check(scanner: &mut Scanner<'_>, path: &str, tree: &Tree) {
    tree.each_map(&mut |node| check_node(scanner, path, node));
}

fn check_node(scanner: &mut Scanner<'_>, path: &str, node: &Tree) {
    for (argument, file) in node.entries().iter().filter(|(key, _)| FILE_ARGUMENTS.contains(&&**key)) {
        if let Some(file) = file.as_text() {
            let shown = path::shown(file);
            let detail = format!("its argument `{argument}` makes Keras read the file `{shown}`");
            scanner.find(Code::ReferenceOutside, path, detail);
        }
    }
    let Some(class) = node.get("class_name") else { return };
    let Some(class) = class.as_text() else {
        scanner.find(Code::NotUnderstood, path, "a `class_name` is not a string");
        return;
    };
    let shown = path::shown(class);
    if class.to_lowercase().contains("lambda") || CODE_LAYERS.contains(&class) {
        let detail = format!("its layer `{shown}` holds or loads code; layers that compute were expected");
        scanner.find(Code::EmbeddedCode, path, detail);
    } else if class == "function" {
        check_function(scanner, path, node);
    } else if VALUES.contains(&class) {
        // Data.
    } else if !is_of_keras(node) {
        refuse_module(scanner, path, node, class);
    } else if !LAYERS.contains(&class) && !PARTS.contains(&class) {
        let detail = format!("its layer or class `{shown}` is none that is understood");
        scanner.find(Code::NotUnderstood, path, detail);
    } else if node.get_text("registered_name").is_some_and(|name| name != class) {
        let detail =
            format!("its `{shown}` is registered by another name, for which a loader uses another class");
        scanner.find(Code::LoaderReference, path, detail);
    }
}

/// A function by its name.
fn check_function(scanner: &mut Scanner<'_>, path: &str, node: &Tree) {
    let name = node.get_text("config").unwrap_or_default();
    let is_builtin = matches!(node.get("module").map(Tree::as_text), None | Some(None | Some("builtins")));
    if !(is_builtin || is_of_keras(node)) {
        refuse_module(scanner, path, node, name);
    } else if !FUNCTIONS.contains(&name) {
        let detail = format!("its function `{}` is none that is understood", path::shown(name));
        scanner.find(Code::LoaderReference, path, detail);
    }
}

/// Whether the module of an object is one of those that hold the classes above. Old configurations have none.
fn is_of_keras(node: &Tree) -> bool {
    let module = match node.get("module") {
        None | Some(Tree::Null) => return true,
        Some(module) => module.as_text().unwrap_or("?"),
    };
    let part = module.strip_prefix("keras.src.").or_else(|| module.strip_prefix("keras."));
    module == "keras"
        || part.and_then(|part| part.split('.').next()).is_some_and(|part| MODULES.contains(&part))
}

/// Reports a class or function of another module, as an import of a pickle is.
fn refuse_module(scanner: &mut Scanner<'_>, path: &str, node: &Tree, name: &str) {
    globals::check_reference(scanner, path, node.get_text("module").unwrap_or_default(), name);
}
