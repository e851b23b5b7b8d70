//! What an image says of itself: an index of images, a manifest of layers, a configuration.
//!
//! Two forms are known. The OCI image layout has an index.json and names all else by its digest. What `docker save` has
//! always written has a manifest.json that names files. An archive that has both is read as the first. Nothing is unpacked
//! here. Sources: the OCI image specification, image-layout.md, image-index.md, manifest.md, config.md; Docker's image
//! specification v1.2, "Combined Image JSON + Filesystem Changeset Format".

use super::digest::Digest;
use super::source::Source;
use super::{Error, Layer};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::Read;

/// The most bytes of a file that is JSON.
const JSON_MAX: u64 = 4 << 20;
/// How deep one index may name another.
const DEPTH_MAX: usize = 3;
/// The most images that are looked at.
const IMAGES_MAX: usize = 1000;
/// The name that an image has in an index, and the one that containerd gives it, with its registry.
const NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize, Clone)]
struct Descriptor {
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Deserialize, Clone)]
struct Platform {
    architecture: String,
    os: String,
}

/// An index or a manifest: both are found where an index says that there is one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    Index(Index),
    Manifest { config: Descriptor, layers: Vec<Descriptor> },
}

/// One image of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// An image's configuration.
#[derive(Deserialize)]
struct Configuration {
    architecture: Option<String>,
    os: Option<String>,
    config: Option<Process>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// What an image says of the process that is to run in it.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase", default)]
pub struct Process {
    /// The words before the arguments.
    #[serde(deserialize_with = "or_null")]
    pub entrypoint: Vec<String>,
    /// The arguments, or the whole where there is no entry point.
    #[serde(deserialize_with = "or_null")]
    pub cmd: Vec<String>,
    /// NAME=value.
    #[serde(deserialize_with = "or_null")]
    pub env: Vec<String>,
    /// `user`, `user:group`; names or numbers. Root, if it is empty.
    #[serde(deserialize_with = "or_null")]
    pub user: String,
    /// The working directory; the root, if it is empty.
    #[serde(deserialize_with = "or_null")]
    pub working_dir: String,
}

fn or_null<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// What was found: the image's name, if it has one, what runs in it, and its layers from the lowest on.
pub struct Found {
    /// Its name.
    pub name: Option<String>,
    /// What runs.
    pub process: Process,
    /// Its layers.
    pub layers: Vec<Layer>,
}

/// The image called `wanted`, or the only one.
///
/// # Errors
/// There is none, or more than one; or what it says does not hold together.
pub fn find(source: &Source, wanted: Option<&str>) -> Result<Option<Found>, Error> {
    if let Some(index) = json(source, "index.json", "index.json", None)? {
        return in_layout(source, index, wanted).map(Some);
    }
    let saved: Option<Vec<Saved>> = json(source, "manifest.json", "manifest.json", None)?;
    saved.map(|saved| in_archive(source, saved, wanted)).transpose()
}

/// A document, with the digest and the size that it is to have.
fn json<T: DeserializeOwned>(
    source: &Source,
    file: &str,
    what: &'static str,
    expected: Option<(Digest, u64)>,
) -> Result<Option<T>, Error> {
    let read = |source| Error::Read { what, source };
    let Some((contents, size)) = source.file(file).map_err(read)? else { return Ok(None) };
    if size > JSON_MAX {
        return Err(Error::Damaged { what, why: "it is too long".into() });
    }
    let mut bytes = Vec::new();
    contents.take(JSON_MAX).read_to_end(&mut bytes).map_err(read)?;
    if expected.is_some_and(|(digest, size)| size != bytes.len() as u64 || digest != Digest::of(&bytes)) {
        return Err(Error::Digest { what });
    }
    let damaged = |error: serde_json::Error| Error::Damaged { what, why: error.to_string() };
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

fn digest(text: &str, what: &'static str) -> Result<Digest, Error> {
    let why = || "it has a digest that is no SHA-256".to_owned();
    Digest::parse(text).ok_or_else(|| Error::Damaged { what, why: why() })
}

/// The file of a layer, with its digest and its size where they are known.
type Blob = (String, Option<(Digest, u64)>);

/// Where a blob of a layout lies.
fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.digits())
}

fn described<T: DeserializeOwned>(
    source: &Source,
    descriptor: &Descriptor,
    what: &'static str,
) -> Result<T, Error> {
    let digest = digest(&descriptor.digest, what)?;
    let found = json(source, &blob(&digest), what, Some((digest, descriptor.size)))?;
    found.ok_or(Error::Missing { what })
}

