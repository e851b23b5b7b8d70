//! The first picture: a bar for each subject, with its interval and its figure beside it, so that one look says it.
//!
//! It stands on the page, and alone as an SVG file. Bars begin at zero and the axis is linear, so lengths are what they
//! seem. A bar that would make all the others disappear is cut, and shows that.

use super::escape::escape;
use super::plots::{Area, Drawn, Frame, WIDE, image, or_words, text};
use super::table::{millis, significant};
use super::{Entry, Report};
use crate::bench::stats::Interval;
use crate::bench::subject::{Class, Kind};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

/// The height of a row, of the words above a group, and of a line above the picture, in pixels.
const ROW: i32 = 24;
const HEAD: i32 = 30;
const LINE: i32 = 19;
/// The longest bar that is drawn whole, in those of the middle one.
const LONGEST: f64 = 15.0;

const OURS: RGBColor = RGBColor(0, 114, 178);
const CONTAINER: RGBColor = RGBColor(213, 94, 0);
const PLAIN: RGBColor = RGBColor(127, 127, 127);

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    label: String,
    value: f64,
    interval: Option<Interval>,
    words: String,
    colour: RGBColor,
}

impl Bar {
    /// Of the subject `name`; `words` stand at its end.
    pub fn new(name: &str, value: f64, interval: Option<Interval>, words: String) -> Bar {
        Bar { label: name.into(), value, interval, words, colour: OURS }
    }

    /// With more before it than the name.
    pub fn labelled(self, label: String) -> Bar {
        Bar { label, ..self }
    }

    fn of(entry: &Entry) -> Bar {
        let reaped = &entry.figures.reaped;
        let ratio = entry.ratios.as_ref().map(|ratios| format!(", × {}", significant(ratios.reaped.value)));
        let words = format!("{} ms{}", millis(reaped.median), ratio.unwrap_or_default());
        let colour = match entry.kind {
            Kind::Process | Kind::Baseline | Kind::Custom => PLAIN,
            kind if kind.is_machine() => OURS,
            _ => CONTAINER,
        };
        Bar { colour, ..Bar::new(&entry.command, reaped.median, reaped.interval, words) }
    }
}

/// The subjects of a race, those that are started alike together.
pub fn of_race(report: &Report) -> Vec<(String, Vec<Bar>)> {
    let group = |class: Class| {
        let mut entries = report.of_class(class);
        entries.sort_by(|one, other| one.median.total_cmp(&other.median));
        let reference = report.reference_of(class).unwrap_or_default();
        (format!("{} (× {reference})", class.title()), entries.into_iter().map(Bar::of).collect())
    };
    Class::ALL.map(group).into_iter().filter(|(_, bars): &(_, Vec<Bar>)| !bars.is_empty()).collect()
}

/// A picture for a page.
pub fn draw(frame: Frame, about: &str, groups: &[(String, Vec<Bar>)]) -> Drawn<String> {
    image(frame, height(groups) as u32, about, |area| draw_groups(area, frame, 0, groups))
}

/// A picture that stands alone, in colours for light and dark: `title` and `lines` are above it.
pub fn alone(title: &str, lines: &[String], groups: &[(String, Vec<Bar>)]) -> String {
    let lines: Vec<String> = lines.iter().flat_map(|line| WIDE.lines(line)).collect();
    let top = LINE * (lines.len() as i32 + 1) + 16;
    let drawn = image(WIDE, (top + height(groups)) as u32, title, |area| {
        for (n, (line, size)) in
            [(title, 17.0)].into_iter().chain(lines.iter().map(|line| (&**line, 12.5))).enumerate()
        {
            let style = text(size, HPos::Left, VPos::Top);
            area.draw(&Text::new(line.to_owned(), (10, 8 + LINE * n as i32), style))?;
        }
        draw_groups(area, WIDE, top, groups)
    });
    let style = "<style>svg{color:#1a1a1a}@media(prefers-color-scheme:dark){svg{color:#e8e8e8}}</style>";
    match drawn {
        Ok(svg) => svg.replacen('>', &format!("><title>{}</title>{style}", escape(title)), 1),
        Err(error) => or_words(Err(error)),
    }
}

fn height(groups: &[(String, Vec<Bar>)]) -> i32 {
    groups.iter().map(|(_, bars)| HEAD + ROW * bars.len() as i32 + 6).sum()
}

