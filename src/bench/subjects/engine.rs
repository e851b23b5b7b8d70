//! `docker` and `podman`: engines, which keep images and names and then call an OCI runtime; `podman-vm` is podman with
//! ours.
//!
//! Before the race, an image is made of the payload; after it, the image is removed. The containers have no network, as
//! the other subjects have none.

use super::command::Command;
use super::rootfs::{self, Rootfs, call};
use super::vm;
use crate::bench::launcher::find_program;
use crate::bench::payload::Payload;
use crate::bench::subject::{Kind, Missing};
use crate::container::cgroup::remove_everywhere;
use crate::container::mark;
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

/// An engine, by its name.
struct Engine {
    name: &'static str,
    program: &'static str,
    about: &'static str,
    hint: &'static str,
    /// A hint for the case that it is installed and does not work.
    fix: &'static str,
    /// Whether its storage can be in a directory of ours, which is removed with the race.
    has_own_storage: bool,
    /// Whether it calls our runtime instead of its own.
    is_vm: bool,
}

const ENGINES: [Engine; 3] = [
    Engine {
        name: "podman",
        program: "podman",
        about: "podman run: an engine without a daemon",
        hint: "apt install podman",
        fix: "`podman info` says more",
        has_own_storage: true,
        is_vm: false,
    },
    Engine {
        name: "podman-vm",
        program: "podman",
        about: "podman run --runtime matchstick-runtime: the program is in a VM, in the container",
        hint: "apt install podman",
        fix: "`podman info` says more",
        has_own_storage: true,
        is_vm: true,
    },
    Engine {
        name: "docker",
        program: "docker",
        about: "docker run: the engine with a daemon, which does the work",
        hint: "apt install docker.io",
        fix: "the daemon has to run, and you have to be in its group: sudo systemctl start docker",
        has_own_storage: false,
        is_vm: false,
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
        let program =
            find_program(engine.program).ok_or_else(|| Missing::new("not installed", engine.hint))?;
        own.stands_alone()?;
        if engine.is_vm {
            vm::can_run()?;
        }
        let image = Image::new(engine, program, &own).map_err(|why| Missing::new(why, engine.fix))?;
        let words = image.run("/payload");
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
        .of_version_of(engine.program)
}

/// An image of ours in an engine's storage, removed when it is dropped.
struct Image {
    program: PathBuf,
    /// Options before the engine's command.
    options: Vec<OsString>,
    name: String,
    has_own_storage: bool,
}

impl Image {
    fn new(engine: &Engine, program: PathBuf, payload: &Payload) -> Result<Image, String> {
        let rootfs = Rootfs::new(engine.name, payload, &[]).map_err(|error| error.to_string())?;
        let mut options: Vec<OsString> = Vec::new();
        if engine.has_own_storage {
            // Short names: podman takes a --runroot of 50 bytes at most.
            let storage = |letter| rootfs.short_path(letter).into();
            options.extend(["--root".into(), storage('s'), "--runroot".into(), storage('r')]);
            // These work on every host, whatever its configuration says.
            options.extend(["--storage-driver=vfs", "--cgroup-manager=cgroupfs"].map(OsString::from));
            options.extend(["--events-backend=none"].map(OsString::from));
        }
        if engine.is_vm {
            options.extend(["--runtime".into(), vm::runtime_in(rootfs.directory())?.into()]);
        }
        let Engine { has_own_storage, .. } = *engine;
        let mut image = Image { program, options, name: rootfs.unique_name(), has_own_storage };
        // The usual fault is a daemon that does not run. This command finds it out quickly.
        call(&image.words(&["version"]))?;
        if !engine.has_own_storage {
            image.remove_left_over();
        }
        fs::copy(&payload.empty, rootfs.path().join("empty")).map_err(|error| error.to_string())?;
        let archive = rootfs.directory().join("image.tar");
        let mut tar: Vec<OsString> = vec!["tar".into(), "-C".into(), rootfs.path().into(), "-cf".into()];
        tar.extend([archive.clone().into(), "payload".into(), "empty".into()]);
        call(&tar)?;
        let mut import = image.words(&["import"]);
        import.extend([archive.into(), image.name.clone().into()]);
        call(&import)?;
        // One that is installed may still not be able to start anything, because of its configuration or of the host.
        let Err(why) = call(&image.run("/empty")) else { return Ok(image) };
        // podman's own crun runs on no host with both versions of cgroups, and runc does.
        let has_choice = engine.has_own_storage && !engine.is_vm && find_program("runc").is_some();
        if has_choice {
            image.options.extend(["--runtime", "runc"].map(OsString::from));
        }
        if !has_choice || call(&image.run("/empty")).is_err() {
            return Err(why);
        }
        Ok(image)
    }

    fn words(&self, more: &[&str]) -> Vec<OsString> {
        let program = [self.program.clone().into()].into_iter();
        program.chain(self.options.iter().cloned()).chain(more.iter().map(OsString::from)).collect()
    }

    fn run(&self, program: &str) -> Vec<OsString> {
        let parent = format!("--cgroup-parent=/{}", self.name);
        let name = format!("--name={}", self.name);
        // podman asks for more open files than a container's root may have, where this host is a container itself.
        let limits = if self.has_own_storage {
            &["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"][..]
        } else {
            &[]
        };
        let options = ["run", "--rm", "--network=none", &parent, &name];
        self.words(&[&options[..], limits, &[&self.name, program]].concat())
    }

    /// Removes the containers and images of races that were killed.
    fn remove_left_over(&self) {
        let lists = [
            (["ps", "--all", "--format={{.Names}}"], ["rm", "--force"]),
            (["images", "--all", "--format={{.Repository}}"], ["rmi", "--force"]),
        ];
        for (list, remove) in lists {
            let names = rootfs::output_of(&self.words(&list)).unwrap_or_default();
            for name in names.lines().filter(|name| mark::is_left_over(name)) {
                rootfs::quietly(&self.words(&[&remove[..], &[name]].concat()));
            }
        }
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
