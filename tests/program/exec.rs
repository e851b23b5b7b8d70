//! `exec`: Linux programs, as they are, in a VM without a kernel, held against the same ones on the host itself.

use crate::support::{Ended, Program, has_kvm, installed, matchstick};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// How long one may take: the test machine is busy, and a program here is slower than on the host.
const LIMIT: Duration = Duration::from_secs(120);

pub fn exec(options: &[&str], words: &[&str]) -> Program {
    matchstick(["exec"]).args(options).args(words).limit(LIMIT)
}

/// Runs `words` on the host and in a VM, with `input`, and asserts that nobody could tell which was which.
#[track_caller]
fn is_as_on_the_host(options: &[&str], words: &[&str], input: &str) -> Ended {
    let host = Program::new(words[0]).args(&words[1..]).limit(LIMIT).input(input).run();
    let vm = exec(options, words).input(input).run();
    assert_eq!(
        (vm.text(), vm.status, vm.signal),
        (host.text(), host.status, host.signal),
        "{words:?}: {vm:?}"
    );
    assert_eq!(vm.stderr, host.stderr, "{words:?}");
    vm
}

/// Compiles one of the programs in tests/linux-programs; `None`, and said, without a compiler.
pub fn compiled(source: &str, directory: &Path, options: &[&str]) -> Option<String> {
    let compiler = installed("gcc")?;
    let target = directory.join(source.trim_end_matches(".c"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/linux-programs").join(source);
    let ended = Program::new(compiler)
        .args(["-O1", "-pthread", "-w", "-o"])
        .args([&target, &source])
        .args(options)
        .limit(LIMIT)
        .run();
    ended.status(0);
    Some(target.display().to_string())
}

#[test]
fn a_dozen_programs_are_as_on_the_host() {
    if !has_kvm() {
        return;
    }
    let cases: &[(&[&str], &str)] = &[
        (&["busybox", "echo", "static"], ""),
        (&["busybox", "sh", "-c", "echo a | cat; exit 5"], ""),
        (&["true"], ""),
        (&["cat"], "through\na pipe\n"),
        (&["sort", "-r"], "a\nb\nc\n"),
        (&["sha256sum"], "abc"),
        (&["ls", "-l", "/usr"], ""),
        (
            &[
                "perl",
                "-e",
                "for (qw(/usr /proc/self/exe /nothing), '') { print readlink($_) // $!, qq(\\n) }",
            ],
            "",
        ),
        (&["dash", "-c", "for i in 1 2 3; do echo $i; done | (read x; echo $x; exit 4)"], ""),
        (&["bash", "-c", "trap 'echo trapped' USR1; kill -USR1 $$; x=$(echo sub); echo $x; exit 7"], ""),
        (&["bash", "-c", "cat <(echo substituted); echo ${BASH_VERSION%%.*}; f() { return 3; }; f"], ""),
        (&["bash", "-c", "sleep 100 & kill %1; wait; kill -TERM $$"], ""),
        (
            &[
                "perl",
                "-e",
                "$SIG{ALRM} = sub { print qq(alarm\\n) }; alarm 1; sleep 5; print `echo back`; exit 3",
            ],
            "",
        ),
        (&["sqlite3", ":memory:", "create table t(x); insert into t values(41); select x + 1 from t"], ""),
        (&["git", "--version"], ""),
        (&["awk", "BEGIN { print 6 * 7; exit 2 }"], ""),
        (&["sed", "s/a/b/"], "banana\n"),
        (&["find", "/etc/hostname", "-newer", "/nonexistent"], ""),
        (
            &["node", "-e", "setTimeout(() => { console.log([1, 2].map(x => x * 2)); process.exit(9) }, 10)"],
            "",
        ),
        (&["runc", "--version"], ""),
    ];
    for (words, input) in cases.iter().filter(|(words, _)| installed(words[0]).is_some()) {
        is_as_on_the_host(&[], words, input);
    }
}

#[test]
fn what_a_vm_answers_by_itself_is_what_the_host_says() {
    if !has_kvm() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for options in [&["-static"][..], &[]] {
        let Some(program) = compiled("numbers.c", directory.path(), options) else { return };
        is_as_on_the_host(&[], &[&program], "");
    }
}

/// Random mappings, by two threads: each access finds what it would find on the host, or faults as there.
#[test]
fn every_access_finds_or_faults_as_on_the_host() {
    if !has_kvm() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compiled("memory.c", directory.path(), &[]) else { return };
    for seed in ["1", "2", "3"] {
        is_as_on_the_host(&[], &[&program, seed, "400"], "");
    }
}

#[test]
fn python_has_threads_children_and_handlers() {
    let Some(_) = installed("python3").filter(|_| has_kvm()) else { return };
    let program = "
import asyncio, ctypes, hashlib, multiprocessing, os, select, signal, socket, ssl, subprocess, threading, time
found = []
threads = [threading.Thread(target=lambda number=number: found.append(number)) for number in range(8)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
print(sorted(found), subprocess.run(['echo', 'child'], capture_output=True).stdout)
try: subprocess.run(['/nonexistent'])
except FileNotFoundError as error: print(error)
process = multiprocessing.get_context('fork').Process(target=os._exit, args=(4,)); process.start(); process.join()
print(process.exitcode)
async def main():
    child = await asyncio.create_subprocess_exec('true'); print(await child.wait())
asyncio.run(main())
signal.signal(signal.SIGUSR1, lambda *_: print('handled')); os.kill(os.getpid(), signal.SIGUSR1)
a, b = socket.socketpair(); a.send(b'x'); print(select.select([b], [], [], 5)[0] == [b], b.recv(1))
print(abs(time.time() - time.clock_gettime(time.CLOCK_REALTIME)) < 1, hashlib.sha256(b'abc').hexdigest()[:8])
raise SystemExit(11)
";
    is_as_on_the_host(&[], &["python3", "-c", program], "").status(11);
}

/// A program's own local sockets have the names that it gave them; those of others, also where it may write, it does not
/// reach.
#[test]
fn local_sockets_are_the_programs_own() {
    let Some(_) = installed("python3").filter(|_| has_kvm()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let write = directory.path().display().to_string();
    let program = "
import os, socket, sys
os.chdir(sys.argv[1])
for path in 's', './s', os.getcwd() + '/s':
    server = socket.socket(socket.AF_UNIX); server.bind(path); server.listen(); print(server.getsockname() == path)
    if os.fork() == 0:
        client = socket.socket(socket.AF_UNIX); client.connect(path); print(client.getpeername() == path, flush=True)
        client.send(b'x'); os._exit(0)
    served, _ = server.accept(); print(served.recv(9), served.getsockname() == path); os.wait()
    try: socket.socket(socket.AF_UNIX).bind(path)
    except OSError as error: print(error)
    os.unlink(path)
a, b = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]; a.bind('a'); b.bind('b')
b.sendto(b'to', 'a'); print(a.recvfrom(9)); b.sendmsg([b'message'], [], 0, 'a'); print(a.recvmsg(9))
for path in '/etc/passwd', 'nothing', 'n' * 108:
    try: socket.socket(socket.AF_UNIX).connect(path)
    except OSError as error: print(error)
os.unlink('a'); os.unlink('b')
";
    is_as_on_the_host(&["--write", &write], &["python3", "-c", program, &write], "").status(0);
    let foreign = directory.path().join("foreign");
    let listener = std::os::unix::net::UnixListener::bind(&foreign).unwrap();
    listener.set_nonblocking(true).unwrap();
    let program = "
import os, socket, sys
os.chdir(sys.argv[1])
own = socket.socket(socket.AF_UNIX); own.bind('own'); own.listen()
os.link('foreign', 'linked'); os.symlink('foreign', 'symbolic'); os.rename('foreign', 'own')
for path in 'own', 'linked', 'symbolic':
    for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
        try: socket.socket(socket.AF_UNIX, kind).connect(path); print('connected')
        except OSError as error: print(error)
        try: socket.socket(socket.AF_UNIX, kind).sendto(b'x', path); print('sent')
        except OSError as error: print(error)
try: socket.socket(socket.AF_UNIX).bind('/etc/own')
except OSError as error: print(error)
";
    let ended = exec(&["--write", &write], &["python3", "-c", program, &write]).run();
    let text = ended.text();
    assert!(!text.contains("connected") && !text.contains("sent"), "{text}");
    assert!(text.contains("Permission denied") && text.ends_with("Read-only file system\n"), "{ended:?}");
    assert!(listener.accept().is_err(), "somebody has come");
}

#[test]
fn limits_and_descriptors_are_as_on_the_host() {
    if !has_kvm() {
        return;
    }
    let limit =
        "ulimit -n 20; ulimit -n; cat 18</dev/null && echo low; cat 25</dev/null; ulimit -n 21; echo $?";
    is_as_on_the_host(&[], &["bash", "-c", limit], "");
    let links = "readlink -e /proc/self/exe; readlink -f /proc/self/cwd/x; stat -c %F /proc/self /proc/self/cwd; \
                 ls /proc/self/fd | grep -c ....";
    is_as_on_the_host(&["--net"], &["bash", "-c", links], "");
}

#[test]
fn a_compiler_compiles_what_then_runs() {
    let Some(_) = installed("gcc").filter(|_| has_kvm()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    fs::write(path("a.c"), "#include <stdio.h>\nint main(void) { puts(\"compiled\"); return 7; }\n").unwrap();
    let write = directory.path().display().to_string();
    let options = ["--write", &write, "--env", &format!("TMPDIR={write}")];
    exec(&options, &["gcc", "-o", &path("a"), &path("a.c")]).run().silent().status(0);
    exec(&[], &[&path("a")]).run().silent().status(7).printed("compiled\n");
}

#[test]
fn signals_are_as_on_the_host() {
    if !has_kvm() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // With a kernel that keeps signals in, and without.
    for (options, sandbox) in [(&["-static"][..], "strict"), (&[], "off")] {
        let Some(program) = compiled("signals.c", directory.path(), options) else { return };
        is_as_on_the_host(&["--write", "/tmp", "--sandbox", sandbox], &[&program], "").status(0);
    }
}

#[test]
fn no_handler_begins_inside_an_exception() {
    if !has_kvm() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compiled("interrupted.c", directory.path(), &["-pthread"]) else { return };
    is_as_on_the_host(&[], &[&program], "").status(0);
}

#[test]
fn a_child_of_vfork_and_other_threads_change_one_page() {
    if !has_kvm() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compiled("lent.c", directory.path(), &["-pthread"]) else { return };
    is_as_on_the_host(&[], &[&program], "").status(0);
}

#[test]
fn vector_registers_outlive_handlers() {
    if !has_kvm() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compiled("vectors.c", directory.path(), &["-pthread"]) else { return };
    is_as_on_the_host(&[], &[&program], "").status(0);
}

#[test]
fn what_linux_does_not_look_at_may_be_anything() {
    if !has_kvm() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compiled("ignored.c", directory.path(), &[]) else { return };
    is_as_on_the_host(&[], &[&program], "").status(0);
}

/// Where something is renamed anywhere, Linux is not sure of `..` and says EAGAIN, which is no answer for a program.
#[test]
fn a_path_with_dots_is_found_whatever_is_renamed_meanwhile() {
    let Some(busybox) = installed("busybox").filter(|_| has_kvm()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let [root, here, there] = ["root", "here", "there"].map(|name| directory.path().join(name));
    fs::create_dir_all(root.join("data")).unwrap();
    fs::copy(busybox, root.join("busybox")).unwrap();
    fs::write(&here, "").unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                fs::rename(&here, &there).unwrap();
                fs::rename(&there, &here).unwrap();
            }
        });
        let script = "cd data; i=0; while [ $i -lt 2000 ]; do i=$((i + 1)); : <../data/../busybox || exit 1; done; echo $i";
        let root = root.display().to_string();
        let ended = exec(&["--root", &root], &["/busybox", "sh", "-c", script]).limit(LIMIT).run();
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        ended.silent().printed("2000\n");
    });
}