/// Where bars end that are drawn whole: the longest, unless that would be far beyond most.
fn longest(bars: &[Bar]) -> f64 {
    let mut values: Vec<f64> = bars.iter().map(|bar| bar.value).collect();
    values.sort_by(f64::total_cmp);
    let most = |bar: &Bar| bar.interval.map_or(bar.value, |interval| interval.high.max(bar.value));
    let limit = values.get(values.len() / 2).map_or(0.0, |middle| LONGEST * middle);
    let within = bars.iter().filter(|bar| bar.value <= limit).map(most).fold(0.0, f64::max);
    // With a bar that is cut, the others have a little less than all the room.
    if bars.iter().any(|bar| bar.value > limit) { within * 1.15 } else { within }
}

fn draw_groups(area: &Area<'_>, frame: Frame, top: i32, groups: &[(String, Vec<Bar>)]) -> Drawn {
    let mut y = top;
    for (title, bars) in groups {
        let style = text(frame.text, HPos::Left, VPos::Center);
        for (n, line) in frame.lines(title).into_iter().enumerate() {
            area.draw(&Text::new(line, (10, y + 10 + 13 * n as i32), style.clone()))?;
        }
        y += HEAD;
        let longest = longest(bars);
        for bar in bars {
            draw_bar(area, frame, y + ROW / 2, bar, longest)?;
            y += ROW;
        }
        y += 6;
    }
    Ok(())
}

fn draw_bar(area: &Area<'_>, frame: Frame, middle: i32, bar: &Bar, longest: f64) -> Drawn {
    let left = frame.names as i32;
    let room = f64::from(frame.width - frame.names - frame.figures);
    let end = |value: f64| left + (room * (value / longest).clamp(0.0, 1.0)) as i32;
    let at = end(bar.value).max(left + 1);
    area.draw(&Text::new(
        bar.label.clone(),
        (left - 8, middle),
        text(frame.text, HPos::Right, VPos::Center),
    ))?;
    area.draw(&Rectangle::new([(left, middle - 8), (at, middle + 8)], bar.colour.filled()))?;
    let is_cut = bar.value > longest;
    let mut beside = at;
    match bar.interval {
        Some(Interval { low, high }) if !is_cut => {
            let (low, high) = (end(low), end(high));
            beside = beside.max(high);
            let line = |from, to| PathElement::new(vec![from, to], BLACK.stroke_width(1));
            area.draw(&line((low, middle), (high, middle)))?;
            for x in [low, high] {
                area.draw(&line((x, middle - 4), (x, middle + 4)))?;
            }
        }
        _ => {}
    }
    if is_cut {
        // Two slanting gaps: this bar goes on.
        for x in [at - 26, at - 18] {
            let gap = vec![(x, middle + 9), (x + 6, middle - 9), (x + 10, middle - 9), (x + 4, middle + 9)];
            area.draw(&Polygon::new(gap, RGBColor(200, 200, 200).filled()))?;
        }
    }
    area.draw(&Text::new(
        bar.words.clone(),
        (beside + 6, middle),
        text(frame.text, HPos::Left, VPos::Center),
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_far_beyond_the_others_is_cut_and_leaves_them_room() {
        let bar = |value| Bar::new("a", value, None, String::new());
        assert_eq!(longest(&[bar(1.0), bar(2.0), bar(20.0)]), 20.0);
        assert_eq!(longest(&[bar(1.0), bar(2.0), bar(400.0)]), 2.0 * 1.15);
        assert_eq!(longest(&[]), 0.0);
    }

    #[test]
    fn a_picture_that_stands_alone_has_both_colours_and_all_names() {
        let interval = Some(Interval { low: 0.9, high: 1.2 });
        let bars = vec![Bar::new("a<b", 1.0, interval, "1.00".into()), Bar::new("c", 0.0, None, "0".into())];
        let svg = alone("A title", &["a processor".into()], &[("a group".into(), bars)]);
        for part in
            ["prefers-color-scheme:dark", "currentColor", "a&lt;b", "A title", "a processor", "a group"]
        {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("#000000"), "{svg}");
        assert!(alone("Nothing", &[], &[("a group".into(), Vec::new())]).starts_with("<svg "));
    }
}
