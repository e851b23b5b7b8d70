//! containerd: by ctr, and as Kubernetes calls it.

use crate::place::{Daemon, LIMIT, Place, says};
use crate::support::{Ended, Program};
use std::fs;
use std::process::Command;

/// For this kind of machine: no systemd, in a container itself, nothing outside one directory.
const CONFIG: &str = r#"
version = 2
root = "@/root"
state = "@/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "@/sock"
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  restrict_oom_score_adj = true
  disable_apparmor = true
  sandbox_image = "localhost/pause:1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "@/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.matchstick]
      runtime_type = "io.containerd.runc.v2"
      pod_annotations = ["dev.matchstick.*"]
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.matchstick.options]
        BinaryName = "@/matchstick-runtime"
"#;

struct Containerd {
    place: Place,
    daemon: Daemon,
}

/// What a test that failed has left is ended.
impl Drop for Containerd {
    fn drop(&mut self) {
        for namespace in ["default", "k8s.io"] {
            let tasks = self.call(&["-n", namespace, "task", "ls", "-q"]).text();
            tasks.lines().for_each(|task| drop(self.call(&["-n", namespace, "task", "rm", "-f", task])));
        }
        self.daemon.end();
    }
}

impl Containerd {
    fn new(tools: &[&str]) -> Option<Containerd> {
        let needed = ["containerd", "ctr", "umoci", "skopeo", "runc", "busybox"];
        let place = Place::with(&[&needed[..], tools].concat())?;
        let config = CONFIG.replace('@', place.path("").to_str().unwrap().trim_end_matches('/'));
        fs::write(place.path("config.toml"), config).unwrap();
        fs::create_dir(place.path("cni")).unwrap();
        let mut command = Command::new("containerd");
        command.arg("--config").arg(place.path("config.toml"));
        let mut daemon = place.daemon(command, "log");
        daemon.wait_until(|| place.path("sock").exists());
        let containerd = Containerd { place, daemon };
        containerd.import();
        Some(containerd)
    }

    fn program(&self, args: &[&str]) -> Program {
        // It leaves SIGTERM to what it runs.
        Program::new("ctr").args(["--address", &self.place.text("sock")]).args(args).limit(LIMIT)
    }

    fn call(&self, args: &[&str]) -> Ended {
        self.program(args).run()
    }

    /// Makes the image, and a second name of it whose program only waits.
    fn import(&self) {
        let place = &self.place;
        let layout = place.text("layout");
        let umoci = |args: &[&str]| {
            Program::new("umoci").args(args).limit(LIMIT).run().status(0);
        };
        let (image, pause, bundle) =
            (format!("{layout}:test"), format!("{layout}:pause"), place.text("unpacked"));
        umoci(&["init", "--layout", &layout]);
        umoci(&["new", "--image", &image]);
        umoci(&["unpack", "--image", &image, &bundle]);
        let root = format!("{}/.", place.root().display());
        Program::new("cp").args(["-a", &root, &format!("{bundle}/rootfs/")]).run().status(0);
        umoci(&["repack", "--image", &image, &bundle]);
        umoci(&["config", "--image", &image, "--config.env", "PATH=/bin"]);
        let waits = ["--config.cmd", "/bin/sleep", "--config.cmd", "100000"];
        umoci(&[&["config", "--image", &image, "--tag", "pause"], &waits[..]].concat());
        for (image, name) in [(image, "test"), (pause, "pause")] {
            let archive = place.text(&format!("{name}.tar"));
            let to = format!("oci-archive:{archive}:localhost/{name}:1");
            Program::new("skopeo")
                .args(["copy", "-q", "--insecure-policy", &format!("oci:{image}"), &to])
                .run()
                .status(0);
            for namespace in ["default", "k8s.io"] {
                let import = ["-n", namespace, "image", "import", "--snapshotter", "native", &archive];
                self.call(&import).status(0);
            }
        }
    }

    /// Ends the daemon, and looks for what is left.
    #[track_caller]
    fn end(mut self) {
        self.daemon.end();
        self.place.is_left_as_it_was();
    }
}

#[test]
fn ctr_runs_programs() {
    let Some(containerd) = Containerd::new(&[]) else { return };
    let runtime = containerd.place.text("matchstick-runtime");
    let by = ["--snapshotter", "native", "--runtime", "io.containerd.runc.v2", "--runc-binary", &runtime];
    let image = "localhost/test:1";
    let run =
        |words: &[&str]| containerd.call(&[&["run", "--rm"], &by[..], &[image, "once"], words].concat());
    says(&run(&["sh", "-c", "ps; true"]), &["/dev/matchstick exec --contained -- sh"]);
    run(&["sh", "-c", "exit 7"]).status(7);
    run(&["no-such"]).status(1).says("executable file not found in $PATH");
    let server = [&["run", "-d"], &by[..], &[image, "server", "sleep", "1000"]].concat();
    containerd.call(&server).status(0);
    let task = |words: &[&str]| containerd.call(&[&["task"], words].concat());
    task(&["exec", "--exec-id", "a", "server", "sh", "-c", "echo in; exit 3"]).status(3).printed("in\n");
    task(&["exec", "--exec-id", "b", "server", "no-such"])
        .status(1)
        .says("executable file not found in $PATH");
    task(&["checkpoint", "server"]).status(1).says("checkpoint is not there");
    task(&["pause", "server"]).status(0);
    task(&["resume", "server"]).status(0);
    task(&["kill", "-s", "9", "server"]).status(0);
    while !task(&["ls"]).text().contains("STOPPED") {}
    // With the status that the container had.
    task(&["rm", "server"]).says("137");
    containerd.call(&["container", "rm", "server"]).status(0);
    containerd.end();
}

#[test]
fn the_race_has_containerd_with_a_vm_and_without() {
    let Some(containerd) = Containerd::new(&[]) else { return };
    containerd.place.race(&["ctr", "ctr-vm"], &containerd.place.text("sock"));
    let names = containerd.call(&["namespaces", "list", "-q"]).text();
    assert!(!names.contains("matchstick"), "{names}");
    containerd.end();
}

#[test]
fn a_kubelets_walk_through_cri() {
    let grpc = Program::new("/usr/bin/python3").args(["-c", "import grpc"]).run().status == Some(0);
    assert!(grpc || !crate::support::is_set("REQUIRE_CONTAINERS"), "python3-grpcio is not installed");
    if !grpc {
        return crate::support::skip("python3-grpcio is not installed");
    }
    let Some(containerd) = Containerd::new(&[]) else { return };
    let place = &containerd.place;
    fs::create_dir(place.path("logs")).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/containers/cri.py");
    let (socket, logs) = (place.text("sock"), place.text("logs"));
    let walk = ["-B", script, &socket, "matchstick", "localhost/test:1", &logs];
    let ended = Program::new("/usr/bin/python3").args(walk).limit(LIMIT).run();
    ended.status(0).says("");
    assert!(ended.text().ends_with("removed\n"), "{ended:?}");
    containerd.end();
}
