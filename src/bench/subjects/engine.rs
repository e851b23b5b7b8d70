//! `docker` and `podman`: engines, which keep images and names and then call an OCI runtime.
//!
//! The image is made of the payload when they are to be ready, and removed with the race. Networks are left out:
//! what an engine does for one is not what the others do at all.

use super::command::Command;
use super::rootfs::{self, Rootfs, call};
use crate::bench::launcher::find_program;
use crate::bench::payload::Payload;
use crate::bench::subject::{Kind, Missing};
use crate::container::cgroup::remove_everywhere;
use std::cell::RefCell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;

/// An engine, by its name.
struct Engine {
    name: &'static str,
    about: &'static str,
    hint: &'static str,
    /// How it may fail to be ready though it is installed.
    asleep: &'static str,
    /// Its storage can be in a directory of ours, so that nothing of it stays.
    has_own_storage: bool,
}

const ENGINES: [Engine; 2] = [
    Engine {
        name: "podman",
        about: "podman run: an engine without a daemon",
        hint: "apt install podman",
        asleep: "`podman info` says more",
        has_own_storage: true,
    },
    Engine {
        name: "docker",
        about: "docker run: the engine with a daemon, which does the work",
        hint: "apt install docker.io",
        asleep: "the daemon has to run, and you have to be in its group: sudo systemctl start docker",
        has_own_storage: false,
    },
];

/// One command for each engine.
pub fn all(payload: &Payload) -> Vec<Command> {
    ENGINES.iter().map(|engine| command(engine, payload)).collect()
}

fn command(engine: &'static Engine, payload: &Payload) -> Command {
    let own = payload.clone();
    let made: Rc<RefCell<Option<Image>>> = Rc::default();
    let tidied = Rc::clone(&made);
    let words = move || {
        let program = find_program(engine.name).ok_or_else(|| Missing::new("not installed", engine.hint))?;
        let image = Image::new(engine, program, &own).map_err(|why| Missing::new(why, engine.asleep))?;
        let words = image.run();
        *made.borrow_mut() = Some(image);
        Ok(words)
    };
    let tidy = move || {
        if let Some(image) = tidied.borrow().as_ref() {
            image.remove_container();
        }
    };
    Command::new(Kind::Engine, engine.name, engine.about, payload, words)
        .tidied_by(tidy)
        .of_version_of(engine.name)
}

/// An image of ours in an engine's storage, removed when it is dropped.
struct Image {
    program: PathBuf,
    /// Options before the engine's command.
    options: Vec<OsString>,
    name: String,
}

impl Image {
    fn new(engine: &Engine, program: PathBuf, payload: &Payload) -> Result<Image, String> {
        let rootfs = Rootfs::new(engine.name, payload, &[]).map_err(|error| error.to_string())?;
        let mut options: Vec<OsString> = Vec::new();
        if engine.has_own_storage {
            // Short names: podman takes a --runroot of 50 bytes at most.
            let storage = |name| rootfs.directory().join(name).into();
            options.extend(["--root".into(), storage("s"), "--runroot".into(), storage("r")]);
            // Nothing of the host's configuration is asked for but what works everywhere.
            options.extend(["--storage-driver=vfs", "--cgroup-manager=cgroupfs"].map(OsString::from));
            options.extend(["--events-backend=none"].map(OsString::from));
        }
        let image = Image { program, options, name: rootfs.unique_name() };
        // A daemon that sleeps is the commonest trouble, and this the quickest question.
        call(&image.words(&["version"]))?;
        let archive = rootfs.directory().join("image.tar");
        let mut tar: Vec<OsString> = vec!["tar".into(), "-C".into(), rootfs.path().into(), "-cf".into()];
        tar.extend([archive.clone().into(), "payload".into()]);
        call(&tar)?;
        let mut import = image.words(&["import"]);
        import.extend([archive.into(), image.name.clone().into()]);
        call(&import)?;
        Ok(image)
    }

    fn words(&self, more: &[&str]) -> Vec<OsString> {
        let program = [self.program.clone().into()].into_iter();
        program.chain(self.options.iter().cloned()).chain(more.iter().map(OsString::from)).collect()
    }

    fn run(&self) -> Vec<OsString> {
        let parent = format!("--cgroup-parent=/{}", self.name);
        let name = format!("--name={}", self.name);
        self.words(&["run", "--rm", "--network=none", &parent, &name, &self.name, "/payload"])
    }

    fn remove_container(&self) {
        rootfs::quietly(&self.words(&["rm", "--force", &self.name]));
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        rootfs::quietly(&self.words(&["rmi", "--force", &self.name]));
        // podman leaves the parent of its containers' cgroups behind.
        remove_everywhere(&self.name);
    }
}
