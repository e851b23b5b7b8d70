//! `matchstick diff`: how far a machine has gone from its golden image.

use super::error::Result;
use super::option::{CommandHelp, Given, HELP, OptionHelp, Parsed};
use super::print::print;
use crate::snapshot::{Limits, Snapshot};
use lexopt::Parser;
use std::path::PathBuf;

/// The command.
pub const COMMAND: CommandHelp = CommandHelp {
    name: "diff",
    arguments: "IMAGE IMAGE|pid:N",
    about: "how far a machine has gone from its golden image",
    intro: INTRO,
    options: &[],
    notes: "",
    hint: "`matchstick diff IMAGE IMAGE` compares two, `matchstick diff IMAGE pid:N` a machine that runs",
};

/// Its only option, which its help does not list.
const OPTIONS: &[OptionHelp] = &[HELP];

/// What the help of `diff` begins with.
const INTRO: &str = "Show how far a machine has gone from its golden image: pages of memory, registers, devices.\n\
     The other one is an image, too, or pid:N, a machine that runs in process N, as `matchstick run IMAGE`\n\
     does. That one stands still while its memory and its registers are read; its devices cannot be seen.\n\
     The status is 0 if there is no difference, and 1 if there is.";

/// `diff` as it was typed.
#[derive(Debug, PartialEq)]
pub struct DiffArgs {
    /// The golden image.
    pub image: PathBuf,
    /// What it is compared with.
    pub other: Other,
}

/// What a golden image is compared with.
#[derive(Debug, PartialEq)]
pub enum Other {
    /// Another one.
    Image(PathBuf),
    /// The machine that runs in this process.
    Process(i32),
}

/// Reads what follows `diff`.
pub fn parse(parser: &mut Parser) -> std::result::Result<Parsed<DiffArgs>, lexopt::Error> {
    let (mut image, mut other): (Option<PathBuf>, _) = (None, None);
    while let Some(given) = Given::next(parser, OPTIONS)? {
        match given {
            Given::Option(_) => return Ok(Parsed::Help),
            Given::Word(path) if image.is_none() && path.as_encoded_bytes().starts_with(b"pid:") => {
                return Err("the golden image comes first, and pid:N second".into());
            }
            Given::Word(path) if image.is_none() => image = Some(path.into()),
            Given::Word(word) if other.is_none() => {
                other = Some(match word.to_str().and_then(|word| word.strip_prefix("pid:")) {
                    Some(number) => Other::Process(number.parse().map_err(|_| "pid:N takes a number")?),
                    None => Other::Image(word.into()),
                });
            }
            other => return Err(other.unexpected()),
        }
    }
    match image.zip(other) {
        Some((image, other)) => Ok(Parsed::Arguments(DiffArgs { image, other })),
        None => Err("a golden image, please, and what to compare it with".into()),
    }
}

/// Compares an image with another one or with a machine that runs; 1 if they differ.
pub fn run(args: &DiffArgs) -> Result<u8> {
    let image = Snapshot::open(&args.image, &Limits::NONE)?;
    let difference = match &args.other {
        Other::Image(path) => image.differences(&Snapshot::open(path, &Limits::NONE)?)?,
        Other::Process(number) => image.drift(*number)?,
    };
    print(&difference)?;
    Ok(u8::from(!difference.is_empty()))
}
