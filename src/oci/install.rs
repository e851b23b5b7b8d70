//! What podman, docker, containerd and Kubernetes need to know about our runtime, and whether it works here.
//!
//! Sources: containers.conf(5) "engine.runtimes"; docker's daemon.json "runtimes"; containerd's CRI Plugin Config Guide;
//! the Kubernetes documentation, "Runtime Class".

use super::document::Document;
use super::error::OciError;
use super::shim::{find_runtime, own_file};
use serde_json::json;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The link by which callers start us.
const LINK: &str = "/usr/local/bin/matchstick-runtime";

/// Who is to know our runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// podman(1)
    Podman,
    /// dockerd(8)
    Docker,
    /// containerd(8), also below Kubernetes.
    Containerd,
    /// Kubernetes itself, where a node's containerd knows it already.
    Kubernetes,
}

impl Caller {
    /// Its configuration; Kubernetes has none in a file.
    fn file(self) -> Option<&'static Path> {
        match self {
            Caller::Podman => Some(Path::new("/etc/containers/containers.conf.d/matchstick.conf")),
            Caller::Docker => Some(Path::new("/etc/docker/daemon.json")),
            Caller::Containerd => Some(Path::new("/etc/containerd/config.toml")),
            Caller::Kubernetes => None,
        }
    }

    /// What its user does then.
    pub fn then(self) -> &'static str {
        match self {
            Caller::Podman => "podman run --runtime matchstick IMAGE",
            Caller::Docker => "systemctl reload docker; docker run --runtime matchstick IMAGE",
            Caller::Containerd => "systemctl restart containerd; a pod's runtime handler is matchstick",
            Caller::Kubernetes => {
                "kubectl apply -f - takes it; each node's containerd has to know matchstick"
            }
        }
    }

    /// What its configuration has to say, where it says `before`.
    ///
    /// # Errors
    /// What is there cannot be understood.
    fn text(self, before: Option<&str>) -> Result<String, OciError> {
        let before_or_none = before.unwrap_or_default();
        Ok(match self {
            Caller::Podman => format!("[engine.runtimes]\nmatchstick = [\"{LINK}\"]\n"),
            Caller::Docker => {
                let mut all = match before {
                    None => json!({}),
                    Some(text) => Document::of(self.file().expect("docker has one"), text.as_bytes())?,
                };
                all["runtimes"]["matchstick"] = json!({ "path": LINK });
                format!("{all:#}\n")
            }
            Caller::Containerd if before_or_none.contains("runtimes.matchstick]") => {
                before_or_none.to_owned()
            }
            Caller::Containerd => {
                let is_third = before_or_none.lines().any(|line| line.replace(' ', "") == "version=3");
                let plugin =
                    if is_third { "io.containerd.cri.v1.runtime" } else { "io.containerd.grpc.v1.cri" };
                let start = if before_or_none.is_empty() { "version = 2\n" } else { "" };
                let table = format!("plugins.\"{plugin}\".containerd.runtimes.matchstick");
                format!(
                    "{start}{before_or_none}\n[{table}]\n  runtime_type = \"io.containerd.runc.v2\"\n  \
                     pod_annotations = [\"dev.matchstick.*\"]\n[{table}.options]\n  BinaryName = \"{LINK}\"\n"
                )
            }
            Caller::Kubernetes => CLASS.to_owned(),
        })
    }

    /// Where it is written to, and what is there then.
    ///
    /// # Errors
    /// What is there cannot be read or understood.
    pub fn plan(self) -> Result<(Option<&'static Path>, String), OciError> {
        let file = self.file();
        let before = match file.map(|path| (path, fs::read_to_string(path))) {
            None => None,
            Some((_, Ok(text))) => Some(text),
            Some((_, Err(error))) if error.kind() == io::ErrorKind::NotFound => None,
            Some((path, Err(source))) => return Err(OciError::Read { path: path.to_owned(), source }),
        };
        Ok((file, self.text(before.as_deref())?))
    }

    /// Writes it, and the link.
    ///
    /// # Errors
    /// One of them cannot be written.
    pub fn install(self) -> Result<(), OciError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OciError::Write { path, source }
        };
        let (file, text) = self.plan()?;
        if let Some(file) = file {
            link(Path::new(LINK)).map_err(failed(Path::new(LINK)))?;
            fs::create_dir_all(file.parent().expect("below a directory")).map_err(failed(file))?;
            let new = file.with_extension(format!("matchstick-{}", std::process::id()));
            fs::write(&new, text).and_then(|()| fs::rename(&new, file)).map_err(failed(file))?;
        }
        Ok(())
    }
}

