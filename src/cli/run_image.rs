//! `matchstick run-image`: the program of a container image, in a VM without a kernel.

use super::error::{Error, Result};
use super::option::{CommandHelp, Given, HELP, OptionHelp, Parsed, option};
use super::values::{sandbox, size};
use crate::image::{self, Image, Limits, Process, Root, Store, Tree, User, Written};
use crate::program::{Config, Identity, Program, shown};
use crate::sandbox::Sandbox;
use crate::sys::program::Handle;
use lexopt::{Parser, ValueExt};
use std::ffi::{CString, OsString};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The command.
pub const COMMAND: CommandHelp = CommandHelp {
    name: "run-image",
    arguments: "[OPTIONS] IMAGE [ARGS...]",
    about: "run a container image's program in a VM",
    intro: "Run the program of a container image in a VM of its own without a kernel, as `matchstick exec` does. IMAGE is an\n\
            OCI image layout (a directory, or an archive of one) or what `docker save` or `podman save` has written.",
    options: OPTIONS,
    notes: NOTES,
    hint: "`matchstick run-image --help` shows all options",
};

const OPTIONS: &[OptionHelp] = &[
    option(None, "tag", Some("NAME"), "which image, where IMAGE holds several: its name, or its tag"),
    option(None, "keep", Some("NAME"), "keep what it writes under NAME, and go on from it the next time"),
    option(None, "net", None, "it may use the network"),
    option(None, "env", Some("K=V"), "set a variable of its environment; can be given more than once"),
    option(None, "user", Some("USER"), "run as USER or USER:GROUP of the image, instead of the image's own"),
    option(None, "entrypoint", Some("PROGRAM"), "run PROGRAM with ARGS, instead of the image's own"),
    option(None, "copy", None, "copy the image's files instead of mounting them"),
    option(None, "max-size", Some("SIZE"), "refuse an image that unpacks to more [default: 16G]"),
    option(None, "sandbox", Some("WHAT"), "strict, or off: have the kernel keep that, too [default: strict]"),
    option(Some('v'), "verbose", None, "name each system call that is not served"),
    HELP,
];

/// What a user of `run-image` has to know besides the options.
const NOTES: &str = "
ARGS take the place of the image's own (CMD). Nothing is fetched: `skopeo copy docker://NAME oci:DIR` puts an image where
it can be found. It is unpacked once; `matchstick images` lists what there is, and removes it.

Exit status:
  the program's own
  125  matchstick failed, or was used wrongly      127  there is no such image, or no such program in it
  126  it cannot be run, or this host cannot run it
  128+N  ended by signal N
";

/// The capabilities that a container's root has (capabilities(7)): of files and users what is about the image, of the
/// rest nothing.
const CAPABILITIES: u64 = {
    const CHOWN: u64 = 1 << 0;
    const DAC_OVERRIDE: u64 = 1 << 1;
    const FOWNER: u64 = 1 << 3;
    const FSETID: u64 = 1 << 4;
    const KILL: u64 = 1 << 5;
    const SETGID: u64 = 1 << 6;
    const SETUID: u64 = 1 << 7;
    const NET_BIND_SERVICE: u64 = 1 << 10;
    CHOWN | DAC_OVERRIDE | FOWNER | FSETID | KILL | SETGID | SETUID | NET_BIND_SERVICE
};

/// The directories in which a program is looked for, where the image does not say.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What of this host a program with a network sees: whom to ask for names.
const NETWORK_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// The most bytes of an image's /etc/passwd or /etc/group.
const USERS_MAX: u64 = 4 << 20;

/// `run-image` as it was typed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunImageArgs {
    /// The image.
    pub image: PathBuf,
    /// What follows it.
    pub words: Vec<OsString>,
    /// `--tag`
    pub tag: Option<String>,
    /// `--keep`
    pub keep: Option<String>,
    /// `--net`
    pub network: bool,
    /// `--env`
    pub environment: Vec<OsString>,
    /// `--user`
    pub user: Option<String>,
    /// `--entrypoint`
    pub entrypoint: Option<OsString>,
    /// `--copy`
    pub copies: bool,
    /// `--max-size`
    pub max_size: Option<u64>,
    /// `--sandbox`
    pub sandbox: Option<Sandbox>,
    /// `--verbose`
    pub verbose: bool,
}

