//! `ctr` and `ctr-vm`: containerd, the daemon behind Kubernetes and Docker, asked by its own client. It starts a shim, and
//! that an OCI runtime: runc, or ours.
//!
//! The root file system is a directory of ours (`ctr run --rootfs`), so no image is made. ctr finds the daemon by
//! `CONTAINERD_ADDRESS`, or at its usual place.

use super::command::Command;
use super::rootfs::{self, Rootfs};
use super::vm;
use crate::bench::launcher::find_program;
use crate::bench::payload::Payload;
use crate::bench::subject::{Kind, Missing};
use crate::container::cgroup::remove_everywhere;
use crate::container::mark;
use std::cell::RefCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// containerd keeps what belongs to different users of it apart by such names.
const NAMESPACE: &str = "matchstick-bench";
const FIX: &str = "the daemon has to run, and its socket to be yours: sudo systemctl start containerd";

/// With runc, and with ours.
pub fn all(payload: &Payload) -> [Command; 2] {
    [
        command("ctr", "ctr run: containerd, which has a shim call runc", payload),
        command("ctr-vm", "the same, with our runtime: the program is in a VM, in the container", payload),
    ]
}

fn command(name: &'static str, about: &'static str, payload: &Payload) -> Command {
    let own = payload.clone();
    let is_vm = name == "ctr-vm";
    let made: Rc<RefCell<Option<Container>>> = Rc::default();
    let tidied = Rc::clone(&made);
    let words = move || {
        let program =
            find_program("ctr").ok_or_else(|| Missing::new("not installed", "apt install containerd"))?;
        own.stands_alone()?;
        if is_vm {
            vm::can_run()?;
        }
        let container = Container::new(name, program, &own, is_vm).map_err(|why| Missing::new(why, FIX))?;
        let words = container.run();
        *made.borrow_mut() = Some(container);
        Ok(words)
    };
    let tidy = move || {
        if let Some(container) = tidied.borrow().as_ref() {
            container.remove(&container.name);
        }
    };
    Command::new(Kind::Engine, name, about, payload, words).tidied_by(tidy).of_version_of("ctr")
}

/// A call of ctr. A daemon that does not run would be waited for.
fn words(program: &Path, more: &[&str]) -> Vec<OsString> {
    let options = ["--connect-timeout", "2s", "--namespace", NAMESPACE];
    let words = options.into_iter().chain(more.iter().copied()).map(OsString::from);
    [program.into()].into_iter().chain(words).collect()
}

/// A container that is made and removed by each start.
struct Container {
    program: PathBuf,
    rootfs: Rootfs,
    name: String,
    /// Ours, if it is not runc.
    runtime: Option<PathBuf>,
}

impl Container {
    fn new(name: &str, program: PathBuf, payload: &Payload, is_vm: bool) -> Result<Container, String> {
        rootfs::call(&words(&program, &["version"]))?;
        let rootfs = Rootfs::new(name, payload, &[]).map_err(|error| error.to_string())?;
        let runtime = if is_vm { Some(vm::runtime_in(rootfs.directory())?) } else { None };
        let container = Container { program, name: rootfs.unique_name(), rootfs, runtime };
        let list = words(&container.program, &["containers", "list", "--quiet"]);
        let names = rootfs::output_of(&list).unwrap_or_default();
        for left_over in names.lines().filter(|name| mark::is_left_over(name)) {
            container.remove(left_over);
        }
        rootfs::call(&container.run())?;
        Ok(container)
    }

    fn run(&self) -> Vec<OsString> {
        let mut words = words(&self.program, &["run", "--rm", "--rootfs", "--read-only"]);
        if let Some(runtime) = &self.runtime {
            words.extend(["--runc-binary".into(), runtime.into()]);
        }
        words.extend([self.rootfs.path().into(), self.name.clone().into(), "/payload".into()]);
        words
    }

    /// Ends what is left of a container whose client was killed.
    fn remove(&self, name: &str) {
        rootfs::quietly(&words(&self.program, &["task", "rm", "--force", name]));
        rootfs::quietly(&words(&self.program, &["container", "rm", name]));
        remove_everywhere(name);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.remove(&self.name);
        // Which fails as long as another race has something in it.
        rootfs::quietly(&words(&self.program, &["namespace", "rm", NAMESPACE]));
        remove_everywhere(NAMESPACE);
    }
}
