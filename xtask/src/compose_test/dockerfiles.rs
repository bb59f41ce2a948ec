//! deploy/docker, built with buildah. Compiling and downloading is left to stand-ins; every other instruction
//! is the real one.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::json;
use slipway_oci_image::Archive;
use slipway_toolbox::{ONNXRUNTIME, Toolbox};

use super::engine::{self, Engine};
use super::stand_ins;
use crate::build::{self, STATIC_TARGET, root, target_dir};
use crate::images;

const TOOLS: &str = include_str!("cargo.sh");
/// Two of those that service.Dockerfile is for: they differ in the build argument alone.
const SERVICES: [&str; 2] = ["slipway-registry", "slipway-drift-monitor"];
const USER: &str = "65532:65532";

/// Builds every Dockerfile, and runs what came of it.
pub(super) fn run(engine: &Engine, folder: &Path) -> anyhow::Result<()> {
    for archive in base_images(folder, &engine::find("busybox").context("there is no busybox")?)? {
        engine.podman(&["load", "--quiet", "--input", &archive.to_string_lossy()])?;
        std::fs::remove_file(archive)?;
    }
    for program in SERVICES {
        let image = format!("localhost/docker/{program}:test");
        bud(engine, "service", &image, &[&format!("PROGRAM={program}")])?;
        check(engine, &image, program)?;
    }
    let failed = bud(engine, "service", "localhost/docker/none:test", &[]);
    let reason = failed.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(reason.contains("--build-arg PROGRAM="), "a build without PROGRAM: {reason:?}");
    let launcher = "localhost/docker/slipway-launcher:test";
    bud(engine, "launcher", launcher, &[])?;
    check(engine, launcher, "slipway-launcher")?;
    bud(engine, "serving", "localhost/docker/slipway-serving:test", &[])?;
    check(engine, "localhost/docker/slipway-serving:test", "slipway-serving")?;
    let python = "localhost/docker/slipway-launcher-python:test";
    bud(engine, "launcher-python", python, &[&format!("LAUNCHER_IMAGE={launcher}")])?;
    check(engine, python, "slipway-launcher")?;
    let agent =
        engine.podman(&["run", "--rm", "--entrypoint", "/usr/local/bin/slipway-agent", python, "--help"])?;
    ensure!(agent.contains("slipway-agent"), "the image with Python has another agent: {agent}");
    Ok(())
}

fn bud(engine: &Engine, file: &str, image: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = engine.command("buildah");
    command.args(["bud", "--isolation", "chroot", "--pull-never", "--quiet", "--tag", image, "--file"]);
    command.arg(root().join(format!("deploy/docker/{file}.Dockerfile")));
    for argument in arguments {
        command.args(["--build-arg", argument]);
    }
    engine::text(command.arg(root())).map(drop)
}

/// The program runs in its image, with a read-only root and as the user of all images.
fn check(engine: &Engine, image: &str, program: &str) -> anyhow::Result<()> {
    let user = engine.podman(&["image", "inspect", "--format", "{{.Config.User}}", image])?;
    ensure!(user.trim() == USER, "{image} runs as `{}`, expected {USER}", user.trim());
    let version = engine.podman(&["run", "--rm", "--read-only", "--cap-drop", "ALL", image, "--version"])?;
    ensure!(version.starts_with(program), "{image} runs another program: {version}");
    Ok(())
}

/// Images under the names of those that the Dockerfiles start from.
fn base_images(folder: &Path, busybox: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut rust = stand_ins::base("docker.io/library/rust:1.95-bookworm", busybox)?;
    let built = build::built(false).slipway;
    let built = built.parent().context("programs lie in no folder")?;
    for program in SERVICES.iter().chain(&["slipway-launcher", "slipway-serving"]) {
        rust.archive.file(&format!("/built/{program}"), &built.join(program))?;
    }
    let agent = target_dir().join(STATIC_TARGET).join("debug/slipway-agent");
    rust.archive.file("/built/slipway-agent", &agent)?;
    add_tools(&mut rust.archive);
    let wheel = wheel()?;
    let name = wheel.file_name().context("a wheel without a name")?.to_string_lossy().into_owned();
    let mut images = vec![rust];
    for reference in ["docker.io/library/python:3.11-bookworm", "docker.io/library/python:3.11-slim-bookworm"]
    {
        let mut python = stand_ins::base(reference, busybox)?;
        python.archive.file(&format!("/built/{name}"), &wheel)?;
        // The slim image is that in which programs of glibc run.
        python.archive.layer(images::base_layer()?);
        add_tools(&mut python.archive);
        images.push(python);
    }
    let mut runtime = Archive::new("gcr.io/distroless/cc-debian12:nonroot");
    runtime.layer(images::base_layer()?).configure(json!({ "User": USER }));
    images.push(stand_ins::StandIn { reference: "gcr.io/distroless/cc-debian12:nonroot", archive: runtime });
    images.iter().map(|image| image.write(folder)).collect()
}

fn add_tools(archive: &mut Archive) {
    for name in ["cargo", "rustup", "pip", "python"] {
        archive.top().bytes(&format!("/usr/local/bin/{name}"), 0o755, TOOLS);
    }
    archive.configure(json!({ "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"] }));
}

/// The wheel that the toolbox has downloaded.
fn wheel() -> anyhow::Result<PathBuf> {
    Toolbox::from_env()?.onnxruntime_library(&mut |message: &str| eprintln!("    {message}"))?;
    let file = ONNXRUNTIME.files.iter().find(|file| file.arch == std::env::consts::ARCH);
    let file = file.context("no wheel of ONNX Runtime for this architecture")?;
    Ok(slipway_toolbox::cache_dir()?.join("wheels").join(file.file))
}
