//! The report as a page: one file without scripts and without anything to fetch, for light, dark and paper.
//!
//! Whatever a plot shows also stands beside it in words or in a table, for those who do not see it.

use super::bars;
use super::compare;
use super::escape::escape;
use super::plots::{self, Drawn, Frame, NARROW, WIDE};
use super::sheet::Sheet;
use super::table::{conditions, maybe_range, millis, ratios, significant, times};
use super::{Entry, Phase, Report, isolation, words};
use crate::bench::card::Card;
use crate::bench::subject::Class;
use crate::sys::date;
use crate::text::counted;

const TITLE: &str = "VM start against container start";

/// The whole page. `then` is an older race that it is held against.
pub fn page(report: &Report, then: Option<&Report>) -> String {
    let groups = bars::of_race(report);
    let plot = |title: &str, caption: &str, draw: fn(Frame, &[&Entry]) -> Drawn<String>| {
        let of_class = |class: Class| {
            let entries = report.of_class(class);
            let image = || picture(|frame| draw(frame, &entries));
            if entries.is_empty() {
                String::new()
            } else {
                format!("<h3>{}</h3>\n{}", class.title(), image())
            }
        };
        figure(title, caption, Class::ALL.map(of_class).concat())
    };
    let sections = [
        head(TITLE, &report.program, &report.machine, &report.command),
        picture(|frame| bars::draw(frame, "The median time until reaped of each subject, as bars", &groups)),
        format!("<p>{BARS}</p>\n"),
        lead(report),
        warnings(&report.machine),
        tables(report),
        comparison(report, then),
        plot("How the times are distributed", DISTRIBUTION, plots::distribution),
        plot("The same as boxes", BOXES, plots::boxes),
        plot("In the order of the race", ORDER, plots::order),
        start(report),
        isolation(report),
        remarks(report),
        machine(&report.machine),
        subjects(report),
        meaning(),
    ];
    document(TITLE, &sections.concat())
}

/// A page with this body.
pub fn document(title: &str, body: &str) -> String {
    let style = include_str!("page.css");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\
         </main>\n</body>\n</html>\n"
    )
}

/// A picture twice, for a wide page and for a narrow one; the style shows one of them.
pub fn picture(draw: impl Fn(Frame) -> Drawn<String>) -> String {
    let one = |frame, kind| format!("<div class=\"{kind}\">{}</div>\n", plots::or_words(draw(frame)));
    one(WIDE, "wide") + &one(NARROW, "narrow")
}

/// What it is, when and where it was run, and by which command.
pub fn head(title: &str, program: &str, machine: &Card, command: &str) -> String {
    let processor = machine.lines().swap_remove(0).1;
    format!(
        "<h1>{title}</h1>\n<p>{}<br>{} UTC, {}<br><code>{}</code></p>\n",
        escape(&processor),
        date(machine.time),
        escape(program),
        escape(command)
    )
}

/// Text in which what is to be typed stands between backticks.
fn marked(text: &str) -> String {
    let parts = text.split('`').zip(0..);
    parts
        .map(|(part, n)| if n % 2 == 0 { escape(part) } else { format!("<code>{}</code>", escape(part)) })
        .collect()
}

/// Text in lines of its own.
pub fn plain(text: &str) -> String {
    format!("<pre>{}</pre>\n", escape(text))
}

const BARS: &str = "Medians until reaped, in milliseconds, with the interval of each median as a line on its bar, and how \
     many times the reference's that is. Blue is a virtual machine, orange a container, grey neither. The two groups are \
     not to be mixed: the start of a program is in the time of a command, and not in that of what a process makes itself.";
const DISTRIBUTION: &str = "For each time on the axis, the part of starts that were over by then. A steep line is a \
     time that can be relied upon; a long foot to the right is a tail. The axis is logarithmic: equal distances are \
     equal ratios. The table above has the same in figures.";