/// The link that is made.
///
/// # Errors
/// Our own file is not found.
pub fn planned_link() -> Result<(&'static str, String), OciError> {
    Ok((LINK, own_file()?))
}

fn link(path: &Path) -> io::Result<()> {
    let own = own_file().map_err(io::Error::other)?;
    match fs::read_link(path) {
        Ok(target) if target == Path::new(&own) => return Ok(()),
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    symlink(own, path)
}

/// A class, and a pod of it.
const CLASS: &str = "\
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata:
  name: matchstick
handler: matchstick
---
apiVersion: v1
kind: Pod
metadata:
  name: in-a-vm
spec:
  runtimeClassName: matchstick
  restartPolicy: Never
  containers:
  - name: hello
    image: busybox
    command: [\"echo\", \"hello from a VM\"]
";

/// Whether a container can be made here whose program is a VM, by making one: its program is this one, and says its
/// version.
///
/// # Errors
/// Why not.
pub fn check() -> Result<PathBuf, OciError> {
    let why = |why: String| OciError::DoesNotWork { why };
    let runtime = find_runtime()?;
    let kvm = File::options().read(true).write(true).open("/dev/kvm");
    kvm.map_err(|error| why(format!("/dev/kvm cannot be opened: {error}")))?;
    let name = format!("{}check", crate::container::mark::own());
    let bundle = std::env::temp_dir().join(&name);
    let checked = fs::create_dir_all(bundle.join("rootfs")).map_err(|error| why(error.to_string()));
    let checked = checked.and_then(|()| check_in(&bundle, &name, &runtime).map_err(why));
    let _ = fs::remove_dir_all(&bundle);
    checked.map(|()| runtime)
}

fn check_in(bundle: &Path, name: &str, runtime: &Path) -> Result<(), String> {
    let said = |command: &mut Command| {
        let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    };
    said(Command::new(runtime).arg("spec").arg("--bundle").arg(bundle))?;
    let mut config = Document::read(&bundle.join("config.json")).map_err(|error| error.to_string())?;
    config.value["process"]["terminal"] = false.into();
    config.value["process"]["args"] = json!([super::spec::BINARY, "--version"]);
    config.value["root"] = json!({ "path": "rootfs" });
    config.replace().map_err(|error| error.to_string())?;
    let own = own_file().map_err(|error| error.to_string())?;
    let version = said(Command::new(own).args(["oci", "run", "--bundle"]).arg(bundle).arg(name))?;
    if version.starts_with("matchstick ") { Ok(()) } else { Err(format!("its program said {version:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_kept() {
        let docker = Caller::Docker.text(Some(r#"{"debug":true,"runtimes":{"a":{"path":"/a"}}}"#)).unwrap();
        let docker: serde_json::Value = serde_json::from_str(&docker).unwrap();
        let runtimes = json!({ "a": { "path": "/a" }, "matchstick": { "path": LINK } });
        assert_eq!(docker, json!({ "debug": true, "runtimes": runtimes }));
        assert!(Caller::Docker.text(Some("{")).is_err());
        let first = Caller::Containerd.text(None).unwrap();
        assert!(first.starts_with("version = 2\n") && first.contains("grpc.v1.cri"), "{first}");
        assert_eq!(Caller::Containerd.text(Some(&first)).unwrap(), first, "once is enough");
        let third = Caller::Containerd.text(Some("version = 3\nroot = '/x'\n")).unwrap();
        assert!(
            third.starts_with("version = 3\nroot = '/x'\n") && third.contains("io.containerd.cri.v1.runtime")
        );
    }
}