/// A manifest of a layout, and the names of its image.
struct Candidate {
    names: Vec<String>,
    descriptor: Descriptor,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

fn in_layout(source: &Source, index: Index, wanted: Option<&str>) -> Result<Found, Error> {
    let mut candidates = Vec::new();
    collect(source, index, &[], 0, &mut candidates)?;
    let of = |candidate: &Candidate| candidate.names.clone();
    let same = |one: &Candidate, other: &Candidate| one.descriptor.digest == other.descriptor.digest;
    let (name, candidate) = choose(candidates, of, same, wanted)?;
    let config = described(source, &candidate.config, "configuration")?;
    let layer = |descriptor: &Descriptor| {
        let digest = digest(&descriptor.digest, "manifest")?;
        Ok((blob(&digest), Some((digest, descriptor.size))))
    };
    let layers = candidate.layers.iter().map(layer).collect::<Result<_, _>>()?;
    found(name, config, layers)
}

/// All images of an index that could run here, those of indexes in it as well.
fn collect(
    source: &Source,
    index: Index,
    names: &[String],
    depth: usize,
    found: &mut Vec<Candidate>,
) -> Result<(), Error> {
    for descriptor in index.manifests {
        // An attestation says that it is for no platform at all.
        let is_other = |platform: &Platform| platform.os != "linux" || platform.architecture != "amd64";
        if descriptor.platform.as_ref().is_some_and(is_other) {
            continue;
        }
        let own = [FULL_NAME, NAME].iter().filter_map(|key| descriptor.annotations.get(*key).cloned());
        let names: Vec<String> = own.chain(names.iter().cloned()).collect();
        if found.len() >= IMAGES_MAX {
            return Err(Error::Damaged { what: "index.json", why: "it names too many images".into() });
        }
        match described(source, &descriptor, "manifest")? {
            Document::Manifest { config, layers } => {
                found.push(Candidate { names, descriptor, config, layers });
            }
            Document::Index(_) if depth >= DEPTH_MAX => {
                return Err(Error::Damaged { what: "index.json", why: "indexes in indexes".into() });
            }
            Document::Index(index) => collect(source, index, &names, depth + 1, found)?,
        }
    }
    Ok(())
}

fn in_archive(source: &Source, saved: Vec<Saved>, wanted: Option<&str>) -> Result<Found, Error> {
    let of = |image: &Saved| image.repo_tags.clone().unwrap_or_default();
    let (name, image) = choose(saved, of, |one, other| one.config == other.config, wanted)?;
    // Its name is its digest, and nothing else says what that is to be.
    let file = image.config.rsplit('/').next().unwrap_or_default();
    let digits = file.strip_suffix(".json").unwrap_or(file);
    let expected = match Digest::parse(&format!("sha256:{digits}")) {
        Some(digest) => {
            let size = source.file(&image.config).ok().flatten().map_or(0, |(_, size)| size);
            Some((digest, size))
        }
        None => None,
    };
    let config = json(source, &image.config, "configuration", expected)?;
    let config = config.ok_or(Error::Missing { what: "configuration" })?;
    found(name, config, image.layers.into_iter().map(|file| (file, None)).collect())
}

/// The one that is called so, or the only one there is, with its first name.
fn choose<T>(
    mut images: Vec<T>,
    names: impl Fn(&T) -> Vec<String>,
    is_same: impl Fn(&T, &T) -> bool,
    wanted: Option<&str>,
) -> Result<(Option<String>, T), Error> {
    let all = |images: &[T]| {
        let mut all: Vec<String> = images.iter().flat_map(&names).collect();
        all.dedup();
        all
    };
    let names_of_all = all(&images);
    if let Some(wanted) = wanted {
        images.retain(|image| names(image).iter().any(|name| is_called(name, wanted)));
    }
    images.dedup_by(|one, other| is_same(one, other));
    match (images.len(), wanted) {
        (1, _) => {
            let image = images.remove(0);
            Ok((names(&image).into_iter().next(), image))
        }
        (0, Some(wanted)) => Err(Error::NoName { name: wanted.into(), names: names_of_all }),
        (0, None) => Err(Error::Empty),
        _ => Err(Error::Which { names: all(&images) }),
    }
}

/// Whether an image's name is meant by what was typed: the whole, its end, or its tag alone.
fn is_called(name: &str, wanted: &str) -> bool {
    let with_tag = |name: &str| match name.rsplit('/').next() {
        Some(last) if last.contains(':') => name.to_owned(),
        _ => format!("{name}:latest"),
    };
    let (name, whole) = (with_tag(name), with_tag(wanted));
    let is_end = |end: &str| name == end || name.ends_with(&format!("/{end}"));
    is_end(&whole) || name.rsplit(':').next() == Some(wanted) || name == format!("{wanted}:latest")
}

fn found(name: Option<String>, configuration: Configuration, blobs: Vec<Blob>) -> Result<Found, Error> {
    let Configuration { architecture, os, config, rootfs } = configuration;
    let (architecture, os) = (architecture.unwrap_or("amd64".into()), os.unwrap_or("linux".into()));
    if architecture != "amd64" || os != "linux" {
        return Err(Error::Platform { platform: format!("{os}/{architecture}") });
    }
    let damaged = |why: &str| Error::Damaged { what: "configuration", why: why.into() };
    if rootfs.diff_ids.len() != blobs.len() {
        return Err(damaged("it has another number of layers than the manifest"));
    }
    let layer = |(id, (file, blob)): (&String, Blob)| {
        Ok(Layer { file, blob, contents: digest(id, "configuration")? })
    };
    let layers = rootfs.diff_ids.iter().zip(blobs).map(layer).collect::<Result<_, Error>>()?;
    Ok(Found { name, process: config.unwrap_or_default(), layers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_meant_by_its_name_its_end_or_its_tag() {
        for wanted in ["docker.io/library/busybox:1.36", "library/busybox:1.36", "busybox:1.36", "1.36"] {
            assert!(is_called("docker.io/library/busybox:1.36", wanted), "{wanted}");
        }
        for wanted in ["box:1.36", "busybox", "busybox:1", "docker.io"] {
            assert!(!is_called("docker.io/library/busybox:1.36", wanted), "{wanted}");
        }
        assert!(is_called("localhost:5000/a", "a") && is_called("latest", "latest") && is_called("v1", "v1"));
    }

    #[test]
    fn what_is_null_is_as_good_as_absent() {
        let text = r#"{"rootfs": {"type": "layers", "diff_ids": []}, "config": {"Cmd": null, "User": null}}"#;
        let found = found(None, serde_json::from_str(text).unwrap(), vec![]).unwrap();
        assert_eq!(found.process, Process::default());
    }
}
