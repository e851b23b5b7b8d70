//! Linux programs by the library's `Program`: what they write comes to a writer, and how they end is a value.

use crate::support::has_kvm;
use matchstick::program::{Config, Ended, Failure, Program};
use std::io::{self, Write};

fn capture(config: Config, words: &[&str]) -> Result<(String, Ended), Failure> {
    let words = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    let mut output = Vec::new();
    let ended = Program::capture(config, words, &mut output)?;
    Ok((String::from_utf8(output).unwrap(), ended))
}

#[test]
fn output_and_end_come_back() {
    if !has_kvm() {
        return;
    }
    let ended = capture(Config::default(), &["sh", "-c", "echo one; (echo two); exit 7"]).unwrap();
    assert_eq!(ended, ("one\ntwo\n".into(), Ended::Status(7)));
    let ended = capture(Config::default(), &["sh", "-c", "kill -TERM $$"]).unwrap();
    assert_eq!(ended, (String::new(), Ended::Signal(libc::SIGTERM)));
    // More than a pipe holds.
    let (output, ended) = capture(Config::default(), &["head", "-c", "300000", "/dev/zero"]).unwrap();
    assert_eq!((output.len(), ended), (300_000, Ended::Status(0)));
}

#[test]
fn the_environment_the_root_and_what_may_be_written_are_as_the_config_says() {
    if !has_kvm() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let script = format!("echo $A; echo written >{}", path.display());
    let environment = vec![b"A=b".to_vec()];
    let refused = Config { environment: environment.clone(), ..Config::default() };
    let (output, ended) = capture(refused, &["sh", "-c", &format!("exec 2>/dev/null; {script}")]).unwrap();
    assert_eq!((output.as_str(), path.exists()), ("b\n", false));
    assert_ne!(ended, Ended::Status(0));
    let allowed = Config { environment, writable: vec![directory.path().to_path_buf()], ..Config::default() };
    assert_eq!(capture(allowed, &["sh", "-c", &script]).unwrap(), ("b\n".into(), Ended::Status(0)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "written\n");
    let root = Config { root: Some(directory.path().to_path_buf()), ..Config::default() };
    assert!(matches!(capture(root, &["/bin/sh"]), Err(Failure::NotFound)));
}

#[test]
fn nothing_of_ours_is_open_in_the_program() {
    if !has_kvm() {
        return;
    }
    let _open = std::fs::File::open("/").unwrap();
    let script = "for fd in 3 4 5 6 7 8 9; do (: <&$fd) 2>/dev/null && echo $fd; done; true";
    assert_eq!(
        capture(Config::default(), &["bash", "-c", script]).unwrap(),
        (String::new(), Ended::Status(0))
    );
}

#[test]
fn why_a_program_was_not_started_comes_back() {
    if !has_kvm() {
        return;
    }
    let fails = |words: &[&str]| capture(Config::default(), words).unwrap_err();
    assert!(matches!(fails(&["/nonexistent"]), Failure::NotFound));
    assert!(matches!(fails(&["/etc/passwd"]), Failure::Denied(libc::EACCES)));
    let (_directory, path) = crate::support::file(b"no program");
    let path = path.to_str().unwrap();
    let mut rights = std::fs::metadata(path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut rights, 0o755);
    std::fs::set_permissions(path, rights).unwrap();
    let failure = fails(&[path]);
    assert!(matches!(failure, Failure::Child(_)) && !failure.to_string().is_empty(), "{failure}");
}

/// Takes some bytes and no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_that_is_full_ends_the_program() {
    if !has_kvm() {
        return;
    }
    let words = ["yes"].map(|word| word.as_bytes().to_vec()).to_vec();
    let failure = Program::capture(Config::default(), words, &mut Full(10)).unwrap_err();
    assert!(matches!(failure, Failure::Vmm(matchstick::Error::Output(_))), "{failure}");
}
