//! `matchstick run`: starts a guest, and ends with its exit status.

use super::error::Result;
use super::option::{CommandHelp, Parsed};
use super::run_options::{self, RUN_OPTIONS, RunArgs};
use super::{start, timings};
use lexopt::Parser;

/// The command.
pub const COMMAND: CommandHelp = CommandHelp {
    name: "run",
    arguments: "[OPTIONS] [GUEST|PATH] [-- ARGS...]",
    about: "start a guest of the gallery, or any image",
    intro: "Start a guest of the gallery (`matchstick guests`; hello by default), or any image.\n\
            `linux` is the newest kernel in /boot, or --kernel, with an init of ours (ARGS: echo).",
    options: RUN_OPTIONS,
    notes: NOTES,
    hint: "`matchstick run --help` shows all options",
};

/// What a user of `run` has to know besides the options.
const NOTES: &str = "
Boot protocols (found out from the image, or named with --boot):
  flat16     a boot sector: 16-bit code at 0x7c00 that ends with 55 aa at byte 510
  flat64     64-bit code at 1 MiB without any header; has to be named
  elf        ELF64, entered in long mode with the registers of Linux's 64-bit protocol
  multiboot  Multiboot 1: ELF32, ELF64 or an address field, entered in protected mode
  pvh        an ELF with a PVH note, entered in protected mode
  linux      a Linux bzImage, entered in long mode

On a terminal the keys go to the guest, Ctrl-C included. Ctrl-a x leaves; Ctrl-a b sends a break,
Ctrl-a Ctrl-a one Ctrl-a.

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

/// Reads what follows `run`.
pub fn parse(parser: &mut Parser) -> std::result::Result<Parsed<RunArgs>, lexopt::Error> {
    run_options::parse(parser, RUN_OPTIONS, |_, _| Ok(()))
}

/// Runs a guest and returns the exit status.
pub fn run(args: &RunArgs) -> Result<u8> {
    if args.timings {
        match timings::run_if_inside(|timeline| start::run(args, timeline)) {
            Some(ended) => return ended,
            None if !timings::is_measured() => return timings::measure(),
            None => {}
        }
    }
    start::run(args, &mut ())
}