const BOXES: &str = "Half of all starts lie within the box, with the median in it; the whiskers go to the 1st and the \
     99th percentile.";
const ORDER: &str = "Every start that counts. Each subject is started once in a round, so what disturbs the machine \
     disturbs all of them; a slope or a step would be a drift.";
const START: &str = "A virtual machine in the process that measures, medians of each phase. What it takes to start and \
     end a process around it is the difference between the subjects vm and vm-inproc.";

/// A part of the page.
pub fn section(title: &str, body: &str) -> String {
    format!("<section>\n<h2>{title}</h2>\n{body}</section>\n")
}

fn figure(title: &str, caption: &str, image: String) -> String {
    section(title, &format!("<figure>\n<figcaption>{caption}</figcaption>\n{image}</figure>\n"))
}

/// The result in words.
fn lead(report: &Report) -> String {
    words::text(report).lines().map(|line| format!("<p class=\"lead\">{}</p>\n", marked(line))).collect()
}

/// Why times of this machine do not hold for another.
pub fn warnings(machine: &Card) -> String {
    let warnings: String =
        machine.caveats.iter().map(|text| format!("<li>{}</li>\n", marked(text))).collect();
    match warnings.is_empty() {
        true => String::new(),
        false => {
            format!("<div class=\"warning\"><p>Not like other machines:</p>\n<ul>\n{warnings}</ul></div>\n")
        }
    }
}

fn tables(report: &Report) -> String {
    let mut body = format!("<p>{}</p>\n", escape(&conditions(report)));
    for class in Class::ALL {
        if !report.of_class(class).is_empty() {
            let (times, ratios) = (times(report, class).html(), ratios(report, class).html());
            body += &format!("<h3>{}</h3>\n{times}{ratios}", class.title());
        }
    }
    body += "<p>Milliseconds. First byte and reaped are medians, then for reaped: the interval that holds its median \
             with 95 %, the least, percentiles, the median distance from the median. Below that the ratio of the medians to \
             that of the reference, the median of the ratios within each round, and their intervals. User and system are \
             means. KiB is the most memory of any one process. What is not known is a dash; an interval takes six rounds.</p>\n";
    let row = |entry: &Entry| {
        let ratio = entry.ratios.as_ref()?;
        let interval = maybe_range(ratio.first_byte.interval, significant);
        let value = format!("× {} of {} [{interval}]", significant(ratio.first_byte.value), ratio.to);
        Some(vec![entry.command.clone(), millis(entry.figures.first_byte.p99), value])
    };
    let rows = report.results.iter().filter_map(row).collect();
    let sheet = Sheet::figures(&["first byte", "p99", "ratio of the medians"], rows);
    body +=
        &format!("<details><summary>The first byte in more figures</summary>\n{}</details>\n", sheet.html());
    section("The tables", &body)
}

/// Then and now.
fn comparison(report: &Report, then: Option<&Report>) -> String {
    let Some(then) = then else { return String::new() };
    let (sheet, remarks) = (compare::sheet(then, report), compare::remarks(then, report));
    let remarks: String = remarks.iter().map(|line| format!("<li>{}</li>\n", marked(line))).collect();
    let remarks = if remarks.is_empty() { remarks } else { format!("<ul>\n{remarks}</ul>\n") };
    let words = format!(
        "<p>The older race is of {} UTC, by <code>{}</code>.</p>\n",
        date(then.machine.time),
        escape(&then.command)
    );
    section("Then and now", &(words + &sheet.html() + &remarks))
}

fn start(report: &Report) -> String {
    if report.phases.is_empty() {
        return String::new();
    }
    let total: f64 = report.phases.iter().map(|phase| phase.median).sum();
    let row = |phase: &Phase| {
        vec![phase.name.clone(), millis(phase.median), format!("{:.0} %", 100.0 * phase.median / total)]
    };
    let sheet = Sheet::figures(&["phase", "ms", "part"], report.phases.iter().map(row).collect());
    figure(
        "Where the time of a virtual machine goes",
        START,
        picture(|frame| plots::phases(frame, &report.phases)) + &sheet.html(),
    )
}

