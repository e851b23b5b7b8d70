//! Compiles the guests of the gallery with the compiler that builds the VMM: nothing to install.
//!
//! Each guest is one file beside this one, and says in its first lines what it is:
//!
//! ```text
//! //! hello: one line about it
//! //! expect: a line of its output (one for each line; `*` stands for any characters)
//! //! exit: its status, 0 if absent
//! //! needs: what it needs of a machine, separated by commas
//! //! input: a line to type
//! //! args: what it may be told, `N` for a number; nothing if absent
//! ```
//!
//! The result is `$OUT_DIR/gallery.rs`, a slice of `Guest` literals to be included; `$OUT_DIR/linux-init`, the
//! program that a Linux guest starts first; `$OUT_DIR/payload-*`, the programs that `matchstick bench` starts
//! on Linux itself; and `$OUT_DIR/filters.rs`, see `filters.rs`.

mod filters;

use std::path::Path;
use std::process::{Command, exit};
use std::{env, fs};

/// What the linker makes of a guest.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// 512 bytes, loaded to 0x7c00 in real mode.
    BootSector,
    /// An ELF file entered in long mode.
    Elf,
    /// An ELF file that Linux runs.
    Program,
}
use Kind::{BootSector, Elf, Program};

/// The order of a lesson: up the processor's modes first. Guests that are not named here follow by name.
const ORDER: [&str; 13] = [
    "real",
    "protected",
    "long",
    "hello",
    "noop",
    "echo",
    "fault",
    "paging",
    "timer",
    "exits",
    "smp",
    "rings",
    "primes",
];

fn main() {
    println!("cargo::rerun-if-changed=guest-kernels");
    println!("cargo::rerun-if-changed=src/sandbox/rules.rs");
    lay_out_the_start();
    println!("cargo::rerun-if-env-changed=RUSTC");
    look_for_kvm();
    let out = variable("OUT_DIR");
    let sources = Path::new(&variable("CARGO_MANIFEST_DIR")).join("guest-kernels");
    let target = target();

    compile(&sources.join("linux/init"), Program, &target, &Path::new(&out).join("linux-init"));
    for name in ["hello", "primes", "empty", "peak", "probe", "wait", "without"] {
        let image = Path::new(&out).join(format!("payload-{name}"));
        compile(&sources.join("linux").join(name), Program, &target, &image);
    }
    let mut gallery = String::from("&[\n");
    for (name, text) in guests(&sources) {
        let image = Path::new(&out).join(&name);
        let kind = if text.contains(".section .boot") { BootSector } else { Elf };
        compile(&sources.join(&name), kind, &target, &image);
        gallery += &literal(&name, &text, &image);
    }
    gallery += "]\n";
    for (name, text) in [("gallery.rs", gallery), ("filters.rs", filters::source())] {
        fs::write(Path::new(&out).join(name), text).unwrap_or_else(|e| fail(&format!("{name}: {e}")));
    }
}

/// Each guest's name and source: a file that begins with its own name is one.
fn guests(sources: &Path) -> Vec<(String, String)> {
    let read =
        |path: &Path| fs::read_to_string(path).unwrap_or_else(|e| fail(&format!("{}: {e}", path.display())));
    let entries = fs::read_dir(sources).unwrap_or_else(|e| fail(&format!("{}: {e}", sources.display())));
    let files = entries.flatten().map(|entry| entry.path());
    let guest = |path: std::path::PathBuf| {
        let name = path.file_name()?.to_str()?.strip_suffix(".rs")?.to_owned();
        let text = read(&path);
        text.starts_with(&format!("//! {name}: ")).then_some((name, text))
    };
    let mut guests: Vec<(String, String)> = files.filter_map(guest).collect();
    let place = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
    guests.sort_by(|(a, _), (b, _)| (place(a), a).cmp(&(place(b), b)));
    guests
}

/// The command's functions in the order of `src/start.ld`, which says why.
fn lay_out_the_start() {
    let script = Path::new(&variable("CARGO_MANIFEST_DIR")).join("src/start.ld");
    println!("cargo::rerun-if-changed={}", script.display());
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
}

/// The README's program is a test that starts a VM: without a /dev/kvm that may be used it is left out, and
/// said to be.
fn look_for_kvm() {
    println!("cargo::rustc-check-cfg=cfg(has_kvm)");
    println!("cargo::rerun-if-changed=/dev/kvm");
    println!("cargo::rerun-if-env-changed=REQUIRE_KVM");
    let usable = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    if usable || env::var_os("REQUIRE_KVM").is_some() {
        println!("cargo::rustc-cfg=has_kvm");
    } else {
        println!("cargo::warning=skipped: the README's program, a test that needs a /dev/kvm you may open");
    }
}

