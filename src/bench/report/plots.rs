//! The plots of the HTML report, each an SVG image as text.
//!
//! Everything that is black becomes the page's own colour of text, so that a plot can be read in light and dark and
//! on paper. The names stand at the curves themselves: nobody has to match colours with a legend.

use super::escape::escape;
use super::table::{millis, significant};
use super::{Entry, Phase};
use crate::bench::stats::quantile;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::fmt;

/// The size of a picture, in pixels. Each is drawn for a wide page and for that of a phone: one that is scaled down
/// cannot be read.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// The width of the whole.
    pub width: u32,
    /// Room for names, at the left of rows and at the right of dots.
    pub names: u32,
    /// Room for figures at the right of bars.
    pub figures: u32,
    /// The size of letters.
    pub text: f64,
    /// How many letters fit a line.
    letters: usize,
}

/// For a page.
pub const WIDE: Frame = Frame { width: 860, names: 118, figures: 130, text: 14.0, letters: 110 };
/// For a phone.
pub const NARROW: Frame = Frame { width: 340, names: 86, figures: 96, text: 12.0, letters: 46 };

impl Frame {
    /// About how many labels fit the axis below.
    fn labels(self) -> usize {
        (self.width / 80) as usize
    }

    /// Words in lines that fit, two at most.
    pub fn lines(self, words: &str) -> Vec<String> {
        if words.chars().count() <= self.letters {
            return vec![words.into()];
        }
        let fits = |&(at, _): &(usize, &str)| words[..at].chars().count() <= self.letters;
        match words.match_indices(' ').take_while(fits).last() {
            Some((at, _)) => vec![words[..at].into(), words[at + 1..].into()],
            None => vec![words.into()],
        }
    }
}

/// The height of those with axes in both directions.
const HEIGHT: u32 = 400;
/// The height of one row in those that have rows.
const ROW: u32 = 34;

/// Colours that can be told apart on white and on black, also by most who see fewer.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(200, 140, 0),
    RGBColor(70, 160, 210),
    RGBColor(140, 107, 177),
    RGBColor(127, 127, 127),
];
const GRID: RGBAColor = RGBAColor(127, 127, 127, 0.3);

/// Why a plot could not be drawn. An SVG in memory has no reason to fail.
pub type Drawn<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
/// What is drawn on.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

/// A mark of a subject, at a place in pixels: where two share a colour, its shape tells them apart.
fn mark(area: &Area<'_>, index: usize, place: (i32, i32), size: i32) -> Drawn {
    let style = colour(index).filled();
    match index / COLOURS.len() {
        0 => area.draw(&Circle::new(place, size, style))?,
        1 => area.draw(&TriangleMarker::new(place, size + 2, style))?,
        _ => area.draw(&Cross::new(place, size, colour(index).stroke_width(2)))?,
    }
    Ok(())
}

/// Draws on an empty image; `about` is what a reader who does not see it is told.
pub fn image(frame: Frame, height: u32, about: &str, draw: impl FnOnce(&Area<'_>) -> Drawn) -> Drawn<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (frame.width, height)).into_drawing_area();
        draw(&area)?;
        area.present()?;
    }
    let svg = svg.replace("=\"#000000\"", "=\"currentColor\"");
    Ok(svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{}\" ", escape(about)), 1))
}

pub fn text<'a>(size: f64, horizontal: HPos, vertical: VPos) -> TextStyle<'a> {
    ("sans-serif", size)
        .into_text_style(&(WIDE.width, HEIGHT))
        .color(&BLACK)
        .pos(Pos::new(horizontal, vertical))
}

/// The range of all `times` in milliseconds, with some room, for a logarithmic axis.
fn span<'a>(times: impl Iterator<Item = &'a f64>) -> (f64, f64) {
    let (low, high) = times
        .map(|seconds| seconds * 1000.0)
        .filter(|ms| *ms > 0.0)
        .fold((f64::INFINITY, 0.0f64), |(low, high), ms| (low.min(ms), high.max(ms)));
    if high > 0.0 { (low * 0.8, high * 1.25) } else { (0.1, 10.0) }
}