/// What each subject shares with the host.
fn isolation(report: &Report) -> String {
    let Some(isolation) = &report.isolation else { return String::new() };
    let sheet = isolation::sheet(&isolation.observed, &isolation.host);
    section("What each subject shares with the host", &(sheet.html() + &plain(isolation::NOTES)))
}

/// The subjects that are not in the table, and warnings about those that are.
fn remarks(report: &Report) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    rows.extend(report.missing.iter().map(|absent| vec![absent.name.clone(), absent.missing.to_string()]));
    for dropped in &report.dropped {
        let failure = &dropped.failure;
        let said =
            format!("dropped after {}: {}", counted(dropped.failures as usize, "failure"), failure.why);
        rows.push(vec![dropped.name.clone(), said]);
        rows.extend(failure.stderr.lines().map(|line| vec![String::new(), line.to_owned()]));
    }
    for entry in &report.results {
        rows.extend(entry.warnings.iter().map(|warning| vec![entry.command.clone(), warning.clone()]));
        if let Some(cold) = &entry.cold {
            let (first, reaped) = (millis(cold.first_byte.median), millis(cold.reaped.median));
            let text = format!(
                "with an empty page cache: first byte {first}, reaped {reaped} ms, {}",
                counted(cold.reaped.n, "start")
            );
            rows.push(vec![entry.command.clone(), text]);
        }
    }
    rows.extend(report.notes.iter().map(|note| vec!["note".into(), note.clone()]));
    if let Some(launcher) = &report.launcher {
        let text = format!(
            "an empty program takes {} ms: so much of each row that is a process is the launcher's and the kernel's",
            millis(launcher.reaped.median)
        );
        rows.push(vec!["launcher".into(), text]);
    }
    let sheet = Sheet::words(&["subject", "what is to be said"], rows);
    if sheet.rows.is_empty() { String::new() } else { section("Remarks", &sheet.html()) }
}

/// The machine it was run on.
pub fn machine(machine: &Card) -> String {
    let lines = machine.lines();
    let rows = lines.into_iter().map(|(word, line)| vec![word.into(), line]).collect();
    section("The machine", &Sheet::words(&["what", "as it is"], rows).html())
}

fn subjects(report: &Report) -> String {
    let row = |entry: &Entry| {
        let version = entry.version.clone().unwrap_or_default();
        vec![entry.command.clone(), entry.about.clone(), version, entry.line.clone()]
    };
    let heads = ["subject", "what it is", "version", "what was started"];
    section("Who raced", &Sheet::words(&heads, report.results.iter().map(row).collect()).html())
}

fn meaning() -> String {
    section(
        "What was measured",
        "<p>One clock, CLOCK_MONOTONIC, is read just before the spawn. <em>First byte</em> is when the first byte of the \
         payload's output has been read from a pipe; <em>reaped</em> is when wait4(2) has returned: teardown counts. \
         Every subject prints the same bytes, which are checked. One launcher (posix_spawn) starts all of them; the \
         subjects vm-inproc, vm-clone and vm-pool are no processes and have no launcher.</p>\n\
         <p>The payload is a static program without a C library, as small as it can be, and for a virtual machine a \
         guest kernel that prints the same. So the figures are of what is around it. They do not say how work runs \
         inside, nor how many fit on a machine, nor what isolates better: processes and containers share a \
         kernel that was booted long ago, while a virtual machine brings its own; and a tiny guest is not Linux.</p>\n\
         <p>Intervals are percentile bootstrap intervals of medians, of ratios of medians, and of medians of ratios; of fewer \
         than six rounds there is none. An order is told only where 1 lies in neither interval of a ratio.</p>\n",
    )
}
