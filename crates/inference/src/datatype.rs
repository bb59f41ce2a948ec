//! Element types, by their Open Inference Protocol names.

use ort::value::TensorElementType;

/// Type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Datatype {
    /// One byte, 0 or 1.
    Bool,
    /// Signed, 8 bits.
    Int8,
    /// Signed, 16 bits.
    Int16,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// Unsigned, 8 bits.
    Uint8,
    /// Unsigned, 16 bits.
    Uint16,
    /// Unsigned, 32 bits.
    Uint32,
    /// Unsigned, 64 bits.
    Uint64,
    /// IEEE half precision.
    Fp16,
    /// The upper half of a single precision number.
    Bf16,
    /// IEEE single precision.
    Fp32,
    /// IEEE double precision.
    Fp64,
    /// Text of any length.
    Bytes,
}

impl Datatype {
    /// Every type.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// Name in the Open Inference Protocol, e.g. `FP32`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// The type of a protocol name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|datatype| datatype.name() == name)
    }

    /// Bytes of one element; `None` where each has its own length.
    pub const fn element_bytes(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Int8 | Self::Uint8 => Some(1),
            Self::Int16 | Self::Uint16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Int32 | Self::Uint32 | Self::Fp32 => Some(4),
            Self::Int64 | Self::Uint64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    /// `None` for a type that the protocol has no name for, e.g. complex numbers.
    pub(crate) const fn from_onnx(element: TensorElementType) -> Option<Self> {
        Some(match element {
            TensorElementType::Bool => Self::Bool,
            TensorElementType::Int8 => Self::Int8,
            TensorElementType::Int16 => Self::Int16,
            TensorElementType::Int32 => Self::Int32,
            TensorElementType::Int64 => Self::Int64,
            TensorElementType::Uint8 => Self::Uint8,
            TensorElementType::Uint16 => Self::Uint16,
            TensorElementType::Uint32 => Self::Uint32,
            TensorElementType::Uint64 => Self::Uint64,
            TensorElementType::Float16 => Self::Fp16,
            TensorElementType::Bfloat16 => Self::Bf16,
            TensorElementType::Float32 => Self::Fp32,
            TensorElementType::Float64 => Self::Fp64,
            TensorElementType::String => Self::Bytes,
            _ => return None,
        })
    }

    /// The type of ONNX's number (`TensorProto.DataType`); `None` for one that the protocol has no name for.
    pub(crate) const fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::Fp32,
            2 => Self::Uint8,
            3 => Self::Int8,
            4 => Self::Uint16,
            5 => Self::Int16,
            6 => Self::Int32,
            7 => Self::Int64,
            8 => Self::Bytes,
            9 => Self::Bool,
            10 => Self::Fp16,
            11 => Self::Fp64,
            12 => Self::Uint32,
            13 => Self::Uint64,
            16 => Self::Bf16,
            _ => return None,
        })
    }

    pub(crate) const fn to_onnx(self) -> TensorElementType {
        match self {
            Self::Bool => TensorElementType::Bool,
            Self::Int8 => TensorElementType::Int8,
            Self::Int16 => TensorElementType::Int16,
            Self::Int32 => TensorElementType::Int32,
            Self::Int64 => TensorElementType::Int64,
            Self::Uint8 => TensorElementType::Uint8,
            Self::Uint16 => TensorElementType::Uint16,
            Self::Uint32 => TensorElementType::Uint32,
            Self::Uint64 => TensorElementType::Uint64,
            Self::Fp16 => TensorElementType::Float16,
            Self::Bf16 => TensorElementType::Bfloat16,
            Self::Fp32 => TensorElementType::Float32,
            Self::Fp64 => TensorElementType::Float64,
            Self::Bytes => TensorElementType::String,
        }
    }
}

impl std::fmt::Display for Datatype {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}