fn sorted(times: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = times.iter().map(|seconds| seconds * 1000.0).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The part of starts that were over after each time: the whole distribution, nothing smoothed.
pub fn distribution(frame: Frame, entries: &[&Entry]) -> Drawn<String> {
    let (low, high) = span(entries.iter().flat_map(|entry| &entry.times));
    image(frame, HEIGHT, "Cumulative distribution of the time until reaped, for each subject", |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(52)
            .build_cartesian_2d((low..high).log_scale(), 0f64..1f64)?;
        chart
            .configure_mesh()
            .x_labels(frame.labels())
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(BLACK)
            .label_style(text(frame.text - 1.0, HPos::Center, VPos::Center))
            .x_desc("until reaped, ms (logarithmic)")
            .y_desc("part of the starts")
            .x_label_formatter(&|ms| significant(*ms))
            .y_label_formatter(&|part| format!("{:.0} %", part * 100.0))
            .draw()?;
        for (index, entry) in entries.iter().enumerate() {
            let times = sorted(&entry.times);
            let step = 1.0 / times.len() as f64;
            let mut line = vec![(times[0], 0.0)];
            for (n, time) in (0..).map(f64::from).zip(&times) {
                line.extend([(*time, n * step), (*time, (n + 1.0) * step)]);
            }
            let colour = colour(index);
            chart.draw_series([PathElement::new(line, colour.stroke_width(2))])?;
            for part in [0.1, 0.5, 0.9] {
                mark(area, index, chart.backend_coord(&(quantile(&times, part), part)), 3)?;
            }
            // Each name at a height of its own, on the side where there is room.
            let part = 0.92 - 0.84 * index as f64 / entries.len().max(2) as f64;
            let (x, y) = chart.backend_coord(&(quantile(&times, part), part));
            let is_right = x > (frame.width - frame.names) as i32;
            let (x, side) = if is_right { (x - 7, HPos::Right) } else { (x + 7, HPos::Left) };
            let style = text(frame.text, side, VPos::Center).color(&colour);
            area.draw(&Text::new(entry.command.clone(), (x, y), style))?;
        }
        Ok(())
    })
}

/// For each subject a box from quarter to three quarters, the median in it, and whiskers to the 1st and 99th
/// percentile.
pub fn boxes(frame: Frame, entries: &[&Entry]) -> Drawn<String> {
    let (low, high) = span(entries.iter().flat_map(|entry| &entry.times));
    let rows = entries.len().max(1);
    let about = "A box for each subject: quartiles, median, and whiskers to the 1st and 99th percentile";
    image(frame, ROW * rows as u32 + 70, about, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(frame.names)
            .build_cartesian_2d((low..high).log_scale(), 0f64..rows as f64)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .y_labels(0)
            .x_labels(frame.labels())
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(BLACK)
            .label_style(text(frame.text - 1.0, HPos::Center, VPos::Center))
            .x_desc("until reaped, ms (logarithmic)")
            .x_label_formatter(&|ms| significant(*ms))
            .draw()?;
        for (index, entry) in entries.iter().enumerate() {
            let times = sorted(&entry.times);
            let at = |part| quantile(&times, part);
            let middle = (rows - index) as f64 - 0.5;
            let colour = colour(index);
            let line = |from: (f64, f64), to: (f64, f64), width| {
                PathElement::new(vec![from, to], colour.stroke_width(width))
            };
            chart.draw_series([
                line((at(0.01), middle), (at(0.99), middle), 2),
                line((at(0.01), middle - 0.15), (at(0.01), middle + 0.15), 2),
                line((at(0.99), middle - 0.15), (at(0.99), middle + 0.15), 2),
            ])?;
            let corners = [(at(0.25), middle - 0.3), (at(0.75), middle + 0.3)];
            chart.draw_series([Rectangle::new(corners, colour.mix(0.45).filled())])?;
            chart.draw_series([Rectangle::new(corners, colour.stroke_width(2))])?;
            chart.draw_series([line((at(0.5), middle - 0.3), (at(0.5), middle + 0.3), 4)])?;
            let (_, y) = chart.backend_coord(&(low, middle));
            row_name(area, frame, &entry.command, y)?;
        }
        Ok(())
    })
}

/// Writes a name in the room that is left for it.
fn row_name(area: &Area<'_>, frame: Frame, name: &str, y: i32) -> Drawn {
    let style = text(frame.text, HPos::Right, VPos::Center);
    area.draw(&Text::new(name.to_owned(), (frame.names as i32 - 2, y), style))?;
    Ok(())
}

