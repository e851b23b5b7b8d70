//! Bundles as runc takes them, by hand: what is changed in one, what is refused, and bundles that are meant to harm.

use crate::place::{Place, json, says};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Another process sees what runs here; ps itself sees its own arguments as they were given.
const SHOW: [&str; 3] = ["sh", "-c", "ps; true"];

/// A bundle whose program is `words`, as `runc spec` writes it, after `change`.
fn bundle(place: &Place, words: &[&str], change: impl FnOnce(&mut Value)) -> PathBuf {
    let bundle = place.path("bundle");
    fs::create_dir_all(&bundle).unwrap();
    let _ = fs::remove_file(bundle.join("config.json"));
    crate::support::Program::new("runc").args(["spec", "--bundle", bundle.to_str().unwrap()]).run().status(0);
    let path = bundle.join("config.json");
    let mut config = json(&path);
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = words.into();
    config["root"]["path"] = place.root().to_str().into();
    change(&mut config);
    fs::write(&path, config.to_string()).unwrap();
    bundle
}

fn run(place: &Place, bundle: &Path) -> crate::support::Ended {
    place.call(&["run", "--bundle", bundle.to_str().unwrap(), "test"]).run()
}

fn is_vm(output: &str) -> bool {
    output.contains("/dev/matchstick exec")
}

