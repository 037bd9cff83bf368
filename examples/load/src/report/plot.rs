//! The diagrams of a report, as SVG. Colours are placeholders that the page's style sheet replaces, light or dark.
use plotters::prelude::*;

use crate::report::Report;
use crate::search::Trial;

const SIZE: (u32, u32) = (720, 320);
/// What stands for text and axes, and for the grid.
const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);
/// What stands for the runs.
pub(crate) const RUNS: [RGBColor; 6] = [
    RGBColor(16, 1, 1),
    RGBColor(16, 2, 2),
    RGBColor(16, 3, 3),
    RGBColor(16, 4, 4),
    RGBColor(16, 5, 5),
    RGBColor(16, 6, 6),
];

/// One line of a diagram.
#[derive(Debug)]
struct Line {
    run: usize,
    dashed: bool,
    points: Vec<(f64, f64)>,
}

/// How a diagram is labelled.
struct Frame<'a> {
    x: &'a str,
    y: &'a str,
    x_label: &'a dyn Fn(&f64) -> String,
    y_label: &'a dyn Fn(&f64) -> String,
    /// The vertical scale is logarithmic: its values are the logarithms.
    log_y: bool,
}

fn us_label(log_us: &f64) -> String {
    crate::units::show_us(10f64.powf(*log_us))
}

/// Whole seconds only: a tick between two of them has no name.
fn second_label(second: &f64) -> String {
    if second.fract().abs() < 0.01 { format!("{second:.0}") } else { String::new() }
}

fn rate_label(rate: &f64) -> String {
    match *rate {
        r if r >= 1e6 => format!("{:.1}M", r / 1e6),
        r if r >= 1e3 => format!("{:.0}k", r / 1e3),
        r => format!("{r:.0}"),
    }
}

/// The latency at every percentile.
pub(crate) fn percentiles(runs: &[&Report]) -> Result<String, String> {
    let mut lines = Vec::new();
    for (run, report) in runs.iter().enumerate() {
        for (d, dashed) in [(&report.response, false), (&report.service, true)] {
            if d.count == 0 || (dashed && report.config.load == "closed") {
                continue;
            }
            let mut seen = 0;
            let mut points = Vec::new();
            for &(value, count) in &d.buckets {
                seen += count;
                // Nines: 0 is p0, 1 is p90, 2 is p99. The maximum stands where one more sample would.
                let rest = ((d.count - seen) as f64).max(0.5) / d.count as f64;
                points.push((-rest.log10(), value.max(0.1).log10()));
            }
            lines.push(Line { run, dashed, points: thin(points) });
        }
    }
    let x_label = |nines: &f64| match nines.round() as i32 {
        0 => "p0".to_owned(),
        n => format!("p{}", 100.0 - 10f64.powi(2 - n)),
    };
    draw(
        &lines,
        &Frame {
            x: "percentile",
            y: "latency",
            x_label: &x_label,
            y_label: &us_label,
            log_y: true,
        },
    )
}

/// Right replies in every second.
pub(crate) fn rates(runs: &[&Report]) -> Result<String, String> {
    let lines: Vec<_> = runs
        .iter()
        .enumerate()
        .map(|(run, report)| Line {
            run,
            dashed: false,
            points: report.seconds.iter().map(|s| (s.second as f64 + 1.0, s.ok as f64)).collect(),
        })
        .collect();
    draw(
        &lines,
        &Frame {
            x: "seconds",
            y: "replies/s",
            x_label: &second_label,
            y_label: &rate_label,
            log_y: false,
        },
    )
}

/// Latency in every second: p50 dashed, p99 solid.
pub(crate) fn latencies(runs: &[&Report]) -> Result<String, String> {
    let mut lines = Vec::new();
    for (run, report) in runs.iter().enumerate() {
        for dashed in [false, true] {
            let of = |s: &crate::engine::SecondFigures| if dashed { s.p50_us } else { s.p99_us };
            let seconds = report.seconds.iter().filter(|s| s.ok > 0);
            let points = seconds.map(|s| (s.second as f64 + 1.0, of(s).max(0.1).log10())).collect();
            lines.push(Line { run, dashed, points });
        }
    }
    draw(
        &lines,
        &Frame {
            x: "seconds",
            y: "latency",
            x_label: &second_label,
            y_label: &us_label,
            log_y: true,
        },
    )
}