#[test]
fn processes_and_threads_are_as_on_the_host() {
    if !has_kvm() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for options in [&["-static"][..], &[], &["-no-pie"]] {
        let Some(program) = compiled("processes.c", directory.path(), options) else { return };
        is_as_on_the_host(&[], &[&program], "").status(23);
    }
}

/// Locks of threads and processes that end, and execve(2) from every thread.
#[test]
fn what_ends_leaves_no_lock_and_any_thread_becomes_another_program() {
    if !has_kvm() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for options in [&["-static"][..], &[]] {
        let Some(program) = compiled("ends.c", directory.path(), options) else { return };
        is_as_on_the_host(&[], &[&program], "").status(42);
    }
}

#[test]
fn a_program_without_a_library_gets_what_it_asks_for_when_it_asks() {
    if !has_kvm() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let options = ["-nostdlib", "-static", "-fno-stack-protector"];
    let Some(program) = compiled("bare.c", directory.path(), &options) else { return };
    for what in ["cpuid", "handler", "privileged", "fork", "thread"] {
        let ended = is_as_on_the_host(&[], &[&program, what], "");
        assert!(!ended.stdout.is_empty(), "{what}");
    }
    if is_x86_feature_detected!("avx") {
        is_as_on_the_host(&[], &[&program, "vectors"], "");
    }
}

