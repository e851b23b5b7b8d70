//! What `bench isolation`, `memory` and `parallel` found, as data, and in every form that it is shown in.

use super::bars::{self, Bar};
use super::export::Form;
use super::sheet::Sheet;
use super::{FORMAT, Isolation, density, html, isolation};
use crate::bench::card::Card;
use crate::bench::memory::{Cost, Slope};
use crate::bench::parallel::{Level, Rates};
use crate::sys::date;
use serde::{Deserialize, Serialize};
use std::io;

/// Everything about one of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Survey {
    /// [`FORMAT`]
    pub format: u32,
    /// What measured: `matchstick 0.1.0`.
    pub program: String,
    /// The command line.
    pub command: String,
    /// The machine it was run on.
    pub machine: Card,
    /// What was found.
    #[serde(flatten)]
    pub findings: Findings,
}

/// What was found, by what was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Findings {
    /// What a program sees of the host.
    Isolation(Box<Isolation>),
    /// What one more idle instance costs.
    Memory(Vec<Cost>),
    /// How many start in a second.
    Parallel(Vec<Rates>),
}

impl Survey {
    /// With what was found on this machine by this command.
    pub fn new(command: String, machine: Card, findings: Findings) -> Survey {
        let program = concat!("matchstick ", env!("CARGO_PKG_VERSION")).into();
        Survey { format: FORMAT, program, command, machine, findings }
    }