/// Reads what follows `run-image`.
///
/// # Errors
/// Of what makes no sense.
pub fn parse(parser: &mut Parser) -> std::result::Result<Parsed<RunImageArgs>, lexopt::Error> {
    let mut args = RunImageArgs::default();
    while let Some(given) = Given::next(parser, OPTIONS)? {
        match given {
            Given::Option("tag") => args.tag = Some(parser.value()?.string()?),
            Given::Option("keep") => {
                let name = parser.value()?.string()?;
                if !image::is_name(&name) {
                    return Err(
                        format!("{name:?} is no name: letters, digits, '.', '-' and '_' make one").into()
                    );
                }
                args.keep = Some(name);
            }
            Given::Option("net") => args.network = true,
            Given::Option("env") => args.environment.push(super::values::variable(parser.value()?)?),
            Given::Option("user") => args.user = Some(parser.value()?.string()?),
            Given::Option("entrypoint") => args.entrypoint = Some(parser.value()?),
            Given::Option("copy") => args.copies = true,
            Given::Option("max-size") => args.max_size = Some(parser.value()?.parse_with(size)?),
            Given::Option("sandbox") => args.sandbox = Some(parser.value()?.parse_with(sandbox)?),
            Given::Option("verbose") => args.verbose = true,
            Given::Option(_) => return Ok(Parsed::Help),
            // From here on everything is the program's, whatever it looks like.
            Given::Word(image) => {
                args.image = image.into();
                args.words.extend(parser.raw_args()?);
                return Ok(Parsed::Arguments(args));
            }
        }
    }
    Err("which image? `matchstick run-image IMAGE` runs one".into())
}

/// Becomes the image's program: comes back only with an error.
///
/// # Errors
/// Of an image that cannot be unpacked or run, and of a host that cannot run it.
pub fn run(args: RunImageArgs) -> Result<u8> {
    let image = Image::open(&args.image, args.tag.as_deref())?;
    let process = image.process.clone();
    let words = words(&args, &process)?;
    let store = Store::open()?;
    let defaults = Limits::default();
    let limits = Limits { bytes: args.max_size.unwrap_or(defaults.bytes), ..defaults };
    let tree = store.tree(&image, limits)?;
    // It has a file open, which is none of the program's.
    drop(image);
    let user = user(&tree, args.user.as_deref().unwrap_or(&process.user))?;
    let written = match &args.keep {
        Some(name) => Written::Kept(store.kept(name, &tree)?),
        None => Written::Discarded,
    };
    let root = Root::enter(&store, tree, written, &user, args.copies)?;
    enter_working_directory(&root, &process.working_dir)?;
    let identity = root.has_users.then(|| Identity {
        user: user.uid,
        group: user.gid,
        // A namespace with one group has no others to be in.
        groups: (!root.has_one_user).then(|| user.groups.clone()),
        capabilities: if user.uid == 0 { CAPABILITIES } else { 0 },
    });
    let config = Config {
        root: Some(root.path.clone()),
        writable: vec![root.path],
        network: args.network,
        sandbox: args.sandbox.unwrap_or(Sandbox::Strict),
        environment: environment(&process, &user, &args.environment),
        verbose: args.verbose,
        seen: NETWORK_FILES.iter().filter(|_| args.network).map(PathBuf::from).collect(),
        identity,
        held: root.held.into_iter().map(Arc::new).collect(),
        ..Config::default()
    };
    let name = shown(words.first().map(|word| word.as_slice()).unwrap_or_default());
    let program = Program::new(config, words).map_err(|source| Error::Program { name, source })?;
    match program.run()? {}
}

/// The program and its arguments: what was typed, before what the image says.
fn words(args: &RunImageArgs, process: &Process) -> Result<Vec<Vec<u8>>> {
    let typed = || args.words.iter().map(|word| word.as_bytes().to_vec());
    let of_image = |words: &[String]| words.iter().map(|word| word.clone().into_bytes()).collect::<Vec<_>>();
    let (mut words, arguments) = match &args.entrypoint {
        Some(program) => (vec![program.as_bytes().to_vec()], Vec::new()),
        None => (of_image(&process.entrypoint), of_image(&process.cmd)),
    };
    match args.words.is_empty() {
        true => words.extend(arguments),
        false => words.extend(typed()),
    }
    if words.is_empty() { Err(Error::NoCommand) } else { Ok(words) }
}