/// With the table alone, and with the kernel behind it: neither lets anything through.
#[test]
fn known_ways_out_are_closed() {
    if !has_kvm() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compiled("escapes.c", directory.path(), &["-static"]) else { return };
    let ended = exec(&[], &[&program]).run();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.text().ends_with("\n0 holes\n"), "{ended:?}");
    let ended = exec(&["--sandbox", "off"], &[&program]).run();
    assert!(ended.text().ends_with("\n0 holes\n"), "{ended:?}");
}

/// Random calls with random arguments, two threads at a time: whatever becomes of the program, who serves it does not
/// panic, and the filter has nothing to stop that the table has let through. `RANDOM=FIRST,COUNT` is for a long run.
#[test]
fn random_calls_do_not_hurt_who_serves_them() {
    if !has_kvm() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compiled("random.c", directory.path(), &["-static"]) else { return };
    let seeds = std::env::var("RANDOM").unwrap_or("1,6".into());
    let (first, count) = seeds.split_once(',').expect("RANDOM=FIRST,COUNT");
    let ended = exec(&[], &[&program, first, count]).limit(LIMIT * 100).run();
    assert!(ended.status == Some(0) && !ended.text().contains("FAILED"), "{ended:?}");
    assert_eq!(ended.text().lines().count(), count.parse::<usize>().unwrap(), "{ended:?}");
}