    /// What it is, for a page.
    fn title(&self) -> &'static str {
        match self.findings {
            Findings::Isolation(_) => "What each subject shares with the host",
            Findings::Memory(_) => "What one more instance costs",
            Findings::Parallel(_) => "How many start in a second",
        }
    }

    /// The tables; one, or two that are parts of one.
    fn sheets(&self) -> Vec<Sheet> {
        match &self.findings {
            Findings::Isolation(seen) => isolation::parts(&seen.observed, &seen.host).into(),
            Findings::Memory(costs) => vec![density::memory(costs)],
            Findings::Parallel(rates) => vec![density::parallel(rates)],
        }
    }

    /// What is said of single subjects.
    fn remarks(&self) -> Vec<(String, String)> {
        match &self.findings {
            Findings::Isolation(seen) => isolation::absent(&seen.observed),
            Findings::Memory(costs) => density::instances(costs),
            Findings::Parallel(rates) => density::without_rates(rates),
        }
    }

    fn notes(&self) -> &'static str {
        match self.findings {
            Findings::Isolation(_) => isolation::NOTES,
            Findings::Memory(_) => density::MEMORY_NOTES,
            Findings::Parallel(_) => density::PARALLEL_NOTES,
        }
    }

    /// As it is printed.
    pub fn text(&self) -> String {
        let sheets: Vec<String> = self.sheets().iter().map(Sheet::text).collect();
        let remarks = self.remarks().into_iter().map(|(name, words)| format!("{name:<11} {words}\n"));
        format!("{}{}\n{}", sheets.join("\n"), remarks.collect::<String>(), self.notes())
    }

    /// As a file.
    ///
    /// # Errors
    /// Of writing JSON.
    pub fn export(&self, form: Form) -> io::Result<String> {
        Ok(match form {
            Form::Json => serde_json::to_string_pretty(self)? + "\n",
            Form::Csv => self.values().csv(),
            Form::Markdown => self.markdown(),
            Form::Html => self.page(),
            Form::Svg => bars::alone(self.title(), &self.beside(), &self.bars()),
        })
    }

    /// The machine and the date in a line.
    fn beside(&self) -> Vec<String> {
        let machine = self.machine.lines().swap_remove(0).1;
        vec![machine, format!("{}, {} UTC, {}", self.program, date(self.machine.time), self.command)]
    }

    /// The table with full values, for programs.
    fn values(&self) -> Sheet {
        let number = |value: f64| value.to_string();
        let of_slope = |slope: Option<Slope>| match slope {
            Some(Slope { value, interval }) => [value, interval.low, interval.high].map(number),
            None => [(); 3].map(|()| String::new()),
        };
        match &self.findings {
            Findings::Isolation(seen) => {
                let mut sheet = isolation::sheet(&seen.observed, &seen.host);
                sheet.heads[0] = "subject".into();
                sheet
            }
            Findings::Memory(costs) => {
                let heads = [
                    "subject",
                    "available",
                    "available_low",
                    "available_high",
                    "pss",
                    "pss_low",
                    "pss_high",
                    "unknown_because",
                ];
                let row = |cost: &Cost| {
                    let (slopes, why) = match &cost.figures {
                        Ok(figures) => ([figures.available, figures.pss], String::new()),
                        Err(why) => ([None, None], why.clone()),
                    };
                    let [available, pss] = slopes.map(of_slope);
                    [vec![cost.name.clone()], available.to_vec(), pss.to_vec(), vec![why]].concat()
                };
                Sheet::figures(&heads, costs.iter().map(row).collect())
            }
            Findings::Parallel(rates) => {
                let heads = [
                    "subject",
                    "at_once",
                    "per_second",
                    "median",
                    "p99",
                    "starts",
                    "failures",
                    "unknown_because",
                ];
                let level = |name: &str, level: &Level| {
                    let figures = [level.per_second, level.median, level.p99].map(number).to_vec();
                    let (starts, failures) = (level.starts.to_string(), level.failures.to_string());
                    [
                        vec![name.to_owned(), level.at_once.to_string()],
                        figures,
                        vec![starts, failures, String::new()],
                    ]
                    .concat()
                };
                let rows = |rates: &Rates| match &rates.levels {
                    Ok(levels) => levels.iter().map(|one| level(&rates.name, one)).collect(),
                    Err(why) => {
                        let nothing = vec![String::new(); heads.len() - 2];
                        vec![[vec![rates.name.clone()], nothing, vec![why.clone()]].concat()]
                    }
                };
                Sheet::figures(&heads, rates.iter().flat_map(rows).collect())
            }
        }
    }

    fn markdown(&self) -> String {
        let sheets: Vec<String> = self.sheets().iter().map(Sheet::markdown).collect();
        let remarks = self.remarks().into_iter().map(|(name, words)| format!("- {name}: {words}\n"));
        let beside = self.beside().into_iter().map(|line| format!("- {line}\n"));
        format!("{}\n{}\n{}", sheets.join("\n"), remarks.chain(beside).collect::<String>(), self.notes())
    }

    /// What can be drawn of it: in KiB, or in a second.
    fn bars(&self) -> Vec<(String, Vec<Bar>)> {
        let of_slope = |costs: &[Cost], slope: fn(&Cost) -> Option<Slope>| {
            let bar = |cost: &Cost| {
                let Slope { value, interval } = slope(cost)?;
                Some(Bar::new(&cost.name, value, Some(interval), format!("{value:.0}")))
            };
            costs.iter().filter_map(bar).collect::<Vec<Bar>>()
        };
        match &self.findings {
            Findings::Isolation(_) => Vec::new(),
            Findings::Memory(costs) => vec![
                (
                    "KiB of their processes, shared pages in parts (PSS)".into(),
                    of_slope(costs, |cost| cost.figures.as_ref().ok()?.pss),
                ),
                (
                    "KiB that the host loses (MemAvailable)".into(),
                    of_slope(costs, |cost| cost.figures.as_ref().ok()?.available),
                ),
            ],
            Findings::Parallel(rates) => {
                let bar = |name: &str, level: &Level| {
                    let label = format!("{name}, {}", level.at_once);
                    Bar::new(name, level.per_second, None, format!("{:.0}", level.per_second)).labelled(label)
                };
                let bars = |rates: &Rates| {
                    let levels = rates.levels.iter().flatten();
                    levels.map(|level| bar(&rates.name, level)).collect::<Vec<Bar>>()
                };
                vec![("in a second, by how many at once".into(), rates.iter().flat_map(bars).collect())]
            }
        }
    }

    fn page(&self) -> String {
        let rows = |pairs: Vec<(String, String)>| pairs.into_iter().map(|(a, b)| vec![a, b]).collect();
        let sheet = match &self.findings {
            Findings::Isolation(seen) => isolation::sheet(&seen.observed, &seen.host).html(),
            _ => self.sheets().iter().map(Sheet::html).collect(),
        };
        let remarks = Sheet::words(&["subject", "what is to be said"], rows(self.remarks()));
        let bars = self.bars();
        let picture = if bars.is_empty() {
            String::new()
        } else {
            html::picture(|frame| bars::draw(frame, self.title(), &bars))
        };
        let body = [
            html::head(self.title(), &self.program, &self.machine, &self.command),
            html::warnings(&self.machine),
            picture,
            html::section("The table", &(sheet + &html::plain(self.notes()))),
            if remarks.rows.is_empty() { String::new() } else { html::section("Remarks", &remarks.html()) },
            html::machine(&self.machine),
        ];
        html::document(self.title(), &body.concat())
    }
}
