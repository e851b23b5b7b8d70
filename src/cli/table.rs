//! What can be typed: one table of commands and options. The help is made from it, in `help`.
//!
//! The man page and the completions in `docs/` are kept by hand; a test holds them against this table.

use super::bench::{BENCH_INTRO, BENCH_NOTES, BENCH_OPTIONS};
use super::explain::EXPLAIN_OPTIONS;
use super::host::HOST_OPTIONS;
use super::{golden, trace};

/// A command, for the help.
#[derive(Debug, PartialEq)]
pub struct CommandHelp {
    /// The word.
    pub name: &'static str,
    /// What follows it.
    pub arguments: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// The same at length, for its own help.
    pub intro: &'static str,
    /// Its options.
    pub options: &'static [OptionHelp],
    /// What else a user has to know.
    pub notes: &'static str,
}

/// All commands.
pub const COMMANDS: &[CommandHelp] = &[
    CommandHelp {
        name: "run",
        arguments: "[OPTIONS] [GUEST|PATH] [-- ARGS...]",
        about: "start a guest of the gallery, or any image",
        intro: "Start a guest of the gallery (`matchstick guests`; hello by default), or any image.\n\
                `linux` is the newest kernel in /boot, or --kernel, with an init of ours (ARGS: echo).",
        options: RUN_OPTIONS,
        notes: RUN_NOTES,
    },
    CommandHelp {
        name: "trace",
        arguments: "[OPTIONS] [GUEST|PATH] [-- ARGS...]",
        about: "start a guest, and tell every call to KVM and every exit",
        intro: trace::INTRO,
        options: trace::OPTIONS,
        notes: trace::NOTES,
    },
    CommandHelp {
        name: "snapshot",
        arguments: "[OPTIONS] [GUEST|PATH] [-- ARGS...]",
        about: "run a guest to a point, and keep it as a golden image",
        intro: golden::INTRO,
        options: golden::OPTIONS,
        notes: golden::NOTES,
    },
    CommandHelp {
        name: "clone",
        arguments: "[OPTIONS] IMAGE",
        about: "start many machines from a golden image, and measure",
        intro: "Start machines from one golden image, each to the first byte that its guest writes, and keep all of them\n\
                until the last one is there. Tells how many that were in a second, how long each took, and what\n\
                each of them costs in memory. What the guests write is not shown.",
        options: golden::CLONE_OPTIONS,
        notes: "",
    },
    CommandHelp {
        name: "diff",
        arguments: "IMAGE IMAGE|pid:N",
        about: "how far a machine has gone from its golden image",
        intro: golden::DIFF_INTRO,
        options: &[],
        notes: "",
    },
    CommandHelp {
        name: "guests",
        arguments: "",
        about: "list the gallery",
        intro: "List the guests of the gallery, one line each.",
        options: &[],
        notes: "",
    },
    CommandHelp {
        name: "host",
        arguments: "[OPTIONS]",
        about: "what is under us, and what is missing",
        intro: "Show what this host is made of, from the hardware up to where a guest would stand: which of it is\n\
                Type 1 and Type 2, and why; what matchstick needs and what mends its lack; whether times\n\
                measured here hold elsewhere. Works without /dev/kvm and without root.",
        options: HOST_OPTIONS,
        notes: "",
    },
    CommandHelp {
        name: "bench",
        arguments: "[OPTIONS] [isolation|memory|parallel]",
        about: "race a VM against a process and containers",
        intro: BENCH_INTRO,
        options: BENCH_OPTIONS,
        notes: BENCH_NOTES,
    },
    CommandHelp {
        name: "explain",
        arguments: "[OPTIONS] [TOPIC]",
        about: "a lesson, with the figures of this machine",
        intro: "Explain what a hypervisor is, what a container is, and how they differ, in lessons of a page or two. The\n\
                figures in them are measured while you wait, on this machine. Without a TOPIC, list the lessons.",
        options: EXPLAIN_OPTIONS,
        notes: "",
    },
    CommandHelp {
        name: "help",
        arguments: "[COMMAND]",
        about: "explain a command",
        intro: "",
        options: &[],
        notes: "",
    },
];

/// An option, for the help.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptionHelp {
    /// The letter, if it has one.
    pub short: Option<char>,
    /// The word.
    pub long: &'static str,
    /// What its value is, if it takes one.
    pub value: Option<&'static str>,
    /// What it does; a second line where one is not enough.
    pub about: &'static str,
}