#[test]
fn what_calls_leave_behind_is_as_on_the_host() {
    if !has_kvm() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compiled("states.c", directory.path(), &[]) else { return };
    let own = directory.path().display().to_string();
    is_as_on_the_host(&["--write", &own], &[&program, &own], "").status(0);
}

/// A number below 0 is nobody's descriptor, neither to the table nor to the filter.
#[test]
fn what_is_no_descriptor_is_told_so() {
    let Some(_) = installed("perl").filter(|_| has_kvm()) else { return };
    let program = "for (33, 16, 292, 0, 3) { print syscall($_, -1, 0x5401, 0), ' ', $! + 0, qq(\\n) } print syscall(33, 1, -1)";
    is_as_on_the_host(&[], &["perl", "-e", program], "").status(0);
}

#[test]
fn what_cannot_be_run_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8], mode: u32| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    matchstick(["exec"]).run().fails(125, "which program?", "`matchstick exec --help`");
    matchstick(["exec", "--env", "x", "true"]).run().fails(125, "is no variable", "`matchstick exec --help`");
    if !has_kvm() {
        return;
    }
    let fails = |path: &str, status, error: &str, hint: &str| {
        exec(&[], &[path]).run().fails(status, error, hint);
    };
    fails("no-such-program", 127, "cannot run no-such-program: there is no such program", "PATH");
    fails("/nonexistent/program", 127, "there is no such program", "");
    fails("/etc", 126, "Permission denied", "a regular file");
    fails(&file("data", b"data", 0o644), 126, "Permission denied", "may be executed");
    fails(&file("text", b"just text", 0o755), 126, "neither an ELF program nor a script", "#!/bin/sh");
    fails(&file("script", b"#!/nonexistent/sh\n", 0o755), 126, "its interpreter /nonexistent/sh", "");
    let mut program = fs::read("/proc/self/exe").unwrap();
    program.truncate(4096);
    let with = |at: usize, byte: u8| {
        let mut bytes = program.clone();
        bytes[at] = byte;
        bytes
    };
    fails(&file("wide", &with(18, 183), 0o755), 126, "for another processor (ELF machine 183)", "x86-64");
    fails(&file("narrow", &with(4, 1), 0o755), 126, "32-bit", "x86-64");
    exec(&[], &[&file("object", &with(16, 1), 0o755)]).run().fails_without_hint(126, "it is no executable");
    let whole = fs::read("/bin/true").unwrap();
    let cut = file("cut", &whole[..whole.len() / 2], 0o755);
    fails(&cut, 126, "it is cut off: of ", "a copy that was broken off");
    // Linux begins it, and so does a program's own execve(2).
    is_as_on_the_host(&[], &["sh", "-c", "$0 2>/dev/null; echo $?", &cut], "");
    fails(&file("headers", &whole[..800], 0o755), 126, "it is cut off", "broken off");
    fails(&format!("{cut}t"), 127, &format!("there is no such program: is it {cut}?"), "PATH");
    let script = file("greets", b"#!/bin/sh\necho $0 $1\nexit 3\n", 0o755);
    exec(&[], &[&script, "arg"]).run().silent().status(3).printed(format!("{script} arg\n"));
}

