//! What is in each image.

use serde_json::{Value, json};
use slipway_oci_image::Archive;

use super::base::Base;
use super::catalog::{DATA, Image, PROGRAMS, USER, Variant};
use super::programs::Programs;
use super::source::Source;
use super::{sbom, wheels};

const DOCUMENTS: &str = "/usr/share/slipway";

/// What an image is made of.
#[derive(Debug)]
pub(crate) struct Parts<'parts> {
    pub(crate) image: Image,
    pub(crate) programs: &'parts Programs,
    pub(crate) base: &'parts Base,
    pub(crate) source: &'parts Source,
    pub(crate) tag: &'parts str,
}

/// An image, to be written.
pub(crate) struct Assembled {
    pub(crate) archive: Archive,
    /// Its bill of materials.
    pub(crate) bill: String,
    pub(crate) reference: String,
    pub(crate) program_bytes: u64,
}

/// Makes an image.
pub(crate) fn image(parts: &Parts<'_>) -> anyhow::Result<Assembled> {
    let Parts { image, programs, base, source, tag } = parts;
    let reference = image.reference(tag);
    let mut archive = Archive::new(&reference);
    let is_static = image.variant == Variant::Static;
    if is_static {
        archive.top().owned_folder("/tmp", 0o1777, 0);
    } else {
        archive.layer(base.layer.clone());
    }
    let program = programs.of(image)?;
    let mut program_bytes = program.metadata()?.len();
    archive.file(&path(image), &program)?;
    let mut names = vec![image.name];
    if image.has_agent {
        let agent = programs.agent()?;
        program_bytes += agent.metadata()?.len();
        archive.file(&format!("{PROGRAMS}/slipway-agent"), &agent)?;
        names.push("slipway-agent");
    }
    let (libraries, mut environment) = wheels::add(archive.top(), image.variant)?;
    let bill = sbom::document(&sbom::Contents {
        image,
        programs: names,
        base: (!is_static).then_some(*base),
        wheels: libraries,
        source,
    })?;
    let bill_path = format!("{DOCUMENTS}/{}.cdx.json", image.name);
    archive.top().bytes(&bill_path, 0o644, bill.clone());
    archive.file(&format!("{DOCUMENTS}/LICENSE"), &crate::build::root().join("LICENSE"))?;
    environment.splice(0..0, settings(image));
    describe(&mut archive, parts, &bill_path, &environment);
    archive.compress(programs.compression).created(&source.created);
    Ok(Assembled { archive, bill, reference, program_bytes })
}

/// Where the program of an image is. The launcher copies the static agent from its image into pods, and
/// expects it there.
fn path(image: &Image) -> String {
    match image.variant {
        Variant::Static => format!("/{}", image.name),
        _ => format!("{PROGRAMS}/{}", image.name),
    }
}

/// Environment variables of an image. A service of a container is reached from outside of it.
fn settings(image: &Image) -> Vec<String> {
    let listens = image.listens.iter().map(|(variable, port)| format!("{variable}=0.0.0.0:{port}"));
    let further = image.environment.iter().map(|(variable, value)| format!("{variable}={value}"));
    let path = format!("PATH={PROGRAMS}:/usr/bin:/bin");
    [path].into_iter().chain(listens).chain(further).collect()
}

/// Adds configuration, labels and annotations.
fn describe(archive: &mut Archive, parts: &Parts<'_>, bill: &str, environment: &[String]) {
    let Parts { image, source, .. } = parts;
    let facts = [
        ("org.opencontainers.image.title", image.name),
        ("org.opencontainers.image.description", image.about),
        ("org.opencontainers.image.version", &source.version),
        ("org.opencontainers.image.revision", &source.revision),
        ("org.opencontainers.image.created", &source.created),
        ("org.opencontainers.image.licenses", "Apache-2.0"),
        ("dev.slipway.sbom", bill),
    ];
    let mut labels = json!({});
    for (key, value) in facts {
        labels[key] = value.into();
        archive.annotate(key, value);
    }
    let ports: serde_json::Map<String, Value> =
        image.listens.iter().map(|(_, port)| (format!("{port}/tcp"), json!({}))).collect();
    let mut config = json!({
        "User": format!("{USER}:{USER}"),
        "Entrypoint": [path(image)],
        "Env": environment,
        "WorkingDir": if image.variant == Variant::Static { "/" } else { DATA },
        "Labels": labels,
        "StopSignal": "SIGTERM",
    });
    if !ports.is_empty() {
        config["ExposedPorts"] = ports.into();
    }
    archive.configure(config);
}
