//! The report as a page: one file without scripts and without anything to fetch, for light, dark and paper.
//!
//! Whatever a plot shows also stands beside it in words or in a table, for those who do not see it.

use super::escape::escape;
use super::isolation::{HEADS, NOTES, rows};
use super::table::{cells, conditions, heads, millis, range, significant};
use super::{Phase, Report, plots, words};

/// The whole page.
pub fn page(report: &Report) -> String {
    let sections = [
        summary(report),
        table(report),
        figure(
            "How the times are distributed",
            DISTRIBUTION,
            plots::or_words(plots::distribution(&report.results)),
        ),
        figure("The same as boxes", BOXES, plots::or_words(plots::boxes(&report.results))),
        figure("In the order of the race", ORDER, plots::or_words(plots::order(&report.results))),
        start(report),
        isolation(report),
        remarks(report),
        machine(report),
        subjects(report),
        meaning(),
    ];
    let (style, body) = (include_str!("page.css"), sections.concat());
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>VM start against container start</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\
         </main>\n</body>\n</html>\n"
    )
}

const DISTRIBUTION: &str = "For each time on the axis, the part of starts that were over by then. A steep line is a \
     time that can be relied upon; a long foot to the right is a tail. The axis is logarithmic: equal distances are \
     equal ratios. The table above has the same in figures.";
const BOXES: &str = "Half of all starts lie within the box, with the median in it; the whiskers go to the 1st and the \
     99th percentile.";
const ORDER: &str = "Every start that counts. Each subject is started once in a round, so what disturbs the machine \
     disturbs all of them; a slope or a step would be a drift.";
const START: &str = "A virtual machine in the process that measures, medians of each phase. What it takes to start and \
     end a process around it is the difference between the subjects vm and vm-inproc.";

fn section(title: &str, body: &str) -> String {
    format!("<section>\n<h2>{title}</h2>\n{body}</section>\n")
}

fn figure(title: &str, caption: &str, image: String) -> String {
    section(title, &format!("<figure>\n<figcaption>{caption}</figcaption>\n{image}</figure>\n"))
}

/// A table of text; `kind` is its class.
pub fn grid(kind: &str, heads: &[String], rows: &[Vec<String>]) -> String {
    let cells = |tag: &str, cells: &[String]| -> String {
        cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect()
    };
    let mut text = format!("<div class=\"scroll\"><table class=\"{kind}\">\n");
    if !heads.is_empty() {
        text += &format!("<thead><tr>{}</tr></thead>\n", cells("th", heads));
    }
    text.extend(rows.iter().map(|row| format!("<tr>{}</tr>\n", cells("td", row))));
    text + "</table></div>\n"
}

fn summary(report: &Report) -> String {
    let lead: String =
        words::text(report).lines().map(|line| format!("<p class=\"lead\">{}</p>\n", escape(line))).collect();
    let warnings = report.machine.caveats.iter().map(|text| format!("<li>{}</li>\n", escape(text)));
    let warnings: String = warnings.collect();
    let warnings = match warnings.is_empty() {
        true => String::new(),
        false => {
            format!("<div class=\"warning\"><p>Not like other machines:</p>\n<ul>\n{warnings}</ul></div>\n")
        }
    };
    format!(
        "<h1>VM start against container start</h1>\n<p>{}, {}</p>\n{lead}{warnings}",
        escape(&report.program),
        escape(&conditions(report))
    )
}

fn table(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report.results.iter().map(cells).collect();
    let mut body = grid("figures", &heads(report), &rows);
    body += "<p>Milliseconds. First byte and reaped are medians, then for reaped: the interval that holds its median \
             with 95 %, the least, percentiles, the median distance from the median, and the ratio to the reference \
             with its interval. User and system are means. KiB is the most memory of any one process.</p>\n";
    let ratios = report.results.iter().filter_map(|entry| {
        let ratio = entry.ratios?.first_byte;
        let value = format!("× {} [{}]", significant(ratio.value), range(ratio.interval, significant));
        Some(vec![entry.command.clone(), millis(entry.figures.first_byte.p99), value])
    });
    let first = ["first byte".into(), "p99".into(), "ratio to the reference".into()];
    body += &format!(
        "<details><summary>The first byte in more figures</summary>\n{}</details>\n",
        grid("figures", &first, &ratios.collect::<Vec<_>>())
    );
    section("The table", &body)
}

fn start(report: &Report) -> String {
    if report.phases.is_empty() {
        return String::new();
    }
    let total: f64 = report.phases.iter().map(|phase| phase.median).sum();
    let row = |phase: &Phase| {
        vec![phase.name.clone(), millis(phase.median), format!("{:.0} %", 100.0 * phase.median / total)]
    };
    let rows: Vec<Vec<String>> = report.phases.iter().map(row).collect();
    let heads = ["phase".into(), "ms".into(), "part".into()];
    let image = plots::or_words(plots::phases(&report.phases)) + &grid("figures", &heads, &rows);
    figure("Where the time of a virtual machine goes", START, image)
}

/// What each subject shares with the host.
fn isolation(report: &Report) -> String {
    let Some(isolation) = &report.isolation else { return String::new() };
    let rows = rows(&isolation.observed, &isolation.host);
    let notes = format!("<pre>{}</pre>\n", escape(NOTES));
    section(
        "What each subject shares with the host",
        &(grid("sights", &HEADS.map(str::to_owned), &rows) + &notes),
    )
}

/// The subjects that are not in the table, and warnings about those that are.
fn remarks(report: &Report) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    rows.extend(report.missing.iter().map(|absent| vec![absent.name.clone(), absent.missing.to_string()]));
    for dropped in &report.dropped {
        let failure = &dropped.failure;
        let said = format!("dropped after {} failures: {}", dropped.failures, failure.why);
        rows.push(vec![dropped.name.clone(), said]);
        rows.extend(failure.stderr.lines().map(|line| vec![String::new(), line.to_owned()]));
    }
    for entry in &report.results {
        rows.extend(entry.warnings.iter().map(|warning| vec![entry.command.clone(), warning.clone()]));
        if let Some(cold) = &entry.cold {
            let (first, reaped) = (millis(cold.first_byte.median), millis(cold.reaped.median));
            let text = format!(
                "with an empty page cache: first byte {first}, reaped {reaped} ms, {} starts",
                cold.reaped.n
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
    if rows.is_empty() { String::new() } else { section("Remarks", &grid("words", &[], &rows)) }
}

fn machine(report: &Report) -> String {
    let lines = report.machine.lines();
    let rows: Vec<Vec<String>> = lines.into_iter().map(|(word, line)| vec![word.into(), line]).collect();
    section("The machine", &grid("words", &[], &rows))
}

fn subjects(report: &Report) -> String {
    let row = |entry: &super::Entry| {
        let version = entry.version.clone().unwrap_or_default();
        vec![entry.command.clone(), entry.about.clone(), version, entry.line.clone()]
    };
    let rows: Vec<Vec<String>> = report.results.iter().map(row).collect();
    let heads = ["subject", "what it is", "version", "what was started"].map(Into::into);
    section("Who raced", &grid("words", &heads, &rows))
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
         <p>Intervals are percentile bootstrap intervals of medians and of ratios of medians.</p>\n",
    )
}