/// Every start in the order of the rounds: what drifts, or is disturbed, shows.
pub fn order(frame: Frame, entries: &[&Entry]) -> Drawn<String> {
    let (low, high) = span(entries.iter().flat_map(|entry| &entry.times));
    let samples = entries.iter().flat_map(|entry| &entry.samples);
    let rounds = f64::from(samples.map(|sample| sample.round).max().unwrap_or(0) + 1);
    image(frame, HEIGHT, "Every start by its round: time until reaped, for each subject", |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(frame.names)
            .x_label_area_size(40)
            .y_label_area_size(52)
            .build_cartesian_2d(0f64..rounds, (low..high).log_scale())?;
        chart
            .configure_mesh()
            .x_labels(frame.labels())
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(BLACK)
            .label_style(text(frame.text - 1.0, HPos::Center, VPos::Center))
            .x_desc("round")
            .y_desc("until reaped, ms (logarithmic)")
            .x_label_formatter(&|round| format!("{round:.0}"))
            .y_label_formatter(&|ms| significant(*ms))
            .draw()?;
        // From the slowest down, so that no name stands on another.
        let mut by_height: Vec<usize> = (0..entries.len()).collect();
        by_height.sort_by(|one, other| entries[*other].median.total_cmp(&entries[*one].median));
        let mut lowest = i32::MIN;
        for index in by_height {
            let entry = entries[index];
            for sample in &entry.samples {
                let place = (f64::from(sample.round) + 0.5, sample.reaped * 1000.0);
                mark(area, index, chart.backend_coord(&place), 2)?;
            }
            let (_, y) = chart.backend_coord(&(rounds, entry.median * 1000.0));
            lowest = y.max(lowest.saturating_add(15));
            let x = (frame.width - frame.names) as i32 + 4;
            mark(area, index, (x, lowest), 3)?;
            let colour = colour(index);
            let style = text(frame.text, HPos::Left, VPos::Center).color(&colour);
            area.draw(&Text::new(entry.command.clone(), (x + 8, lowest), style))?;
        }
        Ok(())
    })
}

/// Where the time of a start goes: each phase where it lies in the whole.
pub fn phases(frame: Frame, phases: &[Phase]) -> Drawn<String> {
    let total: f64 = phases.iter().map(|phase| phase.median * 1000.0).sum();
    let rows = phases.len().max(1);
    let height = (ROW * 3 / 4) * rows as u32 + 70;
    image(frame, height, "Phases of a virtual machine's start, one after the other", |area| {
        let mut chart: ChartContext<'_, _, Cartesian2d<RangedCoordf64, RangedCoordf64>> =
            ChartBuilder::on(area)
                .margin(10)
                .x_label_area_size(40)
                .y_label_area_size(frame.names + 20)
                .margin_right(60)
                .build_cartesian_2d(0f64..total.max(0.001), 0f64..rows as f64)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .y_labels(0)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(BLACK)
            .x_labels(frame.labels())
            .label_style(text(frame.text - 1.0, HPos::Center, VPos::Center))
            .x_desc("ms from the start")
            .x_label_formatter(&|ms| significant(*ms))
            .draw()?;
        let mut begin = 0.0;
        for (index, phase) in phases.iter().enumerate() {
            let end = begin + phase.median * 1000.0;
            let middle = (rows - index) as f64 - 0.5;
            let corners = [(begin, middle - 0.35), (end, middle + 0.35)];
            chart.draw_series([Rectangle::new(corners, colour(index).filled())])?;
            let (x, y) = chart.backend_coord(&(end, middle));
            let style = text(frame.text - 1.0, HPos::Right, VPos::Center);
            area.draw(&Text::new(phase.name.clone(), (frame.names as i32 + 18, y), style))?;
            area.draw(&Text::new(millis(phase.median), (x + 6, y), text(13.0, HPos::Left, VPos::Center)))?;
            begin = end;
        }
        Ok(())
    })
}

/// A plot, or the words that there is none.
pub fn or_words(plot: Drawn<String>) -> String {
    plot.unwrap_or_else(|error: Box<dyn std::error::Error + Send + Sync>| {
        let why: &dyn fmt::Display = &error;
        format!("<p>This plot could not be drawn: {}</p>", escape(&why.to_string()))
    })
}