#[test]
fn files_environment_and_root_are_as_the_user_says() {
    let Some(busybox) = installed("busybox").filter(|_| has_kvm()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(root.join("data")).unwrap();
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", root.join("bin/cat")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", root.join("outside")).unwrap();
    std::os::unix::fs::symlink("../../../../../../etc/passwd", root.join("above")).unwrap();
    let (root, data) = (root.display().to_string(), root.join("data").display().to_string());
    let sh = |script: &str| {
        exec(
            &["--root", &root, "--write", &data, "--clear-env", "--env", "A=b", "--env", "PATH=/bin"],
            &["/bin/busybox", "sh", "-c", script],
        )
    };
    sh("pwd; echo $A $HOME; cd /data; echo x >f; cat f; cat /data/../data/f; pwd")
        .run()
        .silent()
        .status(0)
        .printed("/\nb\nx\nx\n/data\n");
    sh("cat /outside").run().status(1).says("No such file");
    sh("cat /above").run().status(1).says("No such file");
    sh("cat ../../../../etc/passwd").run().status(1).says("No such file");
    sh("echo x >/f").run().status(1).says("Read-only file system");
    sh("cd data; echo x >../f").run().status(1).says("Read-only file system");
    assert_eq!(fs::read_to_string(format!("{data}/f")).unwrap(), "x\n");
    exec(&["--env", "A=b"], &["env"]).env("A", "a").env("C", "d").run().status(0);
    let ended = exec(&["--env", "A=b"], &["sh", "-c", "echo $A$C"]).env("A", "a").env("C", "d").run();
    ended.silent().printed("bd\n");
}