/// Whom the image means, by its own files.
fn user(tree: &Tree, text: &str) -> Result<User> {
    let file = |path: &str| {
        let path = CString::new(path).unwrap_or_default();
        let handle = Handle::find(tree.directory.as_raw_fd(), &path, true, true, 0).ok()?;
        let is_file = handle.kind().ok()?.mode & libc::S_IFMT == libc::S_IFREG;
        let mut text = Vec::new();
        handle.read(0).ok().filter(|_| is_file)?.take(USERS_MAX).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    };
    let [passwd, group] = ["etc/passwd", "etc/group"].map(|path| file(path).unwrap_or_default());
    Ok(User::find(text, &passwd, &group)?)
}

/// Goes where the image wants its program to begin. What is missing of the way is made.
fn enter_working_directory(root: &Root, path: &str) -> Result<()> {
    let failed = |source| image::Error::WorkingDirectory { path: path.into(), source };
    std::env::set_current_dir(&root.path).map_err(failed)?;
    let directory = std::fs::File::open(&root.path).map_err(failed)?;
    let names = path.split('/').filter(|name| !name.is_empty());
    let mut so_far = String::new();
    for name in names {
        let parent =
            find(directory.as_raw_fd(), if so_far.is_empty() { "." } else { &so_far }).map_err(failed)?;
        so_far = if so_far.is_empty() { name.to_owned() } else { format!("{so_far}/{name}") };
        match find(directory.as_raw_fd(), &so_far) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir(Path::new(&parent.link()).join(name)).map_err(failed)?;
            }
            found => drop(found.map_err(failed)?),
        }
    }
    if !so_far.is_empty() {
        let found = find(directory.as_raw_fd(), &so_far).map_err(failed)?;
        std::env::set_current_dir(found.link()).map_err(failed)?;
    }
    Ok(())
}

/// A path of the image, from its root on.
fn find(root: RawFd, path: &str) -> io::Result<Handle> {
    Handle::find(root, &CString::new(path)?, true, true, 0)
}

/// The image's, what every program expects, and what was typed; later ones count. Of ours there is the terminal's type.
fn environment(process: &Process, user: &User, typed: &[OsString]) -> Vec<Vec<u8>> {
    let term = std::env::var_os("TERM").map(|term| [b"TERM=", term.as_bytes()].concat());
    let home = format!("HOME={}", user.home).into_bytes();
    let mut all: Vec<Vec<u8>> = vec![PATH.into(), home];
    all.extend(term);
    all.extend(process.env.iter().map(|variable| variable.clone().into_bytes()));
    all.extend(typed.iter().map(|variable| variable.clone().into_vec()));
    let name = |variable: &[u8]| variable.split(|&byte| byte == b'=').next().unwrap_or_default().to_vec();
    let names: Vec<Vec<u8>> = all.iter().map(|variable| name(variable)).collect();
    let is_last = |at: usize| !names[at + 1..].contains(&names[at]);
    (0..all.len()).filter(|&at| is_last(at)).map(|at| all[at].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> Process {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Process {
            entrypoint: words(&["/entry", "-a"]),
            cmd: words(&["one", "two"]),
            env: words(&["PATH=/image", "A=image", "B=image"]),
            ..Process::default()
        }
    }

    #[test]
    fn what_was_typed_takes_the_place_of_the_image_s_arguments() {
        let words = |entrypoint: Option<&str>, typed: &[&str]| {
            let args = RunImageArgs {
                entrypoint: entrypoint.map(OsString::from),
                words: typed.iter().map(OsString::from).collect(),
                ..RunImageArgs::default()
            };
            let words = super::words(&args, &process()).unwrap();
            words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words(None, &[]), "/entry -a one two");
        assert_eq!(words(None, &["x"]), "/entry -a x");
        assert_eq!(words(Some("sh"), &[]), "sh");
        assert_eq!(words(Some("sh"), &["-c", "true"]), "sh -c true");
        assert!(super::words(&RunImageArgs::default(), &Process::default()).is_err());
    }

    #[test]
    fn a_variable_is_there_once_and_the_last_one_counts() {
        let user = User { uid: 1, gid: 1, groups: vec![], home: "/srv".into() };
        let all = environment(&process(), &user, &["A=typed".into(), "HOME=/x".into()]);
        let has = |variable: &[u8]| all.iter().filter(|one| *one == variable).count();
        assert_eq!((has(b"PATH=/image"), has(b"A=typed"), has(b"B=image"), has(b"HOME=/x")), (1, 1, 1, 1));
        assert_eq!((has(b"A=image"), has(PATH.as_bytes()), has(b"HOME=/srv")), (0, 0, 0));
    }
}