/// The steps of a sweep or search, by rate.
pub(crate) fn steps(report: &Report) -> Option<Vec<&Trial>> {
    let path = report.sweep.as_ref().or(report.search.as_ref().map(|search| &search.path))?;
    let mut steps: Vec<_> = path.iter().filter(|trial| trial.p99_us > 0.0).collect();
    steps.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    Some(steps)
}

/// Latency against offered rate: p50 dashed, p99 solid.
pub(crate) fn latency_by_rate(runs: &[&Report]) -> Result<String, String> {
    let mut lines = Vec::new();
    for (run, report) in runs.iter().enumerate() {
        let Some(steps) = steps(report) else { continue };
        for dashed in [false, true] {
            let of = |t: &Trial| if dashed { t.p50_us } else { t.p99_us };
            let points = steps.iter().map(|t| (t.rate.log10(), of(t).max(0.1).log10())).collect();
            lines.push(Line { run, dashed, points });
        }
    }
    let x_label = |log: &f64| rate_label(&10f64.powf(*log));
    draw(
        &lines,
        &Frame {
            x: "offered requests/s",
            y: "latency",
            x_label: &x_label,
            y_label: &us_label,
            log_y: true,
        },
    )
}

/// Achieved against offered rate.
pub(crate) fn achieved_by_rate(runs: &[&Report]) -> Result<String, String> {
    let mut lines = Vec::new();
    for (run, report) in runs.iter().enumerate() {
        let Some(steps) = steps(report) else { continue };
        let points = steps.iter().map(|t| (t.rate, t.achieved)).collect();
        lines.push(Line { run, dashed: false, points });
    }
    draw(
        &lines,
        &Frame {
            x: "offered requests/s",
            y: "replies/s",
            x_label: &rate_label,
            y_label: &rate_label,
            log_y: false,
        },
    )
}

/// At most some hundred points: more cannot be seen, and only make the page heavy.
fn thin(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(600).max(1);
    let last = points.len().saturating_sub(1);
    points
        .into_iter()
        .enumerate()
        .filter(|(n, _)| n % step == 0 || *n == last)
        .map(|(_, p)| p)
        .collect()
}

/// The least and greatest of some values, apart enough to draw.
fn range(values: impl Iterator<Item = f64>, from_zero: bool) -> (f64, f64) {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        least = least.min(value);
        most = most.max(value);
    }
    if from_zero {
        least = 0.0;
    }
    if most - least < 1e-9 {
        (least - 0.5 * f64::from(!from_zero), least + 1.0)
    } else {
        (least, most + (most - least) * 0.05)
    }
}

fn draw(lines: &[Line], frame: &Frame<'_>) -> Result<String, String> {
    let points = || lines.iter().flat_map(|line| line.points.iter());
    if points().next().is_none() {
        return Ok(String::new());
    }
    let x = range(points().map(|p| p.0), false);
    let y = range(points().map(|p| p.1), !frame.log_y);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let fault = |error: &dyn std::fmt::Display| format!("cannot draw: {error}");
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .x_label_area_size(38)
            .y_label_area_size(76)
            .build_cartesian_2d(x.0..x.1, y.0..y.1)
            .map_err(|e| fault(&e))?;
        let text = ("sans-serif", 13).into_font().color(&INK);
        chart
            .configure_mesh()
            .x_desc(frame.x)
            .y_desc(frame.y)
            .x_labels(8)
            .y_labels(6)
            .x_label_formatter(frame.x_label)
            .y_label_formatter(frame.y_label)
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style(text.clone())
            .axis_desc_style(text)
            .draw()
            .map_err(|e| fault(&e))?;
        for line in lines {
            let style = RUNS[line.run % RUNS.len()].stroke_width(2);
            let points = line.points.iter().copied();
            if line.dashed {
                chart
                    .draw_series(DashedLineSeries::new(points, 5, 4, style))
                    .map_err(|e| fault(&e))?;
            } else {
                chart.draw_series(LineSeries::new(points, style)).map_err(|e| fault(&e))?;
            }
        }
        root.present().map_err(|e| fault(&e))?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::{range, thin};

    #[test]
    fn a_range_is_never_empty_and_a_long_line_keeps_its_ends() {
        assert_eq!(range([5.0].into_iter(), false), (4.5, 6.0));
        assert_eq!(range([0.0].into_iter(), true), (0.0, 1.0));
        let points: Vec<_> = (0..5000).map(|n| (f64::from(n), 0.0)).collect();
        let few = thin(points.clone());
        assert!(few.len() < 700 && few.first() == points.first() && few.last() == points.last());
    }
}
