//! The trace as text: a line for each call, a line for each series of similar exits, and sums at the end.

use super::event::{DATA_MAX, Event, EventKind, ExitRecord, Reason};
use super::{Recording, Split, Tally, code};
use crate::kvm::Call;
use crate::text::hex;
use crate::timeline::Phase;
use std::time::Duration;

/// The longest pattern of exits that is told once. A driver that reads a status before each byte repeats two or three.
const PATTERN_MAX: usize = 4;
/// The most characters of data in hexadecimal: eight bytes.
const HEX_MAX: usize = 8 * 3 - 1;

/// The whole story.
pub fn tell(recording: &Recording) -> String {
    let mut text = format!("The start of {}, as this process saw it. Times are in µs.\n\n", recording.name);
    text += "       at      took  what\n";
    lines(recording, recording.events.first().to_vec(), &mut text);
    match recording.events.dropped() {
        0 => {}
        count => {
            let events = if count == 1 { "event was" } else { "events were" };
            text += &format!("                     … {count} {events} dropped here; the sums have them\n")
        }
    }
    lines(recording, recording.events.last().copied().collect(), &mut text);
    text + &sums(recording)
}

fn lines(recording: &Recording, events: Vec<Event>, text: &mut String) {
    let events = in_order(events);
    let mut at = 0;
    while at < events.len() {
        let (pattern, times) = repetition(&events[at..]);
        let group = &events[at..at + pattern * times];
        for n in 0..pattern {
            let alike: Vec<&Event> = group.iter().skip(n).step_by(pattern).collect();
            *text += &line(recording, &alike);
        }
        if times > 1 && pattern > 1 {
            *text += &format!("{:21}└ these {pattern}, {times} times\n", "");
        }
        at += group.len();
    }
}

/// The events in the order in which they began. A phase keeps only the time that was not spent in calls, which have
/// lines of their own, and is left out if it consists of calls.
fn in_order(mut events: Vec<Event>) -> Vec<Event> {
    let calls: Vec<(Duration, Duration)> = events
        .iter()
        .filter(|event| matches!(event.kind, EventKind::Call(_)))
        .map(|event| (event.at, event.took))
        .collect();
    events.retain_mut(|event| {
        let EventKind::Phase(phase) = event.kind else { return true };
        let within = calls.iter().filter(|(at, _)| (event.at..event.at + event.took).contains(at));
        let rest = event.took.saturating_sub(within.map(|&(_, took)| took).sum());
        (event.at, event.took) = (event.at + (event.took - rest), rest);
        told(phase, false).is_some()
    });
    events.sort_by_key(|event| event.at);
    events
}

/// How many events at the beginning repeat, and how often: (1, 1) if nothing does.
fn repetition(events: &[Event]) -> (usize, usize) {
    let exit = |at: usize| match events.get(at)?.kind {
        EventKind::Exit(exit) => Some(exit),
        _ => None,
    };
    let times = |pattern: usize| {
        let is_alike = |at: usize| matches!((exit(at), exit(at % pattern)), (Some(one), Some(first)) if one.is_like(&first));
        (0..events.len()).take_while(|&at| is_alike(at)).count() / pattern
    };
    let patterns = (1..=PATTERN_MAX).map(|pattern| (pattern, times(pattern)));
    // A pattern of several lines needs a line more to say so, which pays from the third time on.
    let worthy = patterns.filter(|&(pattern, times)| times >= if pattern == 1 { 2 } else { 3 });
    worthy.max_by_key(|&(pattern, times)| (pattern * times, std::cmp::Reverse(pattern))).unwrap_or((1, 1))
}

/// One line for similar events.
fn line(recording: &Recording, alike: &[&Event]) -> String {
    let Some(first) = alike.first() else { return String::new() };
    let took: Duration = alike.iter().map(|event| event.took).sum();
    let what = match first.kind {
        EventKind::Phase(phase) => told(phase, is_restored(recording)).unwrap_or_default().into(),
        EventKind::Call(call) => format!("{}\n{:21}{call}", call.name(), ""),
        EventKind::Exit(_) => exits_of(recording, alike),
    };
    row(first.at, took, &what)
}

fn row(at: Duration, took: Duration, what: &str) -> String {
    format!("{:>9.1} {:>9.1}  {what}\n", micros(at), micros(took))
}

/// Whether the machine goes on from a golden image.
fn is_restored(recording: &Recording) -> bool {
    recording.events.first().iter().any(|event| matches!(event.kind, EventKind::Call(Call::Restore)))
}