#[test]
fn a_bundle_runs_in_a_vm_and_again_and_keeps_what_it_says() {
    let Some(place) = Place::with(&["runc", "busybox"]) else { return };
    let words = ["sh", "-c", "ps; id -u; pwd; echo $A; exit 9"];
    let bundle = bundle(&place, &words, |config| {
        config["process"]["env"].as_array_mut().unwrap().push("A=b c".into());
        config["process"]["cwd"] = "/tmp".into();
        config["new"] = json!({ "unknown": [1.5, null] });
    });
    for _ in 0..2 {
        let ended = run(&place, &bundle);
        ended.status(9).silent();
        let text = ended.text();
        assert!(is_vm(&text) && text.ends_with("0\n/tmp\nb c\n"), "{text}");
        let config = json(&bundle.join("config.json"));
        assert_eq!(config["new"], json!({ "unknown": [1.5, null] }));
        let args: Vec<&str> =
            config["process"]["args"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
        assert_eq!(args, [&["/dev/matchstick", "exec", "--contained", "--"], &words[..]].concat());
    }
    place.is_left_as_it_was();
}

#[test]
fn a_container_lives_as_callers_have_it() {
    let Some(place) = Place::with(&["runc", "busybox"]) else { return };
    let loops = "trap 'exit 3' TERM; while :; do sleep 0.1; done";
    let bundle = bundle(&place, &["sh", "-c", loops], |_| {});
    let (bundle, pid) = (bundle.to_str().unwrap(), place.text("pid"));
    let log = place.text("log");
    // Its standard descriptors are the container's, so a pipe would stay open.
    let null = || fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    let create = place.call(&["create", "--bundle", bundle, "--pid-file", &pid, "test"]);
    create.stdin(null()).stdout(null()).stderr(null()).run().status(0);
    place.call(&["start", "test"]).run().status(0);
    let ended = place.call(&["exec", "test", "ps"]).run();
    ended.status(0);
    assert!(is_vm(&ended.text()), "{ended:?}");
    place
        .call(&["exec", "--env", "PATH=/none:/bin", "--cwd", "/tmp", "test", "pwd"])
        .run()
        .status(0)
        .printed("/tmp\n");
    let process = json!({
        "terminal": false, "user": { "uid": 7, "gid": 8 }, "cwd": "/", "args": ["id"], "env": ["PATH=/bin"],
    });
    fs::write(place.path("process"), process.to_string()).unwrap();
    let ended = place.call(&["exec", "--process", &place.text("process"), "test"]).run();
    ended.status(0).printed("uid=7 gid=8\n");

    let text = ["--log", log.as_str(), "--log-format", "json", "exec", "test"];
    for (program, words) in [
        ("no-such", "exec: \"no-such\": executable file not found in $PATH"),
        ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory"),
        ("/bin/text", "exec: \"/bin/text\": permission denied"),
        ("/tmp", "exec: \"/tmp\": permission denied"),
    ] {
        let ended = place.call(&[&text[..], &[program]].concat()).run();
        ended.status(1).says(words);
        let logged = fs::read_to_string(&log).unwrap();
        let last: Value = serde_json::from_str(logged.lines().last().unwrap()).unwrap();
        assert_eq!(last["level"], "error");
        assert!(last["msg"].as_str().unwrap().contains(words), "{last}");
        assert!(last["time"].as_str().unwrap().ends_with('Z'), "{last}");
    }
    place.call(&["checkpoint", "test"]).run().status(1).says("checkpoint is not there");
    for command in ["pause", "resume", "state"] {
        place.call(&[command, "test"]).run().status(0);
    }
    says(&place.call(&["ps", "--format", "json", "test"]).run(), &["["]);
    place.call(&["kill", "test", "TERM"]).run().status(0);
    // runc says so of a container that has ended.
    while !place.call(&["state", "test"]).run().text().contains("\"stopped\"") {}
    place.call(&["delete", "test"]).run().status(0);
    says(&place.call(&["exec", "test", "ps"]).run(), &["does not exist"]);
    place.is_left_as_it_was();
}

#[test]
fn what_is_not_there_is_said_before_the_container_is_made() {
    let Some(place) = Place::with(&["runc", "busybox"]) else { return };
    for (program, words) in [
        (
            "no-such",
            "create failed: unable to start container process: exec: \"no-such\": executable file not found in $PATH",
        ),
        ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory"),
        ("/bin/text", "exec: \"/bin/text\": permission denied"),
    ] {
        let bundle = bundle(&place, &[program], |_| {});
        run(&place, &bundle).status(1).says(words);
    }
    // What a mount brings is seen inside, and its statuses are the same as of env(1).
    let bundle = bundle(&place, &["/data/none"], |config| {
        let mount = json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs" });
        config["mounts"].as_array_mut().unwrap().push(mount);
        config["root"]["readonly"] = false.into();
    });
    run(&place, &bundle).status(127).says("cannot run /data/none");
    place.is_left_as_it_was();
}

#[test]
fn annotations_mean_something_or_are_refused() {
    let Some(place) = Place::with(&["runc", "busybox"]) else { return };
    for (name, value, words) in [
        ("engine", "linux", "dev.matchstick.engine: a container in a Linux guest is not there yet"),
        ("engine", "qemu", "\"qemu\" is none: program is one"),
        ("memory", "64M", "dev.matchstick.memory: it is for a Linux guest"),
        ("cpus", "2", "dev.matchstick.cpus: it is for a Linux guest"),
        ("sandbox", "loose", "\"loose\" is none: strict and off are"),
    ] {
        let bundle = bundle(&place, &["true"], |config| {
            config["annotations"] = json!({ format!("dev.matchstick.{name}"): value });
        });
        run(&place, &bundle).status(1).says(words);
    }
    let bundle = bundle(&place, &SHOW, |config| {
        config["annotations"] =
            json!({ "dev.matchstick.engine": "program", "dev.matchstick.sandbox": "off" });
    });
    says(&run(&place, &bundle), &["/dev/matchstick exec --contained --sandbox off -- sh -c"]);
    // Only the namespaces of a pod are held by it.
    let bundle = bundle_of_sandbox(&place);
    let ended = run(&place, &bundle);
    ended.status(0);
    assert!(!is_vm(&ended.text()), "{ended:?}");
    place.is_left_as_it_was();
}

fn bundle_of_sandbox(place: &Place) -> PathBuf {
    bundle(place, &SHOW, |config| {
        config["annotations"] = json!({ "io.kubernetes.cri.container-type": "sandbox" });
    })
}

/// Each is refused in words, or runs in a VM all the same.
#[test]
fn hostile_bundles_come_to_nothing() {
    let Some(place) = Place::with(&["runc", "busybox"]) else { return };
    let mount = |destination: &str, kind: &str, source: &str| json!({ "destination": destination, "type": kind, "source": source, "options": ["bind"] });
    let etc = mount("/dev", "bind", "/etc");
    let taken = mount("/dev/../dev/matchstick", "bind", "/bin/busybox");
    let below = mount("/dev/matchstick/x", "tmpfs", "tmpfs");
    for (added, words) in [
        (etc, "has no tmpfs on /dev"),
        (taken, "has something on /dev/matchstick"),
        (below, "has something on /dev/matchstick"),
    ] {
        let bundle = bundle(&place, &["true"], |config| config["mounts"].as_array_mut().unwrap().push(added));
        run(&place, &bundle).status(1).says(words);
    }
    for (change, words) in [
        (json!({ "process": null }), "names no program"),
        (json!({ "process": { "args": [] } }), "names no program"),
        (json!({ "process": { "args": [7] } }), "names no program"),
        (json!({ "root": null }), "has no root.path"),
        (json!({ "linux": [] }), "has no list where one belongs"),
        (json!({ "mounts": {} }), "has no tmpfs on /dev"),
    ] {
        let bundle = bundle(&place, &["true"], |config| {
            change.as_object().unwrap().iter().for_each(|(name, value)| config[name] = value.clone());
        });
        run(&place, &bundle).status(1).says(words);
        let left: Vec<_> = fs::read_dir(&bundle).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["config.json"]);
    }
    // Where the runtime would be told by a link in the image to put our file, or find it.
    for target in ["/etc", "/proc/self", "../../../../etc"] {
        let image = place.root();
        symlink(target, image.join("dev")).unwrap();
        let bundle = bundle(&place, &["true"], |_| {});
        run(&place, &bundle).status(1).says("is of an image whose /dev is no directory");
        fs::remove_file(image.join("dev")).unwrap();
    }
    // In the image's own /dev, which nobody sees.
    let dev = place.root().join("dev");
    fs::create_dir(&dev).unwrap();
    symlink("/bin/busybox", dev.join("matchstick")).unwrap();
    symlink("/dev/null", dev.join("kvm")).unwrap();
    let ended = run(&place, &bundle(&place, &SHOW, |_| {}));
    ended.status(0);
    assert!(is_vm(&ended.text()), "{ended:?}");
    assert_eq!(fs::read_link(dev.join("matchstick")).unwrap(), Path::new("/bin/busybox"));
    // The file that is seen in the container is this host's, and cannot be changed from there.
    let before = fs::metadata(env!("CARGO_BIN_EXE_matchstick")).unwrap().modified().unwrap();
    let write = "echo x > /dev/matchstick; echo x >> /proc/1/exe; cat < /dev/kvm";
    let ended = run(&place, &bundle(&place, &["sh", "-c", write], |_| {}));
    assert_eq!(ended.stderr.lines().count(), 3, "{ended:?}");
    assert_eq!(fs::metadata(env!("CARGO_BIN_EXE_matchstick")).unwrap().modified().unwrap(), before);
    place.is_left_as_it_was();
}

#[test]
fn a_host_without_a_runtime_is_told() {
    let Some(place) = Place::with(&["runc", "busybox"]) else { return };
    let bundle = bundle(&place, &["true"], |_| {});
    let named = |name: &str| {
        place.call(&["run", "--bundle", bundle.to_str().unwrap(), "t"]).env("MATCHSTICK_RUNTIME", name)
    };
    named("/no/such/runc").run().status(1).says("cannot start /no/such/runc: ");
    named("runc").run().status(0);
}
