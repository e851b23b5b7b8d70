//! `exec`: files that a program must not reach, whatever it does about their names.

use super::exec::{compiled, exec};
use crate::support::{Program, has_kvm, installed, runs, skip};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// All that can be seen of a directory: names, kinds, rights, times and content.
fn seen(directory: &Path) -> Vec<String> {
    let mut all: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .flatten()
        .map(|entry| {
            let stat = entry.path().symlink_metadata().unwrap();
            let content = fs::read(entry.path()).unwrap_or_default();
            format!(
                "{:?} {:o} {} {} {content:?}",
                entry.file_name(),
                stat.mode(),
                stat.mtime_nsec(),
                stat.nlink()
            )
        })
        .collect();
    all.sort();
    all
}

/// A directory that may be changed, and beside it one that may not; links that lead from the one to the other come and go
/// while a program opens, makes, changes and removes.
#[test]
fn names_that_are_exchanged_lead_nowhere_else() {
    if !has_kvm() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let Some(program) = compiled("exchanged.c", scratch.path(), &["-static"]) else { return };
    let tenths = std::env::var("EXCHANGED").unwrap_or("5".into());
    for (number, options) in [&[][..], &["--sandbox", "off"]].into_iter().enumerate() {
        let of = |name: &str| scratch.path().join(format!("{name}{number}"));
        let (outside, own, root) = (of("outside"), of("own"), of("root"));
        for directory in [&outside, &own, &root, &root.join("own")] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(outside.join("f"), "secret").unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        fs::copy(&program, root.join("program")).unwrap();
        let before = seen(&outside);
        // It may read what is beside, and change nothing there.
        let write = own.display().to_string();
        let beside = format!("../outside{number}");
        let ended =
            exec(&[options, &["--write", &write]].concat(), &[&program, &write, &beside, &tenths]).run();
        ended.silent().status(0);
        assert!(ended.text().starts_with("inside\n"), "{ended:?}");
        assert_eq!(seen(&outside), before, "{options:?}");
        // With another root it does not even read it, neither by going up nor by its name.
        let (root, write) = (root.display().to_string(), root.join("own").display().to_string());
        for link in [format!("../{beside}"), outside.display().to_string()] {
            let options = [options, &["--root", &root, "--write", &write]].concat();
            let ended = exec(&options, &["/program", "/own", &link, &tenths]).run();
            ended.silent().status(0).printed("inside\n0 read\n");
            fs::remove_dir_all(&write).unwrap();
            fs::create_dir(&write).unwrap();
        }
        assert_eq!(seen(&outside), before, "{options:?}");
    }
}

/// A program that belongs to root and says so in its rights is run by whoever starts it as the same user.
#[test]
fn set_user_id_bits_mean_nothing() {
    let Some(id) = installed("id").filter(|_| has_kvm()) else { return };
    if !runs(&["setpriv", "--reuid", "0", "unshare", "-m", "true"]) {
        return skip("another user needs root, and a mount namespace of our own");
    }
    let scratch = tempfile::tempdir().unwrap();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copied = |from: &Path, name: &str, mode: u32| {
        let path = scratch.path().join(name);
        fs::copy(from, &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let id = copied(&id, "id", 0o6755);
    let matchstick = copied(Path::new(env!("CARGO_BIN_EXE_matchstick")), "matchstick", 0o755);
    let directory = scratch.path().display().to_string();
    // Whose id the host says first, so that it is known to be one of another user.
    let script = r#"mknod "$0/kvm" c 10 232; chmod 666 "$0/kvm"; mount --bind "$0/kvm" /dev/kvm
        exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -c '"$1" -u; "$0" exec sh -c "id -u; $1 -u; $1 -g"' "$1" "$2""#;
    let run = Program::new("unshare").args(["-m", "sh", "-c", script, &directory, &matchstick, &id]);
    let ended = run.limit(Duration::from_secs(60)).run();
    ended.silent().status(0).printed("0\n65534\n65534\n65534\n");
}