pub(super) const fn option(
    short: Option<char>,
    long: &'static str,
    value: Option<&'static str>,
    about: &'static str,
) -> OptionHelp {
    OptionHelp { short, long, value, about }
}

/// The options of `run`.
pub const RUN_OPTIONS: &[OptionHelp] = &[
    option(Some('k'), "kernel", Some("PATH"), "the image to start, instead of GUEST|PATH"),
    option(Some('i'), "initrd", Some("PATH"), "a module or initial RAM disk for it"),
    option(None, "initramfs", Some("PATH"), "the same as --initrd"),
    option(
        None,
        "init",
        Some("PROGRAM"),
        "Linux: run this static program with ARGS; its status is ours\n(with --rootfs, a path in DIR)",
    ),
    option(
        None,
        "rootfs",
        Some("DIR"),
        "Linux: a copy of DIR, in memory, is the root file system;\nwhat is written to it vanishes at exit",
    ),
    option(
        Some('p'),
        "cmdline",
        Some("TEXT"),
        "the kernel's command line; ARGS are appended\n(to Linux, TEXT is said after the default)",
    ),
    option(None, "cmdline-only", Some("TEXT"), "the same, and Linux gets no default"),
    option(Some('c'), "cpus", Some("N"), "number of CPUs [default: 1, or what the guest needs]"),
    option(
        Some('m'),
        "memory",
        Some("SIZE"),
        "memory: a number is MiB, or with K, M, G, T\n[default: 2M for the gallery, 512M for Linux, 128M for another file]",
    ),
    option(
        None,
        "boot",
        Some("PROTOCOL"),
        "auto, flat16, flat64, elf, multiboot, pvh or linux\n[default: auto, from the image]",
    ),
    option(None, "timeout", Some("TIME"), "end the guest after TIME: 2, 0.5, 500ms, 2m (status 124)"),
    option(None, "max-output", Some("SIZE"), "end the guest when it has written more than SIZE (status 120)"),
    option(None, "sandbox", Some("WHAT"), "strict, or off: confine this process [default: strict]"),
    option(None, "timings", None, "show each phase from exec to teardown, on stderr"),
    option(Some('q'), "quiet", None, "no remarks; a crash in one line"),
    option(Some('v'), "verbose", None, "say what is started and how it ended"),
    option(Some('h'), "help", None, "show this"),
];

/// The options of a command that starts a guest as `run` does: its own, and those of `run` but for --timings and, where
/// it is not `confined`, --sandbox. `N` is their number.
pub(super) const fn beside_run<const N: usize>(own: &[OptionHelp], confined: bool) -> [OptionHelp; N] {
    let mut all = [own[0]; N];
    let (mut from, mut to) = (0, 0);
    while from < own.len() + RUN_OPTIONS.len() {
        let option = if from < own.len() { own[from] } else { RUN_OPTIONS[from - own.len()] };
        let is_left_out = match option.long.as_bytes() {
            b"timings" => true,
            b"sandbox" => !confined,
            _ => false,
        };
        if !is_left_out {
            all[to] = option;
            to += 1;
        }
        from += 1;
    }
    all
}

/// What a user of `run` has to know besides the options.
const RUN_NOTES: &str = "
Boot protocols (found out from the image, or named with --boot):
  flat16     a boot sector: 16-bit code at 0x7c00 that ends with 55 aa at byte 510
  flat64     64-bit code at 1 MiB without any header; has to be named
  elf        ELF64, entered in long mode with the registers of Linux's 64-bit protocol
  multiboot  Multiboot 1: ELF32, ELF64 or an address field, entered in protected mode
  pvh        an ELF with a PVH note, entered in protected mode
  linux      a Linux bzImage, entered in long mode

On a terminal the keys go to the guest, Ctrl-C included. Ctrl-a x leaves; Ctrl-a Ctrl-a sends one Ctrl-a.

Exit status:
  the guest's own, as it wrote it to port 0xf4; 0 if it switched itself off, halted for good,
  or you left with Ctrl-a x
  120  --max-output was not enough
  121  Linux panicked (reboot=panic_warm on its command line, as the default has)
  122  the guest asked for a reset      125  matchstick failed, or was used wrongly
  123  the guest crashed                126  the image cannot be booted, or this host cannot run it
  124  --timeout is over                127  there is no such image
  128+N  ended by signal N
";
