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

/// The width of every plot; what is too wide for a page is scaled down.
const WIDTH: u32 = 860;
/// The height of those with axes in both directions.
const HEIGHT: u32 = 400;
/// The height of one row in those that have rows.
const ROW: u32 = 34;
/// Room for names at the left of rows.
const NAMES: u32 = 150;

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
type Drawn<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

/// Draws on an empty image; `about` is what a reader who does not see it is told.
fn image(height: u32, about: &str, draw: impl FnOnce(&Area<'_>) -> Drawn) -> Drawn<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        draw(&area)?;
        area.present()?;
    }
    let svg = svg.replace("=\"#000000\"", "=\"currentColor\"");
    Ok(svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{}\" ", escape(about)), 1))
}

fn text<'a>(size: f64, horizontal: HPos, vertical: VPos) -> TextStyle<'a> {
    ("sans-serif", size).into_text_style(&(WIDTH, HEIGHT)).color(&BLACK).pos(Pos::new(horizontal, vertical))
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
pub fn distribution(entries: &[Entry]) -> Drawn<String> {
    let (low, high) = span(entries.iter().flat_map(|entry| &entry.times));
    image(HEIGHT, "Cumulative distribution of the time until reaped, for each subject", |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(55)
            .build_cartesian_2d((low..high).log_scale(), 0f64..1f64)?;
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(BLACK)
            .label_style(text(13.0, HPos::Center, VPos::Center))
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
            // Each name at a height of its own.
            let part = 0.92 - 0.84 * index as f64 / entries.len().max(2) as f64;
            let place = (quantile(&times, part), part);
            let style = text(14.0, HPos::Left, VPos::Center).color(&colour);
            chart.draw_series([EmptyElement::at(place) + Text::new(entry.command.clone(), (7, 0), style)])?;
        }
        Ok(())
    })
}

/// For each subject a box from quarter to three quarters, the median in it, and whiskers to the 1st and 99th
/// percentile.
pub fn boxes(entries: &[Entry]) -> Drawn<String> {
    let (low, high) = span(entries.iter().flat_map(|entry| &entry.times));
    let rows = entries.len().max(1);
    let height = ROW * rows as u32 + 70;
    image(
        height,
        "A box for each subject: quartiles, median, and whiskers to the 1st and 99th percentile",
        |area| {
            let mut chart = ChartBuilder::on(area)
                .margin(10)
                .x_label_area_size(40)
                .y_label_area_size(NAMES)
                .build_cartesian_2d((low..high).log_scale(), 0f64..rows as f64)?;
            chart
                .configure_mesh()
                .disable_y_mesh()
                .disable_y_axis()
                .y_labels(0)
                .bold_line_style(GRID)
                .light_line_style(TRANSPARENT)
                .axis_style(BLACK)
                .label_style(text(13.0, HPos::Center, VPos::Center))
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
                let pixel = chart.backend_coord(&(low, middle));
                row_name(area, &entry.command, pixel.1)?;
            }
            Ok(())
        },
    )
}

/// Writes a name in the room that is left for it.
fn row_name(area: &Area<'_>, name: &str, y: i32) -> Drawn {
    let style = text(14.0, HPos::Right, VPos::Center);
    area.draw(&Text::new(name.to_owned(), (NAMES as i32 - 2, y), style))?;
    Ok(())
}

/// Every start in the order of the rounds: what drifts, or is disturbed, shows.
pub fn order(entries: &[Entry]) -> Drawn<String> {
    let (low, high) = span(entries.iter().flat_map(|entry| &entry.times));
    let samples = entries.iter().flat_map(|entry| &entry.samples);
    let rounds = f64::from(samples.map(|sample| sample.round).max().unwrap_or(0) + 1);
    image(HEIGHT, "Every start by its round: time until reaped, for each subject", |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(NAMES)
            .x_label_area_size(40)
            .y_label_area_size(55)
            .build_cartesian_2d(0f64..rounds, (low..high).log_scale())?;
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(BLACK)
            .label_style(text(13.0, HPos::Center, VPos::Center))
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
            let (entry, colour) = (&entries[index], colour(index));
            let dots =
                entry.samples.iter().map(|sample| (f64::from(sample.round) + 0.5, sample.reaped * 1000.0));
            chart.draw_series(dots.map(|place| Circle::new(place, 2, colour.mix(0.7).filled())))?;
            let (_, y) = chart.backend_coord(&(rounds, entry.median * 1000.0));
            lowest = y.max(lowest.saturating_add(15));
            let style = text(14.0, HPos::Left, VPos::Center).color(&colour);
            area.draw(&Text::new(entry.command.clone(), ((WIDTH - NAMES) as i32 + 4, lowest), style))?;
        }
        Ok(())
    })
}

/// Where the time of a start goes: each phase where it lies in the whole.
pub fn phases(phases: &[Phase]) -> Drawn<String> {
    let total: f64 = phases.iter().map(|phase| phase.median * 1000.0).sum();
    let rows = phases.len().max(1);
    let height = (ROW * 3 / 4) * rows as u32 + 70;
    image(height, "Phases of a virtual machine's start, one after the other", |area| {
        let mut chart: ChartContext<'_, _, Cartesian2d<RangedCoordf64, RangedCoordf64>> =
            ChartBuilder::on(area)
                .margin(10)
                .x_label_area_size(40)
                .y_label_area_size(NAMES)
                .margin_right(70)
                .build_cartesian_2d(0f64..total.max(0.001), 0f64..rows as f64)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .y_labels(0)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(BLACK)
            .label_style(text(13.0, HPos::Center, VPos::Center))
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
            row_name(area, &phase.name, y)?;
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