/// The target without an operating system, where it is installed.
const BARE: &str = "x86_64-unknown-none";

/// `BARE`, or else the host, which every toolchain has; `compile` switches off what that has too much.
fn target() -> String {
    let dir = Command::new(variable("RUSTC")).args(["--print", "target-libdir", "--target", BARE]).output();
    match dir {
        Ok(dir) if Path::new(String::from_utf8_lossy(&dir.stdout).trim()).exists() => BARE.to_owned(),
        _ => variable("HOST"),
    }
}

/// Compiles `source`.rs to `image`, or prints what the compiler says and gives up.
fn compile(source: &Path, kind: Kind, target: &str, image: &Path) {
    let source = source.with_extension("rs");
    let (Some(directory), Some(name)) = (source.parent(), source.file_name()) else {
        fail(&format!("{}: no file", source.display()))
    };
    // Build id and RELRO are for programs that a dynamic linker loads; -n drops the padding to pages.
    let mut link = vec!["--build-id=none", "--gc-sections", "-z", "norelro", "-n", "-s"];
    link.extend(match kind {
        Elf => ["-T", "guest.ld"].iter(),
        BootSector => ["-T", "boot_sector.ld", "--oformat=binary"].iter(),
        Program => ["-T", "init.ld"].iter(),
    });
    let mut rustc = Command::new(variable("RUSTC"));
    rustc
        // Relative names keep this machine's paths out of panic messages.
        .current_dir(directory)
        .arg(name)
        .arg("-o")
        .arg(image)
        .args(["--edition=2024", "--crate-type=bin", "--target", target])
        .args(["-Copt-level=s", "-Cpanic=abort", "-Crelocation-model=static"])
        // An interrupt pushes its frame right below the stack pointer, where a red zone would be.
        .arg("-Cno-redzone=yes")
        // Recompiles the prebuilt core library under the same flags.
        .arg("-Clto=fat");
    if target == BARE {
        // Its linker is the one that comes with Rust.
        rustc.arg(format!("-Clink-args={}", link.join(" ")));
    } else {
        // Here a C compiler calls the linker: without its start-up files and libraries.
        rustc.arg(format!("-Clink-args=-nostdlib -static -no-pie -Wl,{}", link.join(",")));
        if kind != Program {
            // No guest saves vector registers, and some hypervisors emulate ring 0 without them.
            rustc.arg("-Ctarget-feature=-sse,-sse2,+soft-float");
        }
    }

    let output = rustc.output().unwrap_or_else(|e| fail(&format!("cannot start {rustc:?}: {e}")));
    // Success is silent: rustc warns that this target wants SSE2, which is the point (rust-lang/rust#116344).
    if !output.status.success() {
        fail(&format!("{} does not compile:\n{}", source.display(), String::from_utf8_lossy(&output.stderr)));
    }
}

/// The Rust expression that describes a guest.
fn literal(name: &str, source: &str, image: &Path) -> String {
    let header: Vec<&str> =
        source.lines().take_while(|line| line.starts_with("//!")).map(|line| line[3..].trim()).collect();
    let all = |key: &str| -> Vec<&str> {
        let values = header.iter().filter_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        values.map(str::trim).collect()
    };
    let about = all(name).first().copied();
    let about = about.unwrap_or_else(|| fail(&format!("{name}.rs does not begin with `//! {name}: ...`")));
    let exit = all("exit").first().map_or(Ok(0), |status| status.parse::<u8>());
    let exit = exit.unwrap_or_else(|e| fail(&format!("{name}.rs: exit: {e}")));
    let needs = all("needs").join(",");
    let needs: Vec<&str> =
        needs.split(',').map(str::trim).filter(|word| !["", "nothing"].contains(word)).collect();
    let args = all("args").first().copied().unwrap_or_default();
    let input = all("input").iter().map(|line| format!("{line}\n")).collect::<String>();
    format!(
        "    Guest {{ name: {name:?}, about: {about:?}, expect: &{:?}, exit: {exit}, needs: &{needs:?}, \
         input: {input:?}, args: {args:?}, image: include_bytes!({image:?}) }},\n",
        all("expect"),
    )
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|e| fail(&format!("{name}: {e}")))
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    exit(1)
}
