//! `run-image` and `images`: container images made here, by hand and with the tools that people use.

use crate::support::{Ended, Program, has_kvm, installed, is_set, matchstick, skip, tar::Tar};
use matchstick::image::Digest;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the types of an image's parts begin.
const VENDOR: &str = "application/vnd.oci.image";
/// The program.
const BINARY: &str = env!("CARGO_BIN_EXE_matchstick");
/// How long one may take: the test machine is busy.
const LIMIT: Duration = Duration::from_secs(120);

/// A directory for images, with a cache and a place for layers of its own.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Scratch {
        Scratch(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// The program, with this cache.
    fn matchstick(&self, words: &[&str]) -> Program {
        let program = matchstick(words.iter().copied()).limit(LIMIT);
        program.env("XDG_CACHE_HOME", self.path("cache")).env("XDG_DATA_HOME", self.path("data"))
    }

    fn run(&self, options: &[&str], image: &str, words: &[&str]) -> Ended {
        self.matchstick(&[&["run-image"], options, &[&self.path(image)], words].concat()).run()
    }

    fn images(&self, options: &[&str]) -> Ended {
        self.matchstick(&[&["images"], options].concat()).run()
    }

    /// Writes an OCI layout `name` with an image for each tag: its layers, and what its configuration says.
    fn layout(&self, name: &str, images: &[(&str, &[Vec<u8>], &str)]) {
        let directory = self.0.path().join(name);
        fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
        let blob = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            fs::write(directory.join("blobs/sha256").join(digest.digits()), bytes).unwrap();
            format!(r#""digest": "{digest}", "size": {}"#, bytes.len())
        };
        let manifests = images.iter().map(|(tag, layers, config)| {
            let ids: Vec<String> =
                layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
            let config = format!(
                r#"{{"architecture": "amd64", "os": "linux", "config": {config},
                    "rootfs": {{"type": "layers", "diff_ids": [{}]}}}}"#,
                ids.join(",")
            );
            let layers: Vec<String> =
                layers.iter().map(|layer| format!(r#"{{"mediaType": "{VENDOR}.layer.v1.tar", {}}}"#, blob(layer))).collect();
            let manifest = format!(
                r#"{{"schemaVersion": 2, "config": {{"mediaType": "{VENDOR}.config.v1+json", {}}}, "layers": [{}]}}"#,
                blob(config.as_bytes()),
                layers.join(",")
            );
            format!(
                r#"{{"mediaType": "{VENDOR}.manifest.v1+json", {}, "annotations": {{"org.opencontainers.image.ref.name": "{tag}"}}}}"#,
                blob(manifest.as_bytes())
            )
        });
        let manifests: Vec<String> = manifests.collect();
        let index = format!(r#"{{"schemaVersion": 2, "manifests": [{}]}}"#, manifests.join(","));
        fs::write(directory.join("index.json"), index).unwrap();
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    }
}

/// A layer with busybox and a few of its names, and two users.
fn busybox() -> Option<Tar> {
    let program = fs::read(installed("busybox")?).unwrap();
    let mut tar = Tar::default().directory("bin").program("bin/busybox", &program);
    for name in ["sh", "cat", "ls", "rm", "mkdir", "id", "sleep", "ln", "touch", "wget", "date", "uname"] {
        tar = tar.link(&format!("bin/{name}"), "busybox");
    }
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/srv:/bin/sh\n";
    let tar =
        tar.directory("etc").file("etc/passwd", passwd).file("etc/group", b"web:x:1001:\nmedia:x:7:web\n");
    Some(tar.entry(b'5', "tmp/", "", 0o1777, b""))
}

/// An image of busybox in a layout `box`, and its scratch directory; `None`, and said, where it cannot run.
fn boxed(config: &str) -> Option<Scratch> {
    let layer = busybox().filter(|_| has_kvm())?.end();
    let scratch = Scratch::new();
    scratch.layout("box", &[("box", &[layer], config)]);
    Some(scratch)
}

/// A directory with an image called alpine, as a layout and as an archive, for the commands that lessons show.
pub fn shelf() -> Option<(tempfile::TempDir, Vec<(&'static str, PathBuf)>)> {
    let layer = busybox()?.file("etc/os-release", b"NAME=Shelf\n").file("etc/motd", b"Welcome\n").end();
    let scratch = Scratch::new();
    scratch.layout("alpine", &[("latest", &[layer], r#"{"Cmd": ["sh"]}"#)]);
    let packed = Program::new("tar")
        .args(["-C", &scratch.path("alpine"), "-cf", &scratch.path("alpine.tar"), "."])
        .run();
    packed.status(0);
    let places = [("XDG_CACHE_HOME", "cache"), ("XDG_DATA_HOME", "data")];
    let places = places.map(|(variable, name)| (variable, scratch.0.path().join(name)));
    Some((scratch.0, places.to_vec()))
}

#[test]
fn an_image_says_what_runs_and_how() {
    let config = r#"{"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["id -u; id -g; id -G; pwd; echo $A $HOME $PATH"],
        "Env": ["A=of the image", "PATH=/bin"], "User": "web", "WorkingDir": "/srv/work"}"#;
    let Some(scratch) = boxed(config) else { return };
    let ended = scratch.run(&[], "box", &[]);
    let groups = if is_root() { "1001 7" } else { "1001" };
    ended.silent().status(0).printed(format!("1000\n1001\n{groups}\n/srv/work\nof the image /srv /bin\n"));
    scratch.run(&[], "box", &["exit 7"]).silent().status(7);
    let options = ["--user", "0:5", "--env", "A=typed", "--entrypoint", "/bin/busybox"];
    let ended = scratch.run(&options, "box", &["sh", "-c", "id -u; id -g; echo $A"]);
    ended.silent().status(0).printed("0\n5\ntyped\n");
    // What every program expects is there, though the image has none of it.
    // By root: the pipe of this test is nobody else's to open.
    let script = "echo x >/dev/null; read line </proc/self/status; echo $line; echo y >/dev/stdout; ls /dev/shm; \
        ls /proc/self/fd >/dev/null; ln -s /dev/stdout /tmp/log; echo logged >/tmp/log";
    scratch.run(&["--user", "0"], "box", &[script]).silent().status(0).printed("Name: busybox\ny\nlogged\n");
    let script =
        "for fd in 3 4 5 6 7 8 9 10 11 12 13 14; do [ ! -e /proc/self/fd/$fd ] || echo leaked $fd; done";
    scratch.run(&["--keep", "k"], "box", &[script]).silent().status(0).printed("");
    scratch.run(&[], "box", &["cat /etc/shadow /proc/1/environ"]).status(1).says("No such file");
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

#[test]
fn what_is_written_is_gone_or_kept_and_can_be_seen() {
    let Some(scratch) = boxed(r#"{"Cmd": ["sh"]}"#) else { return };
    let write = "echo new >/etc/new; rm /etc/group; echo more >>/etc/passwd; mkdir /d; echo y >/d/f; rm -r /tmp; mkdir /tmp";
    let seen = "C /etc\nD /etc/group\nA /etc/new\nC /etc/passwd\nA /d\nA /d/f\nC /tmp\n";
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(|line| line[2..].to_owned() + &line[..1]).collect();
        lines.sort();
        lines
    };
    for (options, layer) in [(&[][..], "mounted"), (&["--copy"], "copied")] {
        scratch.run(options, "box", &["sh", "-c", write]).silent().status(0);
        let ended = scratch.run(options, "box", &["sh", "-c", "ls -d /etc/new /d; cat /etc/group"]);
        ended.status(0).printed("web:x:1001:\nmedia:x:7:web\n");
        let keep = [options, &["--keep", layer]].concat();
        scratch.run(&keep, "box", &["sh", "-c", write]).silent().status(0);
        // One that is there is gone on with in its own way.
        scratch
            .run(&["--keep", layer], "box", &["sh", "-c", "cat /etc/new /d/f; ls /etc"])
            .status(0)
            .printed("new\ny\nnew\npasswd\n");
        let is_copied = Path::new(&scratch.path("data/matchstick/layers")).join(layer).join("files").exists();
        let can_mount = is_root() && crate::support::runs(&["unshare", "-m", "true"]);
        assert_eq!(is_copied, layer == "copied" || !can_mount, "{layer}");
        let changes = scratch.images(&["--changes", layer]);
        assert_eq!(sorted(&changes.silent().text()), sorted(seen), "{layer}");
    }
    // Deleted and made again: what was below is not seen through it.
    scratch
        .run(&["--keep", "opaque"], "box", &["sh", "-c", "rm -r /etc; mkdir /etc; ls /etc"])
        .silent()
        .status(0);
    let changes = scratch.images(&["--changes", "opaque"]).text();
    assert!(changes.contains("D /etc/passwd\n") && changes.contains("C /etc\n"), "{changes}");
    let fails = |ended: Ended, status, error: &str, hint: &str| {
        ended.fails(status, error, hint);
    };
    fails(
        scratch.run(&["--copy", "--keep", "mounted"], "box", &[]),
        126,
        "mounted is an overlay",
        "another --keep",
    );
    fails(scratch.images(&["--changes", "nothing"]), 127, "nothing is called", "`matchstick images`");
    fails(
        scratch.images(&["--changes", "../layers/mounted"]),
        127,
        "nothing is called",
        "`matchstick images`",
    );
    fails(scratch.run(&["--keep", "../x"], "box", &[]), 125, "is no name", "`matchstick run-image --help`");
    scratch.layout("other", &[("other", &[busybox().unwrap().file("x", b"").end()], "{}")]);
    fails(scratch.run(&["--keep", "mounted"], "other", &["sh"]), 126, "over another image", "another --keep");
    let list = scratch.images(&[]).text();
    assert!(list.contains("image  ") && list.contains("layer  copied") && list.contains(" box\n"), "{list}");
    scratch.images(&["--remove", "mounted", "--remove", "copied"]).silent().status(0).printed("");
    scratch.images(&["--prune"]).silent().status(0).printed("2 images removed\n");
    assert!(!scratch.images(&[]).text().contains("copied"));
    assert_eq!(fs::read_dir(scratch.path("cache/matchstick/images/copies")).unwrap().count(), 0);
}

#[test]
fn the_image_stays_as_it_is_and_so_does_the_host() {
    let Some(scratch) = boxed(r#"{"Cmd": ["sh"]}"#) else { return };
    scratch.run(&[], "box", &["sh", "-c", "true"]).silent().status(0);
    let trees = scratch.path("cache/matchstick/images/trees");
    let list = || Program::new("find").args([&trees, "-printf", "%p %s %m %t %l\\n"]).run().text();
    let before = list();
    assert!(before.contains("/etc/passwd"), "{before}");
    let script = "rm -rf /etc /bin/ls; echo x >>/bin/busybox; chmod 0 /tmp; cd /..; echo x >/tmp/x; exit 0";
    scratch.run(&[], "box", &["sh", "-c", script]).status(0);
    assert!(before == list(), "the unpacked image has changed");
    assert!(!Path::new("/tmp/root").exists() && !Path::new("/tmp/upper").exists());
}

#[test]
fn many_at_once_unpack_it_once_and_none_takes_it_from_another() {
    let Some(scratch) = boxed(r#"{"Cmd": ["sh"]}"#) else { return };
    let many: Vec<_> = (0..6)
        .map(|number| {
            let script = format!("echo {number} >/tmp/own; cat /tmp/own");
            let image = scratch.path("box");
            (number, scratch.matchstick(&["run-image", &image, "sh", "-c", &script]).start())
        })
        .collect();
    for (number, running) in many {
        running.end().silent().status(0).printed(format!("{number}\n"));
    }
    let trees = fs::read_dir(scratch.path("cache/matchstick/images/trees")).unwrap();
    assert_eq!(trees.flatten().filter(|entry| entry.path().is_dir()).count(), 1);
    // Who runs from it keeps it, with what it writes to; also a child that has outlived the first process.
    let image = scratch.path("box");
    let words = ["run-image", "--keep", "k", &image, "sh", "-c", "sleep 1000 & echo child $!."];
    let running = scratch.matchstick(&words).start();
    running.stdout.wait_for(".");
    let said = String::from_utf8(running.stdout.so_far()).unwrap();
    let child: i32 = said.trim_end().trim_end_matches('.').split(' ').nth(1).unwrap().parse().unwrap();
    scratch.run(&["--keep", "k"], "box", &["sh"]).fails(125, "k is in use", "a program runs from it");
    scratch.images(&["--remove", "k"]).fails(125, "k is in use", "a program runs from it");
    scratch.images(&["--remove", "box"]).fails(125, "is in use", "a program runs from it");
    scratch.images(&["--prune"]).silent().printed("0 images removed\n");
    assert!(Program::new("kill").args([&child.to_string()]).run().status == Some(0));
    running.end();
    scratch.images(&["--remove", "k", "--remove", "box"]).silent().status(0);
}

/// What a user has who may use KVM and is nobody else: no daemon, no root.
#[test]
fn an_ordinary_user_has_the_image_s_user() {
    let config =
        r#"{"Cmd": ["sh", "-c", "id -u; id -g; touch /etc/mine; ls -n /etc/mine; mkdir /d; exit 3"]}"#;
    let Some(scratch) = boxed(config) else { return };
    let script = r#"[ -e "$0/user" ] || cp -r "$0/box" "$0/user"; chown -R 65534:65534 "$0"; chmod 755 "$0"
        [ -e "$0/kvm" ] || mknod "$0/kvm" c 10 232; chmod 666 "$0/kvm"; mount --bind "$0/kvm" /dev/kvm
        exec setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set=-all \
            env XDG_CACHE_HOME="$0/cache" XDG_DATA_HOME="$0/data" "$1" run-image "$0/user""#;
    if !is_root() || !crate::support::runs(&["unshare", "-m", "true"]) {
        return skip("another user needs root, and a mount namespace of our own");
    }
    let directory = scratch.path("");
    // A copy of the program that anybody may run.
    let program = scratch.path("matchstick");
    fs::copy(BINARY, &program).unwrap();
    let run = |options: &str| {
        let script = script.replace(" run-image ", &format!(" run-image {options} "));
        let script = ["set -e\n", &script].concat();
        let program = Program::new("unshare").args(["-m", "sh", "-c", &script, &directory, &program]);
        program.limit(LIMIT).run()
    };
    let is_mine = |ended: Ended, user: &str| {
        let text = ended.silent().status(3).text();
        assert!(text.starts_with(user), "{text}");
        let owner = text.lines().nth(2).unwrap();
        let [uid, gid] = [0, 1].map(|at| user.lines().nth(at).unwrap());
        assert!(
            owner.split_whitespace().nth(2) == Some(uid) && owner.split_whitespace().nth(3) == Some(gid),
            "{owner}"
        );
    };
    is_mine(run("--keep k"), "0\n0\n");
    is_mine(run("--user web"), "1000\n1001\n");
    // Without a namespace there is no other user than the one who runs it.
    is_mine(run("--copy"), "65534\n65534\n");
    assert!(scratch.images(&["--changes", "k"]).stderr.contains("not yours alone"));
}

#[test]
fn images_are_read_as_the_tools_write_them() {
    let Some(scratch) =
        boxed(r#"{"Cmd": ["sh", "-c", "echo $FROM"], "Env": ["PATH=/bin", "FROM=a layout"]}"#)
    else {
        return;
    };
    let tools = ["skopeo", "umoci", "podman"].map(installed);
    if tools.iter().any(Option::is_none) {
        assert!(!is_set("REQUIRE_CONTAINERS"), "skopeo, umoci and podman are to be there");
        return;
    }
    let path = |name: &str| scratch.path(name);
    let tool = |words: &[&str]| {
        let ended = Program::new(words[0]).args(&words[1..]).limit(LIMIT).run();
        assert_eq!(ended.status, Some(0), "{words:?}: {ended:?}");
    };
    let prints = |options: &[&str], image: &str, text: &str| {
        // Each is unpacked anew: that is what is tested.
        let _ = fs::remove_dir_all(path("cache"));
        scratch.run(options, image, &[]).silent().status(0).printed(text);
    };
    prints(&[], "box", "a layout\n");
    let layout = format!("oci:{}:box", path("box"));
    tool(&["skopeo", "copy", "--dest-compress-format=zstd", &layout, &format!("oci:{}:z", path("zstd"))]);
    tool(&["skopeo", "copy", &layout, &format!("oci-archive:{}:a", path("oci.tar"))]);
    tool(&["skopeo", "copy", &layout, &format!("docker-archive:{}:box:1", path("docker.tar"))]);
    for image in ["zstd", "oci.tar", "docker.tar"] {
        prints(&[], image, "a layout\n");
    }
    // umoci: a second layer, and a second tag.
    let bundle = path("bundle");
    let image = format!("{}:box", path("box"));
    tool(&["umoci", "unpack", "--rootless", "--image", &image, &bundle]);
    fs::remove_file(format!("{bundle}/rootfs/bin/wget")).unwrap();
    fs::write(format!("{bundle}/rootfs/etc/added"), "added by umoci\n").unwrap();
    tool(&["umoci", "repack", "--image", &format!("{}:two", path("box")), &bundle]);
    let config = ["--config.cmd=cat", "--config.cmd=/etc/added"];
    tool(&["umoci", "config", "--image", &format!("{}:two", path("box")), config[0], config[1]]);
    scratch.run(&[], "box", &[]).fails(125, "more than one image in it: box, two", "--tag NAME");
    scratch.run(&["--tag", "three"], "box", &[]).fails(127, "there is box, two", "--tag NAME");
    prints(&["--tag", "two"], "box", "added by umoci\n");
    prints(&["--tag", "box"], "box", "a layout\n");
    let ended = scratch.run(&["--tag", "two", "--entrypoint", "ls"], "box", &["/bin/wget"]);
    ended.status(1).says("No such file");
    // podman, with a storage of its own: both of its forms, and two images in one archive.
    let podman = |words: &[&str]| {
        let storage = ["--root", &path("storage"), "--runroot", &path("runroot"), "--storage-driver=vfs"];
        tool(&[&["podman"], &storage[..], words].concat());
    };
    podman(&["load", "--quiet", "--input", &path("docker.tar")]);
    podman(&["tag", "docker.io/library/box:1", "localhost/other:2"]);
    podman(&[
        "save",
        "--quiet",
        "--format=docker-archive",
        "--output",
        &path("pd.tar"),
        "docker.io/library/box:1",
    ]);
    podman(&[
        "save",
        "--quiet",
        "--format=oci-archive",
        "--output",
        &path("po.tar"),
        "docker.io/library/box:1",
    ]);
    podman(&["save", "--quiet", "--format=oci-dir", "--output", &path("dir"), "docker.io/library/box:1"]);
    podman(&[
        "save",
        "--quiet",
        "-m",
        "--output",
        &path("many.tar"),
        "docker.io/library/box:1",
        "localhost/other:2",
    ]);
    for (options, image) in [
        (&[][..], "pd.tar"),
        (&[], "po.tar"),
        (&[], "dir"),
        (&["--tag", "other:2"], "many.tar"),
        (&["--tag=1"], "many.tar"),
    ] {
        prints(options, image, "a layout\n");
    }
}

/// A directory of this host as entries of an archive, links as links; what `leave` names is left out.
fn tree(mut tar: Tar, directory: &Path, leave: &[&str]) -> Tar {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if leave.contains(&path.file_name().unwrap().to_str().unwrap_or_default()) {
            continue;
        }
        let name = path.to_str().unwrap().trim_start_matches('/').to_owned();
        let metadata = fs::symlink_metadata(&path).unwrap();
        tar = match (metadata.is_dir(), metadata.is_symlink()) {
            (true, _) => tree(tar, &path, leave),
            (_, true) => tar.link(&name, fs::read_link(&path).unwrap().to_str().unwrap()),
            _ => tar.program(&name, &fs::read(&path).unwrap()),
        };
    }
    tar
}

/// A dynamic program with its libraries, by what ldd(1) says.
fn with_libraries(mut tar: Tar, program: &Path) -> Tar {
    let said = Program::new("ldd").args([program]).run().text();
    let paths = said.split_whitespace().filter(|word| word.starts_with('/'));
    for path in [program.to_str().unwrap()].into_iter().chain(paths) {
        tar = tar.program(path.trim_start_matches('/'), &fs::read(path).unwrap());
    }
    tar
}

#[test]
fn a_python_program_runs_with_its_files() {
    // Debian's, whose files are known, and not another one in PATH.
    let Ok(python) = Path::new("/usr/bin/python3").canonicalize() else {
        assert!(!is_set("REQUIRE_CONTAINERS"), "no /usr/bin/python3");
        return skip("no /usr/bin/python3");
    };
    if !has_kvm() {
        return;
    }
    let version = python.file_name().unwrap().to_str().unwrap().to_owned();
    let leave = [
        "__pycache__",
        "test",
        "tests",
        "idlelib",
        "tkinter",
        "distutils",
        "lib2to3",
        "dist-packages",
        "ensurepip",
    ];
    let library = Path::new("/usr/lib").join(&version);
    if !library.join("os.py").is_file() {
        return skip("python3 is not Debian's");
    }
    // The libraries in one layer, the program in the next, as an image is made.
    let base = tree(with_libraries(Tar::default(), &python), &library, &leave);
    let base = base.link("usr/bin/python3", &version);
    let program = "#!/usr/bin/python3\nimport json, os, socket, subprocess, sys, threading
open('/data/file', 'w').write('kept')
subprocess.run([sys.executable, '-c', 'print(\"child\")'], check=True)
print(json.dumps([os.getuid(), os.getcwd(), sys.argv[1:], os.environ['A'], open('file').read()]))
sys.exit(5)\n";
    let upper = Tar::default().program("app/main.py", program.as_bytes()).directory("data");
    let scratch = Scratch::new();
    let config = r#"{"Entrypoint": ["/app/main.py"], "Cmd": ["x"], "WorkingDir": "/data", "Env": ["A=b"]}"#;
    scratch.layout("python", &[("python", &[base.end(), upper.end()], config)]);
    let ended = scratch.run(&[], "python", &[]);
    ended.silent().status(5).printed("child\n[0, \"/data\", [\"x\"], \"b\", \"kept\"]\n");
}

#[test]
fn a_go_program_runs_from_an_image_of_nothing_else() {
    let Some(go) = installed("go").filter(|_| has_kvm()) else {
        assert!(!is_set("REQUIRE_CONTAINERS"), "go is to be there");
        return;
    };
    let scratch = Scratch::new();
    let source = "package main
import (\"fmt\"; \"os\"; \"sync\")
func main() {
\tvar all sync.WaitGroup
\tfor i := 0; i < 50; i++ { all.Add(1); go func() { all.Done() }() }
\tall.Wait()
\tfmt.Println(\"from Go\", os.Args[1:], os.Getuid())
}\n";
    fs::write(scratch.path("main.go"), source).unwrap();
    let built = Program::new(go)
        .args(["build", "-o", &scratch.path("main"), &scratch.path("main.go")])
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=mod")
        .env("GOCACHE", scratch.path("go"))
        .limit(Duration::from_secs(300))
        .run();
    built.status(0);
    let layer = Tar::default().program("main", &fs::read(scratch.path("main")).unwrap()).end();
    scratch.layout("go", &[("go", &[layer], r#"{"Entrypoint": ["/main"], "User": "65532:65532"}"#)]);
    scratch.run(&[], "go", &["a", "b"]).silent().status(0).printed("from Go [a b] 65532\n");
}

#[test]
fn with_a_network_names_are_asked_where_the_host_asks() {
    let Some(scratch) = boxed(r#"{"Cmd": ["sh"]}"#) else { return };
    let hosts = fs::read_to_string("/etc/hosts").unwrap();
    let read = ["cat", "/etc/hosts"];
    scratch.run(&["--net"], "box", &read).silent().status(0).printed(&hosts);
    scratch.run(&[], "box", &read).status(1).says("No such file");
    scratch.run(&["--net"], "box", &["sh", "-c", "echo x >>/etc/hosts"]).status(1).says("Read-only");
    // A server of this host, which only a program with a network reaches.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", server.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut client, _) = server.accept().unwrap();
        let _ = std::io::Read::read(&mut client, &mut [0; 1000]);
        std::io::Write::write_all(&mut client, b"HTTP/1.0 200 OK\r\n\r\nserved\n").unwrap();
    });
    scratch.run(&[], "box", &["wget", "-q", "-O", "-", &url]).status(1);
    scratch.run(&["--net"], "box", &["wget", "-q", "-O", "-", &url]).status(0).printed("served\n");
    answering.join().unwrap();
}

#[test]
fn hostile_and_damaged_images_are_refused_and_leave_nothing() {
    let Some(good) = busybox() else { return };
    let scratch = Scratch::new();
    let refused = |layers: &[Vec<u8>], error: &str| {
        scratch.layout("bad", &[("bad", layers, r#"{"Cmd": ["sh"]}"#)]);
        let ended = scratch.run(&["--max-size", "8M"], "bad", &[]);
        assert_eq!(ended.status, Some(126), "{ended:?}");
        assert!(ended.stderr.contains(error), "{error:?} is not in {ended:?}");
        let trees = fs::read_dir(scratch.path("cache/matchstick/images/trees")).unwrap();
        assert!(trees.flatten().all(|entry| !entry.path().is_dir()), "something was left");
        fs::remove_dir_all(scratch.path("bad")).unwrap();
    };
    let outside = scratch.path("outside");
    fs::create_dir(&outside).unwrap();
    let tar = Tar::default;
    refused(&[tar().file("../../../../outside/x", b"").end()], "leads out of the image");
    refused(&[tar().file(&format!("{outside}/x"), b"").end()], "its name is absolute");
    refused(&[tar().link("l", &outside).file("l/x", b"").end()], "leads out of the image");
    refused(&[tar().link("l", "../../../../../outside").end(), tar().file("l/x", b"").end()], "layer 2");
    refused(&[tar().hard_link("passwd", "/etc/passwd").end()], "outside of the image");
    refused(&[tar().entry(b'4', "disk", "", 0o666, b"").end()], "a device outside of /dev");
    refused(&[tar().file("a", b"x").end()[..600].to_vec()], "ends too early");
    refused(&[b"no archive at all".repeat(100)], "the sum of a header");
    // A bomb: 64 MiB of nothing, which take some kilobytes. And the same where an archive has come to its end.
    let bomb = |bytes: &[u8]| {
        fs::write(scratch.path("bomb"), bytes).unwrap();
        Program::new("gzip").args(["-9", "-c", &scratch.path("bomb")]).limit(LIMIT).run().stdout
    };
    for plain in [tar().file("zeros", &vec![0; 64 << 20]).end(), [tar().end(), vec![0; 64 << 20]].concat()] {
        let layer = bomb(&plain);
        assert!(layer.len() < 1 << 20);
        refused(&[layer], "unpacks to more than 8 MiB");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    // Every byte of it counts: a blob that was changed, cut, or is missing.
    scratch.layout("bad", &[("bad", &[good.end()], r#"{"Cmd": ["sh"]}"#)]);
    let blobs: Vec<PathBuf> =
        fs::read_dir(scratch.path("bad/blobs/sha256")).unwrap().map(|blob| blob.unwrap().path()).collect();
    assert_eq!(blobs.len(), 3);
    for blob in blobs {
        let bytes = fs::read(&blob).unwrap();
        let fails = |error: &str| {
            let ended = scratch.run(&[], "bad", &[]);
            assert!(
                ended.status == Some(126) && ended.stderr.contains(error),
                "{error:?} is not in {ended:?}"
            );
        };
        let mut changed = bytes.clone();
        let last = changed.len() - 3;
        changed[last] ^= 1;
        fs::write(&blob, &changed).unwrap();
        fails("damaged: its digest");
        fs::write(&blob, &bytes[..bytes.len() - 1]).unwrap();
        fails("damaged: its");
        fs::remove_file(&blob).unwrap();
        fails("missing");
        assert!(Program::new("mkfifo").args([&blob]).run().status == Some(0));
        fails("cannot read");
        fs::remove_file(&blob).unwrap();
        fs::write(&blob, &bytes).unwrap();
    }
}

#[test]
fn what_is_no_image_is_said() {
    let scratch = Scratch::new();
    let file = |name: &str, bytes: &[u8]| fs::write(scratch.path(name), bytes).unwrap();
    let fails = |options: &[&str], image: &str, status, error: &str, hint: &str| {
        scratch.run(options, image, &[]).fails(status, error, hint);
    };
    scratch.matchstick(&["run-image"]).run().fails(125, "which image?", "`matchstick run-image --help`");
    let both = ["images", "--prune", "--remove", "x"];
    scratch.matchstick(&both).run().fails(125, "one at a time", "`matchstick images --help`");
    fails(&[], "nothing", 127, "cannot open", "`skopeo copy");
    fs::create_dir(scratch.path("empty")).unwrap();
    fails(&[], "empty", 126, "is no container image", "`docker save");
    file("text", b"just text");
    fails(&[], "text", 126, "it is no tar archive", "`docker save");
    file("packed.tar.gz", &[0x1f, 0x8b, 8, 0]);
    fails(&[], "packed.tar.gz", 126, "compressed as a whole", "gunzip");
    file("none.tar", &Tar::default().file("a", b"").end());
    fails(&[], "none.tar", 126, "without an index.json", "`docker save");
    file("wrong.tar", &Tar::default().file("index.json", b"{").end());
    scratch.run(&[], "wrong.tar", &[]).fails_without_hint(126, "the image's index.json is damaged");
    file("long.tar", &Tar::default().file("index.json", &vec![b' '; 5 << 20]).end());
    scratch.run(&[], "long.tar", &[]).fails_without_hint(126, "it is too long");
    let deep = format!("{{\"manifests\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    file("deep.tar", &Tar::default().file("index.json", deep.as_bytes()).end());
    scratch.run(&[], "deep.tar", &[]).fails_without_hint(126, "the image's index.json is damaged");
    file("no.tar", &Tar::default().file("index.json", br#"{"manifests": []}"#).end());
    fails(&[], "no.tar", 127, "no image for linux/amd64", "--override-arch amd64");
    let out = br#"[{"Config": "../../etc/passwd", "RepoTags": null, "Layers": []}]"#;
    file("out.tar", &Tar::default().file("manifest.json", out).end());
    scratch.run(&[], "out.tar", &[]).fails_without_hint(126, "the image's configuration is missing");
    let saved = br#"[{"Config": "c.json", "RepoTags": ["a:1"], "Layers": []}]"#;
    let arm = br#"{"architecture": "arm64", "os": "linux", "rootfs": {"diff_ids": []}}"#;
    file("arm.tar", &Tar::default().file("manifest.json", saved).file("c.json", arm).end());
    fails(&[], "arm.tar", 126, "the image is for linux/arm64", "--override-arch amd64");
    let nothing = br#"{"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": []}}"#;
    file("nothing.tar", &Tar::default().file("manifest.json", saved).file("c.json", nothing).end());
    fails(&[], "nothing.tar", 125, "does not say what to run", "`matchstick run-image IMAGE /bin/sh`");
    scratch.run(&["--user", "nobody"], "nothing.tar", &["x"]).fails(
        125,
        "no user or group \"nobody\"",
        "--user USER",
    );
    let home = scratch.matchstick(&["images"]).env("XDG_CACHE_HOME", "relative").env("HOME", "").run();
    home.fails(125, "no place for a cache", "XDG_CACHE_HOME");
    fs::create_dir_all(scratch.path("open/matchstick/images")).unwrap();
    fs::set_permissions(scratch.path("open/matchstick/images"), fs::Permissions::from_mode(0o777)).unwrap();
    let open = scratch.matchstick(&["images"]).env("XDG_CACHE_HOME", scratch.path("open")).run();
    open.fails(126, "is not yours alone", "chmod 700");
}