/// What we do in a phase, if it does not consist of calls. With a golden image some phases have other contents.
fn told(phase: Phase, is_restored: bool) -> Option<&'static str> {
    match phase {
        Phase::Prepare if is_restored => {
            Some("the command line is read, and all of the golden image but its memory")
        }
        Phase::Load if is_restored => Some("the golden image fits this host"),
        Phase::Prepare => Some("the command line is read, the image is in our memory"),
        Phase::Load => Some("the image, its tables and arguments are copied into the guest's memory"),
        Phase::Registers => Some("the first registers are in the page that KVM shares"),
        Phase::Devices => Some("devices, signals and a timer are ready"),
        Phase::Confine => {
            Some("the timer is set, and what locks this process in is in force, unless it is off")
        }
        _ => None,
    }
}

/// `KVM_RUN`, and what ended it.
fn exits_of(recording: &Recording, alike: &[&Event]) -> String {
    let all: Vec<&ExitRecord> = alike
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Exit(exit) => Some(exit),
            _ => None,
        })
        .collect();
    let Some(first) = all.first() else { return String::new() };
    let mut text = String::from("KVM_RUN ▶ ");
    text += &access(first, &all);
    if all.len() > 1 {
        text += &format!("  × {}", all.len());
    }
    if let Some(code) = first.code.and_then(|code| recording.codes.get(code)) {
        let (rip, instruction) = code::instruction(first, code);
        text += &format!("\n{:21}at {rip:#x}: {instruction}", "");
    } else {
        text += &format!("\n{:21}at {:#x}", "", first.rip);
    }
    let sum = |part: fn(&ExitRecord) -> Duration| all.iter().map(|exit| part(exit)).sum();
    text += &format!("; guest {:.1}, host {:.1}", micros(sum(|l| l.inside)), micros(sum(|l| l.outside)));
    text
}

/// The access that the guest made.
fn access(first: &ExitRecord, all: &[&ExitRecord]) -> String {
    let ExitRecord { reason, address, size, device, .. } = *first;
    let (direction, arrow) = match reason {
        Reason::Out => ("out to port", "→"),
        Reason::In => ("in from port", "←"),
        Reason::Write => ("write to address", "→"),
        Reason::Read => ("read from address", "←"),
        Reason::Eoi => return format!("end of interrupt {address:#x} → {device}"),
        Reason::Halt => return "halt".into(),
        Reason::Interrupted => return "called back by a signal: timer, input or end".into(),
        Reason::Debug => return "stopped for the debugger".into(),
        Reason::Shutdown => return "triple fault".into(),
        Reason::Failed => return format!("KVM cannot go on ({address:#x})"),
    };
    let bytes: Vec<u8> = all.iter().flat_map(|exit| exit.bytes()).copied().take(DATA_MAX).collect();
    let len: usize = all.iter().map(|exit| exit.len).sum();
    let data = match characters(&bytes) {
        text if text.starts_with('"') && len == bytes.len() => text,
        text if text.starts_with('"') => format!("{text}…"),
        hex if hex.len() > HEX_MAX => format!("{}…", &hex[..HEX_MAX]),
        hex => hex,
    };
    let width = match (len, size) {
        (1, _) => "1 byte".into(),
        (len, size) if len == size => format!("{len} bytes"),
        _ => format!("{len} bytes, {size} at a time"),
    };
    format!("{direction} {address:#x} {arrow} {device}: {data} ({width})")
}

/// Bytes as characters in quotes, if they are text; else in hexadecimal.
pub fn characters(bytes: &[u8]) -> String {
    let is_text = |&byte: &u8| matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t' | 0x1b);
    if !bytes.is_empty() && bytes.iter().all(is_text) {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    hex(bytes)
}

/// How many exits there were, and where the time went.
fn sums(recording: &Recording) -> String {
    let mut text = String::from("\nexits            count      guest       host\n");
    for (reason, Tally { count, inside, outside }) in &recording.exits {
        text += &format!(
            "  {:<12}{count:>8} {:>10.1} {:>10.1}\n",
            reason.name(),
            micros(*inside),
            micros(*outside)
        );
    }
    let all = recording.all_exits();
    text += &format!(
        "  {:<12}{:>8} {:>10.1} {:>10.1}\n",
        "all",
        all.count,
        micros(all.inside),
        micros(all.outside)
    );
    let Split { guest, kvm, vmm } = recording.split();
    let share = |part: Duration| part.as_secs_f64() * 100.0 / recording.total.as_secs_f64().max(1e-9);
    text += "\ntime              µs    share\n";
    for (who, time, note) in [
        ("guest", guest, "at most: in KVM_RUN, with what KVM did there for it"),
        ("KVM", kvm, "at least: the other calls, and an empty KVM_RUN for each exit"),
        ("VMM", vmm, "this process"),
    ] {
        text += &format!("  {who:<8}{:>10.1} {:>6.1} %  {note}\n", micros(time), share(time));
    }
    text += &format!("  {:<8}{:>10.1}\n", "all", micros(recording.total));
    text + &format!(
        "\nTracing itself took {:.1} µs, which are not in these figures ({:.1} % on top).\n",
        micros(recording.overhead),
        share(recording.overhead)
    )
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}
