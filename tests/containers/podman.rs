//! podman, as its user calls it.

use crate::place::{LIMIT, Place, says};
use crate::support::terminal::Terminal;
use crate::support::{Ended, Program};
use std::fs;
use std::thread;
use std::time::Duration;

/// Without it, podman 4 asks for more open files than a container's root may have in a container.
const CONF: &str = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
                    [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";

struct Podman {
    place: Place,
}

/// What a test that failed has left is ended.
impl Drop for Podman {
    fn drop(&mut self) {
        self.call(&["pod", "rm", "-f", "-t", "0", "-a"]);
        self.call(&["rm", "-f", "-t", "0", "-a"]);
    }
}

impl Podman {
    fn new(tools: &[&str]) -> Option<Podman> {
        let place = Place::with(&[&["podman", "conmon", "runc", "busybox", "tar"], tools].concat())?;
        fs::write(place.path("containers.conf"), CONF).unwrap();
        Some(Podman { place })
    }

    fn program(&self, args: &[&str]) -> Program {
        let place = &self.place;
        let directory = |name: &str| place.text(name);
        Program::new("podman")
            .env("CONTAINERS_CONF", place.path("containers.conf"))
            .args([
                "--root",
                &directory("root"),
                "--runroot",
                &directory("run"),
                "--tmpdir",
                &directory("tmp"),
            ])
            .args(["--storage-driver", "vfs", "--network-config-dir", &directory("networks")])
            .args(["--runtime", &directory("matchstick-runtime")])
            .args(args)
            .limit(LIMIT)
    }

    fn call(&self, args: &[&str]) -> Ended {
        self.program(args).run()
    }

    fn import(&self) {
        let archive = self.place.archive();
        let path = "ENV PATH=/usr/bin:/bin";
        self.call(&["import", "-c", path, archive.to_str().unwrap(), "test:1"]).status(0);
    }

    fn run(&self, options: &[&str], words: &[&str]) -> Ended {
        self.call(&[&["run", "--rm", "--network", "none"], options, &["test:1"], words].concat())
    }

    fn is_left_as_it_was(&self) {
        assert_eq!(self.call(&["ps", "-aq"]).text(), "");
        self.place.is_left_as_it_was();
    }
}

#[test]
fn podman_runs_programs_as_its_user_asks() {
    let Some(podman) = Podman::new(&[]) else { return };
    podman.import();
    podman.run(&[], &["sh", "-c", "echo out; exit 7"]).status(7).printed("out\n");
    says(&podman.run(&[], &["sh", "-c", "ps; true"]), &["1 ", "/dev/matchstick exec --contained -- sh"]);
    podman.run(&[], &["no-such"]).status(127).says("executable file not found in $PATH");
    podman.run(&[], &["/bin/text"]).status(126).says("permission denied");
    let who = "id -u; id -g; cat /proc/self/status; echo x > /x; echo x > /tmp/x && cat /tmp/x";
    let few = ["--user", "1000:1001", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all"];
    let ended = podman.run(&few, &["sh", "-c", who]);
    ended.status(0).says("can't create /x: Read-only file system");
    let text = ended.text();
    assert!(text.starts_with("1000\n1001\n") && text.ends_with("\nx\n"), "{text}");
    assert!(text.contains("CapEff:\t0000000000000000"), "{text}");
    let few = ["-m", "16m", "--pids-limit", "4", "-w", "/tmp", "-e", "A=b"];
    podman.run(&few, &["sh", "-c", "pwd; echo $A; (echo sub)"]).status(0).printed("/tmp\nb\nsub\n");
    // More memory than there is.
    podman.run(&["-m", "32m"], &["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]).status(137);
    let shared = podman.place.path("shared");
    fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/data", shared.display());
    podman.run(&["-v", &volume], &["sh", "-c", "echo kept > /data/file"]).status(0);
    assert_eq!(fs::read_to_string(shared.join("file")).unwrap(), "kept\n");
    podman.is_left_as_it_was();
}

#[test]
fn podman_runs_python_and_go() {
    let Some(podman) = Podman::new(&["/usr/bin/python3", "ctr"]) else { return };
    podman.place.add("/usr/bin/python3");
    podman.place.add("ctr");
    let version = Program::new("/usr/bin/python3").args(["-c", "import os; print(os.__file__)"]).run().text();
    let library = version.trim().trim_end_matches("/os.py");
    let to = podman.place.root().join(&library[1..]);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    Program::new("cp").args(["-rL", library, to.to_str().unwrap()]).run().status(0);
    podman.import();
    let code = "import threading, subprocess\n\
                t = threading.Thread(target=lambda: print('thread', flush=True)); t.start(); t.join()\n\
                print(subprocess.run(['echo', 'child'], stdout=subprocess.PIPE).stdout)";
    podman.run(&[], &["python3", "-c", code]).status(0).printed("thread\nb'child\\n'\n");
    says(&podman.run(&[], &["ctr", "--version"]), &["ctr ", "containerd"]);
    podman.is_left_as_it_was();
}

#[test]
fn podman_leads_a_container_from_start_to_end() {
    let Some(podman) = Podman::new(&[]) else { return };
    podman.import();
    let loops = "trap 'echo got; exit 3' TERM; echo up; while :; do sleep 0.1; done";
    let server = ["run", "-d", "--name", "server", "--network", "none", "test:1", "sh", "-c", loops];
    podman.call(&server).status(0);
    podman.call(&["exec", "-e", "A=b", "server", "sh", "-c", "echo $A; exit 5"]).status(5).printed("b\n");
    podman.call(&["exec", "server", "no-such"]).status(127).says("executable file not found in $PATH");
    podman.call(&["exec", "server", "/bin/text"]).status(126).says("permission denied");
    // An exec'd process is a VM of its own, sees the others, and may send them signals.
    says(&podman.call(&["exec", "server", "ps"]), &["1 ", "echo up"]);
    podman.call(&["exec", "server", "kill", "-0", "1"]).status(0);
    says(&podman.call(&["top", "server"]), &["/dev/matchstick exec", "echo up"]);
    says(&podman.call(&["stats", "--no-stream", "server"]), &["server", "%"]);
    podman.call(&["pause", "server"]).status(0);
    podman.call(&["unpause", "server"]).status(0);
    podman.call(&["update", "--cpus", "1", "server"]);
    podman.call(&["stop", "-t", "20", "server"]).status(0);
    podman.call(&["logs", "server"]).status(0).printed("up\ngot\n");
    podman.call(&["inspect", "-f", "{{.State.ExitCode}}", "server"]).printed("3\n");
    podman.call(&["restart", "server"]).status(0);
    podman.call(&["exec", "server", "echo", "again"]).status(0).printed("again\n");
    podman.call(&["kill", "server"]).status(0);
    podman.call(&["wait", "server"]).printed("137\n");
    podman.call(&["rm", "server"]).status(0);
    podman.is_left_as_it_was();
}

#[test]
fn podman_gives_a_terminal() {
    let Some(podman) = Podman::new(&[]) else { return };
    podman.import();
    let mut terminal = Terminal::new();
    let run = ["run", "--rm", "-it", "--network", "none", "test:1", "sh"];
    let running = podman.program(&run).on(&terminal).start();
    terminal.screen.wait_for("# ");
    terminal.press(b"tty; exit $((40 + 2))\r");
    terminal.screen.wait_for("/dev/pts/0");
    running.end().status(42);
    assert!(terminal.settings().is_cooked(), "the terminal is as it was");
    podman.is_left_as_it_was();
}

#[test]
fn two_containers_of_a_pod_share_what_a_pod_has() {
    let Some(podman) = Podman::new(&[]) else { return };
    podman.import();
    let infra = ["--infra-image", "test:1", "--infra-command", "sleep 1000", "--exit-policy", "continue"];
    let create =
        [&["pod", "create", "--name", "pod", "--network", "none", "--share", "pid,net,ipc"], &infra[..]];
    podman.call(&create.concat()).status(0);
    let server =
        "mkdir -p /tmp/www && echo served > /tmp/www/index.html && exec busybox httpd -f -p 8080 -h /tmp/www";
    let server = server.replace("mkdir", "busybox mkdir");
    podman.call(&["run", "-d", "--pod", "pod", "test:1", "sh", "-c", &server]).status(0);
    let fetch = ["run", "--rm", "--pod", "pod", "test:1", "wget", "-qO-", "http://127.0.0.1:8080/"];
    let mut ended = podman.call(&fetch);
    // It may not listen yet.
    for _ in 0..20 {
        if ended.status == Some(0) {
            break;
        }
        thread::sleep(Duration::from_millis(200));
        ended = podman.call(&fetch);
    }
    ended.status(0).printed("served\n");
    says(&podman.call(&["run", "--rm", "--pod", "pod", "test:1", "ps"]), &["httpd"]);
    podman.call(&["pod", "rm", "-f", "-t", "0", "pod"]).status(0);
    podman.is_left_as_it_was();
}

/// What `oci install` writes is what podman reads, and nothing of this host is changed by it here.
#[test]
fn the_race_and_its_isolation_have_podman_with_a_vm_and_without() {
    let Some(place) = Place::with(&["podman", "conmon", "runc"]) else { return };
    let names = ["podman", "podman-vm"];
    place.race(&names, "");
    // Inside, whoever is not in a VM sees that it has namespaces of its own.
    let report = place.bench(&["isolation", "--only", &names.join(",")], "");
    let observed = report["isolation"]["observed"].as_array().unwrap();
    for (name, count) in [("podman", 7), ("podman-vm", 0)] {
        let seen = observed.iter().find(|observed| observed["name"] == name).unwrap();
        let namespaces = seen["view"]["Seen"]["namespaces"].as_array();
        assert_eq!(namespaces.map(Vec::len), Some(count), "{report:#}");
    }
    place.is_left_as_it_was();
}

#[test]
fn podman_knows_the_runtime_once_it_is_installed() {
    let Some(podman) = Podman::new(&["unshare", "mount"]) else { return };
    podman.import();
    let matchstick = env!("CARGO_BIN_EXE_matchstick");
    let install = "mount -t tmpfs none /usr/local/bin && mkdir -p /etc/containers && mount -t tmpfs none /etc/containers && \
                   \"$0\" oci install --podman && cat /etc/containers/containers.conf.d/* && \
                   readlink /usr/local/bin/matchstick-runtime";
    let ended = Program::new("unshare").args(["-m", "sh", "-c", install, matchstick]).limit(LIMIT).run();
    ended.status(0);
    says(&ended, &["# a container whose program is a VM was made with", "runc, and runs"]);
    assert!(ended.text().ends_with(&format!("{matchstick}\n")), "{ended:?}");
    let dry = Program::new(matchstick).args(["oci", "install", "--podman", "--dry-run"]).limit(LIMIT).run();
    dry.status(0);
    let lines = "[engine.runtimes]\nmatchstick = [\"/usr/local/bin/matchstick-runtime\"]\n";
    assert!(dry.text().contains(lines) && ended.text().contains(lines), "{dry:?}");
    // Followed: only that the link is elsewhere.
    let lines = lines.replace("/usr/local/bin/matchstick-runtime", podman.place.runtime().to_str().unwrap());
    fs::write(podman.place.path("containers.conf"), format!("{CONF}{lines}")).unwrap();
    let run =
        ["--runtime", "matchstick", "run", "--rm", "--network", "none", "test:1", "sh", "-c", "ps; true"];
    says(&podman.call(&run), &["/dev/matchstick exec --contained -- sh"]);
    podman.is_left_as_it_was();
}
