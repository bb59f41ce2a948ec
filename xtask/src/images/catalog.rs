//! The images.

use anyhow::bail;

/// User and group of every image.
pub(crate) const USER: u32 = 65532;
/// Where programs are.
pub(crate) const PROGRAMS: &str = "/usr/local/bin";
/// Folder of data, which belongs to the user.
pub(crate) const DATA: &str = "/var/lib/slipway";

/// What an image is built on, and has in addition to its programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// The base layer.
    Plain,
    /// The base layer and ONNX Runtime for the CPU.
    OnnxCpu,
    /// Nothing: its program is static.
    Static,
}

impl Variant {
    /// End of the tag.
    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Self::Plain | Self::Static => "",
            Self::OnnxCpu => "-onnx-cpu",
        }
    }
}

/// An image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Image {
    /// Name without registry and tag, and of its program.
    pub(crate) name: &'static str,
    pub(crate) variant: Variant,
    /// Whether the static agent is next to the program.
    pub(crate) has_agent: bool,
    /// Summary for people.
    pub(crate) about: &'static str,
    /// Addresses that it listens on: environment variable and port. The first one has `/readyz`.
    pub(crate) listens: &'static [(&'static str, u16)],
    /// Further environment variables.
    pub(crate) environment: &'static [(&'static str, &'static str)],
}

const SERVING: Image = Image {
    name: "slipway-serving",
    variant: Variant::Plain,
    has_agent: false,
    about: "Slipway serving: inference over REST and gRPC",
    listens: &[("SLIPWAY_LISTEN", 8000), ("SLIPWAY_LISTEN_GRPC", 8001), ("SLIPWAY_LISTEN_METRICS", 8002)],
    environment: &[("SLIPWAY_CACHE_DIR", "/var/lib/slipway/serving")],
};

/// All images.
pub(crate) const ALL: [Image; 8] = [
    Image {
        name: "slipway-registry",
        variant: Variant::Plain,
        has_agent: false,
        about: "Slipway registry: experiments, runs, models, versions",
        listens: &[("SLIPWAY_LISTEN", 5000)],
        environment: &[],
    },
    Image {
        name: "slipway-launcher",
        variant: Variant::Plain,
        has_agent: true,
        about: "Slipway launcher: training jobs",
        listens: &[("SLIPWAY_LISTEN", 5010)],
        environment: &[("SLIPWAY_DATA_DIR", "/var/lib/slipway/launcher")],
    },
    SERVING,
    Image { variant: Variant::OnnxCpu, about: "Slipway serving, with ONNX Runtime for the CPU", ..SERVING },
    Image {
        name: "slipway-rollout-controller",
        variant: Variant::Plain,
        has_agent: false,
        about: "Slipway rollout controller: deployments and rollouts",
        listens: &[("SLIPWAY_LISTEN", 5020)],
        environment: &[],
    },
    Image {
        name: "slipway-drift-monitor",
        variant: Variant::Plain,
        has_agent: false,
        about: "Slipway drift monitor: monitors, windows, drift",
        listens: &[("SLIPWAY_LISTEN", 5030)],
        environment: &[],
    },
    Image {
        name: "slipway",
        variant: Variant::Plain,
        has_agent: false,
        about: "Slipway: the command line",
        listens: &[],
        environment: &[],
    },
    Image {
        name: "slipway-agent",
        variant: Variant::Static,
        has_agent: false,
        about: "Slipway agent: runs one attempt of a training job; a static program",
        listens: &[],
        environment: &[],
    },
];

impl Image {
    /// Name with the variant, for people and for files.
    pub(crate) fn title(&self) -> String {
        format!("{}{}", self.name, self.variant.suffix())
    }

    /// Name with this tag.
    pub(crate) fn reference(&self, tag: &str) -> String {
        format!("localhost/{}:{tag}{}", self.name, self.variant.suffix())
    }
}

/// The images with these titles.
pub(crate) fn selected(titles: &[String]) -> anyhow::Result<Vec<Image>> {
    if titles.is_empty() {
        return Ok(ALL.to_vec());
    }
    let find = |title: &String| match ALL.into_iter().find(|image| image.title() == *title) {
        Some(image) => Ok(image),
        None => {
            let known: Vec<String> = ALL.iter().map(Image::title).collect();
            bail!("--only: there is no image `{title}`; expected one of {}", known.join(", "))
        }
    };
    titles.iter().map(find).collect()
}
