//! `unshare`, `bwrap` and `nspawn`: tools that put a command into namespaces, without images and daemons.

use super::command::Command;
use super::rootfs::Rootfs;
use crate::bench::launcher::find_program;
use crate::bench::payload::Payload;
use crate::bench::subject::{Kind, Missing};
use crate::sys::clone::ids;
use std::ffi::OsString;

/// unshare(1), with all its namespaces and a root of its own. It needs no root either.
pub fn unshare(payload: &Payload) -> Command {
    let about = "unshare: the tool of util-linux for namespaces, with seven of them and chroot";
    let own = payload.clone();
    let words = move || {
        let program =
            find_program("unshare").ok_or_else(|| Missing::new("not installed", "apt install util-linux"))?;
        own.stands_alone()?;
        let rootfs = Rootfs::new("unshare", &own, &["proc"])
            .map_err(|error| Missing::new(format!("cannot make its root: {error}"), "is $TMPDIR full?"))?;
        let mut words: Vec<OsString> = vec![program.into()];
        // The payload is process 1 of its pid namespace, and so has to be a child: --fork. If unshare is killed, so is it.
        let options = "--user --map-root-user --mount --pid --fork --kill-child --uts --ipc --net --cgroup";
        words.extend(options.split(' ').map(OsString::from));
        words.extend(["--root".into(), rootfs.path().into()]);
        if own.is_probe {
            words.push("--mount-proc".into());
        }
        words.push("/payload".into());
        Ok(words)
    };
    Command::new(Kind::Sandbox, "unshare", about, payload, words).of_version_of("unshare")
}

/// bubblewrap, which Flatpak is built on. It needs no root.
pub fn bwrap(payload: &Payload) -> Command {
    let about = "bwrap: bubblewrap, the sandbox of Flatpak, with all its namespaces";
    let own = payload.clone();
    let words = move || {
        let program =
            find_program("bwrap").ok_or_else(|| Missing::new("not installed", "apt install bubblewrap"))?;
        own.stands_alone()?;
        let mut words: Vec<OsString> = vec![program.into()];
        // Its root is an empty tmpfs. With --as-pid-1 the payload is process 1, and bwrap needs no process of its own there.
        let options =
            "--unshare-all --unshare-user --die-with-parent --as-pid-1 --cap-drop ALL --hostname matchstick";
        words.extend(options.split(' ').map(OsString::from));
        if own.is_probe {
            words.extend(["--proc", "/proc"].map(OsString::from));
        }
        words.extend(["--ro-bind".into(), own.program.clone().into(), "/payload".into(), "/payload".into()]);
        Ok(words)
    };
    Command::new(Kind::Sandbox, "bwrap", about, payload, words).of_version_of("bwrap")
}

/// systemd-nspawn, without registering the container with systemd.
pub fn nspawn(payload: &Payload) -> Command {
    let about = "systemd-nspawn: the container tool of systemd";
    let own = payload.clone();
    let words = move || {
        let program = find_program("systemd-nspawn")
            .ok_or_else(|| Missing::new("not installed", "apt install systemd-container"))?;
        if ids().0 != 0 {
            return Err(Missing::new("it wants root", "sudo matchstick bench"));
        }
        own.stands_alone()?;
        // It only accepts a directory with a /usr as the root of a system.
        let directories = ["usr", "proc", "sys", "dev", "run", "tmp", "etc"];
        let rootfs = Rootfs::new("nspawn", &own, &directories)
            .map_err(|error| Missing::new(format!("cannot make its root: {error}"), "is $TMPDIR full?"))?;
        let mut words: Vec<OsString> = vec![program.into(), "--directory".into(), rootfs.path().into()];
        let options = "--quiet --register=no --keep-unit --private-network --console=pipe --link-journal=no \
                       --resolv-conf=off --timezone=off";
        words.extend(options.split_whitespace().map(OsString::from));
        words.extend(["--machine".into(), rootfs.unique_name().into(), "/payload".into()]);
        Ok(words)
    };
    Command::new(Kind::SystemContainer, "nspawn", about, payload, words).of_version_of("systemd-nspawn")
}
