//! Labs: lessons whose commands are run while one reads.
//!
//! ```text
//!   docs/labs/NAME.md ──parts──▶ text, commands, text, commands, … ──script──▶ one shell runs it all
//! ```
//!
//! A lab is a Markdown file, and a page of the book. Its blocks between "```sh" and "```" are run, one after the other, in
//! one shell, so that what a block has set is there in the next one. The block that opens with "```sh always" is run
//! even if one before it failed: it puts everything back. `<!-- needs: root, ip -->` says what has to be there, and
//! `<!-- within: unshare --net -->` in what the shell is started. Source of the shell's rules: POSIX.1-2017, XCU chapter 2.

use super::Lesson;

/// A part of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Markdown.
    Text(&'a str),
    /// Lines for the shell.
    Commands(&'a str),
}

/// The parts of a lab, in their order.
pub fn parts(lab: &Lesson) -> Vec<Part<'static>> {
    let mut parts = Vec::new();
    let mut rest = lab.text;
    while let Some((text, commands, after, _)) = block(rest) {
        parts.extend([Part::Text(text), Part::Commands(commands)]);
        rest = after;
    }
    parts.push(Part::Text(rest));
    parts
}

/// What is before the first block of commands, the commands, what is after it, and whether it is one that is always run.
fn block(text: &'static str) -> Option<(&'static str, &'static str, &'static str, bool)> {
    let (before, rest) = text.split_once("\n```sh")?;
    let (kind, rest) = rest.split_once('\n')?;
    let (commands, after) = rest.split_once("```\n")?;
    Some((before, commands, after, kind.trim() == "always"))
}

/// The words after `<!-- NAME:`, up to `-->`.
fn remark(lab: &Lesson, name: &str) -> Option<&'static str> {
    let (_, rest) = lab.text.split_once(&format!("<!-- {name}: "))?;
    Some(rest.split_once(" -->")?.0)
}

/// What has to be there: `root`, and names of programs.
pub fn needs(lab: &Lesson) -> impl Iterator<Item = &'static str> {
    remark(lab, "needs").unwrap_or("").split(", ").filter(|word| !word.is_empty())
}

/// The command, in words, within which the lab's shell runs; empty for none.
pub fn within(lab: &Lesson) -> impl Iterator<Item = &'static str> {
    remark(lab, "within").unwrap_or("").split_whitespace()
}

/// A script for sh that runs the blocks of commands in order, up to the first that fails.
///
/// It works in a directory of its own, which it removes. Before each block it writes a line of `mark` and the block's
/// number, and at the end one of `mark` alone. `matchstick` is the program whose path is in `$MATCHSTICK`. What was started
/// in the background and still runs is ended.
pub fn script(lab: &Lesson, mark: &str) -> String {
    let mut blocks = Vec::new();
    let mut rest = lab.text;
    while let Some((_, commands, after, always)) = block(rest) {
        blocks.push((commands, always));
        rest = after;
    }
    let last: String = blocks.iter().filter(|(_, always)| *always).map(|(commands, _)| *commands).collect();
    let mut script = format!(
        "put_back() {{\n:\n{last}}}\n\
         ended() {{ trap '' HUP INT PIPE TERM; trap - EXIT; set +e; put_back >/dev/null 2>&1; \
         kill $(jobs -p) 2>/dev/null; cd /; rm -rf --one-file-system \"$LAB\"; }}\n\
         trap ended EXIT\n\
         trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 141' PIPE; trap 'exit 143' TERM\n\
         LAB=$(mktemp -d) && cd \"$LAB\" && mkdir .bin && ln -s \"$MATCHSTICK\" .bin/matchstick || exit\n\
         PATH=$LAB/.bin:$PATH\n\
         set -e\n"
    );
    for (number, (commands, always)) in blocks.into_iter().enumerate() {
        let commands = if always { "put_back; put_back() { :; }\n" } else { commands };
        script += &format!("echo '{mark} {number}'\n{commands}");
    }
    script + &format!("echo '{mark}'\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAB: Lesson = Lesson {
        topic: "l",
        text: "<!-- needs: root, ip -->\n<!-- within: unshare --net -->\n# T\n\n```sh\na=1\n```\nB\n\n```sh always\necho gone\n```\nC\n",
    };

    fn run(text: &'static str) -> (String, Option<i32>) {
        let script = script(&Lesson { topic: "l", text }, "@");
        let ended =
            std::process::Command::new("sh").args(["-c", &script]).env("MATCHSTICK", "/").output().unwrap();
        (String::from_utf8(ended.stdout).unwrap(), ended.status.code())
    }

    #[test]
    fn a_lab_is_text_and_commands_and_says_what_it_needs() {
        let before = "<!-- needs: root, ip -->\n<!-- within: unshare --net -->\n# T\n";
        let parts = parts(&LAB);
        assert_eq!(parts[..2], [Part::Text(before), Part::Commands("a=1\n")]);
        assert_eq!(parts[2..], [Part::Text("B\n"), Part::Commands("echo gone\n"), Part::Text("C\n")]);
        assert_eq!(needs(&LAB).collect::<Vec<_>>(), ["root", "ip"]);
        assert_eq!(within(&LAB).collect::<Vec<_>>(), ["unshare", "--net"]);
        assert_eq!(needs(&Lesson { topic: "", text: "# T\n" }).count(), 0);
    }

    #[test]
    fn blocks_share_a_shell_and_a_directory() {
        let (output, status) = run("\n```sh\na=1\n: > file\n```\n\n```sh\necho $a; ls\n```\n");
        assert_eq!((output.as_str(), status), ("@ 0\n@ 1\n1\nfile\n@\n", Some(0)));
    }

    #[test]
    fn what_is_always_run_is_run_once_at_its_place_or_after_a_failure() {
        let text = "\n```sh\n: > \"$LAB/../lab-$$\"; echo \"$LAB/../lab-$$\"\n```\n\n```sh always\nrm \"$LAB/../lab-$$\" && echo removed\n```\n";
        let (output, status) = run(text);
        assert!(output.ends_with("@ 1\nremoved\n@\n"), "{output}");
        assert_eq!(status, Some(0));
        let text = "\n```sh\n: > \"$LAB/../lab-$$\"; echo \"$LAB/../lab-$$\"; false\n```\n\n```sh always\nrm \"$LAB/../lab-$$\" && echo removed\n```\n";
        let (output, status) = run(text);
        assert_eq!(status, Some(1));
        let file = output.lines().nth(1).unwrap();
        assert!(!output.contains("removed") && !std::path::Path::new(file).exists(), "{output}");
    }
}
