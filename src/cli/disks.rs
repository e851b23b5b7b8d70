//! `--disk`: the disks of a guest, opened before there is a machine, and served by a thread each.

use super::error::{Error, Result};
use super::run_options::{DiskArg, RunArgs};
use crate::linux::{self, Disk, modules};
use crate::machine::{Doorbell, Machine};
use crate::sandbox::Role;
use crate::text::shown;
use crate::virtio::Rng;
use crate::virtio::blk::{Blk, Store, Worker};
use std::path::{Path, PathBuf};

/// Opens and locks the disks that `args` name.
pub fn open(args: &RunArgs) -> Result<Vec<Store>> {
    let open = |DiskArg { path, is_read_only }: &DiskArg| Ok(Store::open(path, *is_read_only)?);
    args.disks.iter().map(open).collect()
}

/// What a Linux of ours has to know of its disks: the modules that it needs for them, in the initramfs, and which one is its
/// root. Of a kernel whose modules are not here it is believed that all is built in.
pub fn tell(
    args: &RunArgs,
    disks: &[Store],
    kernel: (&Path, &[u8]),
    options: &mut linux::Options,
) -> Result<()> {
    let Some(first) = disks.first() else { return Ok(()) };
    let mut names = vec![modules::VIRTIO, "virtio_blk"];
    if args.init.is_none() && args.rootfs.is_none() {
        let cmdline = args.cmdline_only.as_ref().or(args.cmdline.as_ref()).map(AsRef::as_ref);
        let path = || args.disks.first().map(|disk| disk.path.clone()).unwrap_or_default();
        let root = Disk::first(first.file(), first.is_read_only(), cmdline);
        let root = root.map_err(|source| crate::error::Error::Unreadable { path: path(), source })?;
        let root = root.ok_or_else(|| Error::NoRoot { name: shown(path()) })?;
        options.disk = Some(root);
    }
    let root = options.disk.clone();
    names.extend(root.iter().flat_map(Disk::modules));
    let (path, bytes) = kernel;
    let release = modules::release(bytes);
    let directory = release.and_then(|release| modules::directory(path, &release));
    let Some(directory) = directory else { return Ok(()) };
    options.modules = modules::find(&directory, &names)?;
    // Without it a guest has its random numbers all the same, from what it begins with.
    if let Ok(found) = modules::find(&directory, &["virtio_rng"]) {
        let is_new = |module: &PathBuf| !options.modules.contains(module);
        let found: Vec<_> = found.into_iter().filter(is_new).collect();
        options.modules.extend(found);
    }
    Ok(())
}

/// A disk that is on its machine, and has no thread yet.
pub struct Attached {
    worker: Worker,
    doorbell: Doorbell,
}

/// Puts disks on a machine; one that has any has a source of random numbers as well.
pub fn attach(machine: &mut Machine, disks: Vec<Store>) -> Result<Vec<Attached>> {
    let mut attach = |store| {
        let (disk, worker) = Blk::new(store);
        machine.add_virtio(disk)?;
        Ok(Attached { worker, doorbell: machine.doorbell()? })
    };
    let attached: Vec<_> = disks.into_iter().map(&mut attach).collect::<Result<_>>()?;
    if !attached.is_empty() {
        machine.add_virtio(Rng::new())?;
    }
    Ok(attached)
}

/// Gives each its thread.
pub fn start(machine: &Machine, disks: Vec<Attached>) -> Result<()> {
    for Attached { worker, doorbell } in disks {
        machine.spawn(Role::Disk, move || worker.run(|| doorbell.ring()))?;
    }
    Ok(())
}
