//! `matchstick host`: the stack under us, drawn; what is missing and how to fix it; whether times can be trusted.

use super::korean::say;
use super::option::{CommandHelp, Given, HELP, OptionHelp, Parsed, option};
use super::terminal::{BAD, BOLD, CODE, GOOD, PLAIN, Terminal, WARN, columns};
use crate::error::Error;
use crate::host::{Facts, Host, Layer, LayerKind, Requirement, State, Typed, classify, gather, requirements};
use crate::text::plain_json;
use lexopt::Parser;
use serde::Serialize;

/// The command.
pub const COMMAND: CommandHelp = CommandHelp {
    name: "host",
    arguments: "[OPTIONS]",
    about: "what is under us, and what is missing",
    intro: INTRO,
    options: OPTIONS,
    notes: "",
    hint: "`matchstick host --help` shows all options",
};

const OPTIONS: &[OptionHelp] =
    &[option(None, "json", None, "the same as JSON, with all the facts it rests on"), HELP];

/// What its help begins with.
const INTRO: &str = "Show what this host is made of, from the hardware up to where a guest would stand: which of it is\n\
     Type 1 and Type 2, and why; what matchstick needs and how to get it; whether times\n\
     measured here hold elsewhere. Works without /dev/kvm and without root.";

/// Reads what follows `host`: whether it is to be JSON.
pub fn parse(parser: &mut Parser) -> std::result::Result<Parsed<bool>, lexopt::Error> {
    let mut json = false;
    while let Some(given) = Given::next(parser, OPTIONS)? {
        match given {
            Given::Option("json") => json = true,
            Given::Option(_) => return Ok(Parsed::Help),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Parsed::Arguments(json))
}

/// Everything about this host, as text for `terminal`, or as JSON.
pub fn describe(json: bool, terminal: &Terminal) -> Result<String, Error> {
    let facts = gather();
    let host = classify(&facts);
    let requirements = requirements(&facts, &host);
    if json {
        return as_json(&facts, &host, &requirements);
    }
    let lines = [
        stack(&host, terminal),
        types(&host, terminal),
        missing(&requirements, terminal),
        timings(&host, terminal),
    ]
    .concat();
    Ok(lines.iter().map(|line| terminal.finish(line).trim_end().to_owned() + "\n").collect())
}

fn as_json(facts: &Facts, host: &Host, requirements: &[Requirement]) -> Result<String, Error> {
    #[derive(Serialize)]
    struct Report<'a> {
        host: &'a Host,
        requirements: &'a [Requirement],
        facts: &'a Facts,
    }
    let text = serde_json::to_string_pretty(&Report { host, requirements, facts });
    text.map(|text| plain_json(&text) + "\n").map_err(|error| Error::Output(error.into()))
}

/// The layers, the guest on top. KVM is drawn inside the kernel, VMM and guest inside the container.
fn stack(host: &Host, terminal: &Terminal) -> Vec<String> {
    let width = terminal.width;
    let draw = |place, width, inner: &[String]| match host.layer(place) {
        Some(layer) => layer_box(layer, host.judgement(place), width, inner, terminal),
        None => inner.to_vec(),
    };
    let within = match host.container {
        Some(_) => terminal.inside(width),
        None => width,
    };
    let ours = [draw(LayerKind::Guest, within, &[]), draw(LayerKind::Vmm, within, &[])].concat();
    let kvm = draw(LayerKind::Kvm, terminal.inside(width), &[]);
    [
        draw(LayerKind::Container, width, &ours),
        draw(LayerKind::Kernel, width, &kvm),
        draw(LayerKind::Hypervisor, width, &[]),
        draw(LayerKind::Hardware, width, &[]),
    ]
    .concat()
}

fn layer_box(
    layer: &Layer,
    judgement: Option<&Typed>,
    width: usize,
    inner: &[String],
    terminal: &Terminal,
) -> Vec<String> {
    let title = match layer.kind {
        LayerKind::Hardware => "hardware",
        LayerKind::Hypervisor => "hypervisor",
        LayerKind::Kernel => "host kernel",
        LayerKind::Kvm => "KVM",
        LayerKind::Container => "container",
        LayerKind::Vmm => "VMM",
        LayerKind::Guest => "guest",
    };
    let title = format!("{}: {}", say(title), say(&layer.name));
    let notes = layer.notes.iter().flat_map(|note| terminal.wrap(&say(note), terminal.inside(width)));
    let lines: Vec<String> = inner.iter().cloned().chain(notes).collect();
    let label = judgement.map(|typed| say(typed.mark.label()));
    terminal.frame(&title, label.as_deref(), &lines, width)
}

fn types(host: &Host, terminal: &Terminal) -> Vec<String> {
    let mut lines = heading("Type 1 or Type 2", terminal);
    for typed in &host.types {
        let name = say(host.layer(typed.layer).map_or("", |layer| &layer.name));
        let label = say(typed.mark.label());
        lines.extend(terminal.wrap(&format!("{BOLD}{name}{PLAIN}: {WARN}{label}{PLAIN}"), terminal.width));
        lines.extend(terminal.hang("  ", &say(&typed.why)));
        lines.extend(typed.evidence.iter().flat_map(|seen| terminal.hang("  - ", &say(seen))));
    }
    lines
}

fn missing(requirements: &[Requirement], terminal: &Terminal) -> Vec<String> {
    let mut lines = heading("What matchstick needs", terminal);
    let width = requirements.iter().map(|requirement| columns(&say(requirement.what))).max().unwrap_or(0);
    for requirement in requirements {
        let (colour, word) = match requirement.state {
            State::Good => (GOOD, "ok"),
            State::Advice => (WARN, "note"),
            State::Missing => (BAD, "MISS"),
            State::Unknown => (WARN, "?"),
        };
        let what = say(requirement.what);
        let space = " ".repeat(width - columns(&what));
        let word = say(word);
        let gap = " ".repeat(4_usize.saturating_sub(columns(&word)));
        let head = format!("{colour}{word}{PLAIN}{gap}  {what}{space}  ");
        lines.extend(terminal.hang(&head, &say(&requirement.found)));
        if let Some(fix) = &requirement.fix {
            lines.extend(terminal.hang("      ", &format!("{CODE}{}{PLAIN}", say(fix))));
        }
    }
    let verdict = match requirements.iter().any(|requirement| requirement.state == State::Missing) {
        true => format!("{BAD}{}{PLAIN}", say("Guests cannot run on this host yet.")),
        false => format!("{GOOD}{}{PLAIN}: matchstick run hello", say("Guests can run on this host")),
    };
    lines.extend(terminal.wrap(&verdict, terminal.width));
    lines
}

fn timings(host: &Host, terminal: &Terminal) -> Vec<String> {
    let mut lines = heading("Whether times measured here hold elsewhere", terminal);
    if host.timings.is_empty() && host.timings_unknown.is_empty() {
        lines.extend(terminal.wrap(&say("Nothing speaks against it."), terminal.width));
    }
    lines.extend(host.timings.iter().flat_map(|reason| terminal.hang("- ", &say(reason))));
    if !host.timings_unknown.is_empty() {
        let unknown: Vec<_> = host.timings_unknown.iter().map(|what| say(what)).collect();
        let unknown = format!("not known, as it cannot be read: {}", unknown.join("; "));
        lines.extend(terminal.hang("- ", &say(&unknown)));
    }
    lines
}

fn heading(text: &str, terminal: &Terminal) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.extend(terminal.wrap(&format!("{BOLD}{}{PLAIN}", say(text)), terminal.width));
    lines
}
