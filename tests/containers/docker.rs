//! docker, with a daemon of its own.

use crate::place::{LIMIT, Place, says};
use crate::support::Program;
use serde_json::json;
use std::fs;
use std::process::Command;

#[test]
fn docker_runs_programs() {
    // Its client may be called otherwise: the daemon's package has one.
    let client = "/usr/bin/docker";
    let Some(place) = Place::with(&["dockerd", client, "containerd", "runc", "busybox", "iptables"]) else {
        return;
    };
    let socket = format!("unix://{}", place.text("docker.sock"));
    let config = json!({
        "data-root": place.text("data"), "exec-root": place.text("exec"), "pidfile": place.text("pid"),
        "hosts": [socket], "bridge": "none", "iptables": false, "storage-driver": "vfs",
        "runtimes": { "matchstick": { "path": place.runtime() } },
    });
    fs::write(place.path("daemon.json"), config.to_string()).unwrap();
    let mut command = Command::new("dockerd");
    command.arg("--config-file").arg(place.path("daemon.json"));
    let mut daemon = place.daemon(command, "log");
    daemon.wait_until(|| place.path("docker.sock").exists());
    let docker = |args: &[&str]| Program::new(client).args(["-H", &socket]).args(args).limit(LIMIT).run();
    daemon.wait_until(|| docker(&["version"]).status == Some(0));

    docker(&["import", "-c", "ENV PATH=/bin", place.archive().to_str().unwrap(), "test:1"]).status(0);
    let by = ["--runtime", "matchstick", "--network", "none"];
    let run = |words: &[&str]| docker(&[&["run", "--rm"], &by[..], &["test:1"], words].concat());
    says(&run(&["sh", "-c", "ps; true"]), &["/dev/matchstick exec --contained -- sh"]);
    run(&["sh", "-c", "echo out; exit 7"]).status(7).printed("out\n");
    run(&["no-such"]).status(127).says("executable file not found in $PATH");
    run(&["/bin/text"]).status(126).says("permission denied");
    let loops = "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done";
    let start = [&["run", "-d", "--name", "server"], &by[..], &["test:1", "sh", "-c", loops]].concat();
    docker(&start).status(0);
    docker(&["exec", "server", "sh", "-c", "echo in; exit 5"]).status(5).printed("in\n");
    // Of an exec, docker says so by another status; with runc alone as well.
    let ended = docker(&["exec", "server", "no-such"]);
    ended.status(126);
    says(&ended, &["executable file not found in $PATH"]);
    says(&docker(&["top", "server"]), &["/dev/matchstick exec"]);
    docker(&["update", "--memory", "64m", "--memory-swap", "64m", "server"]).status(0);
    docker(&["pause", "server"]).status(0);
    docker(&["unpause", "server"]).status(0);
    docker(&["stop", "-t", "20", "server"]).status(0);
    docker(&["wait", "server"]).printed("3\n");
    docker(&["logs", "server"]).printed("up\n");
    docker(&["rm", "server"]).status(0);
    drop(daemon);
    place.is_left_as_it_was();
}
