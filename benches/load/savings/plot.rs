//! The run as a picture: spend with and without Remora, adding up, and what the cache answered, hour by hour.
//!
//! Drawn in the style of the program's own plots; never a point that was not measured.

use std::fmt::Write as _;

use crate::figures::{Figures, Span};

const LEFT: f64 = 70.0;
const RIGHT: f64 = 850.0;
const TOP: f64 = 70.0;
/// Height of a panel's axes, and from one panel to the next.
const HEIGHT: f64 = 260.0;
const NEXT: f64 = 350.0;
const WIDTH: f64 = 900.0;
const ALL: f64 = 780.0;

const STYLE: &str = "\
.bg{fill:#ffffff}.grid{stroke:#e3e6ea;stroke-width:1}.axis{stroke:#57606a;stroke-width:1;fill:none}\
text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:12px;fill:#24292f}\
.title{font-size:14px;font-weight:600}.line{fill:none;stroke-width:2}\
.l0{stroke:#6e7781}.l1{stroke:#0969da}.l2{stroke:#bc4c00}.l3{stroke:#1a7f37}\
\
@media (prefers-color-scheme:dark){.bg{fill:#0d1117}.grid{stroke:#272d36}.axis{stroke:#8b949e}text{fill:#e6edf3}\
.l0{stroke:#8b949e}.l1{stroke:#58a6ff}.l2{stroke:#f0883e}.l3{stroke:#3fb950}}";

/// One pair of axes over the hours.
struct Panel {
    top: f64,
    hours: usize,
    most: f64,
    step: f64,
}

impl Panel {
    fn x(&self, hour: f64) -> f64 {
        LEFT + hour / self.hours as f64 * (RIGHT - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + HEIGHT * (1.0 - value / self.most)
    }

    fn axes(&self, svg: &mut String, title: &str, label: impl Fn(f64) -> String) {
        let bottom = self.top + HEIGHT;
        for tick in (0..).map(|n| f64::from(n) * self.step).take_while(|tick| *tick <= self.most * 1.001) {
            let (y, text) = (self.y(tick), label(tick));
            put(
                svg,
                format_args!(
                    "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                    LEFT - 6.0,
                    y + 4.0
                ),
            );
        }
        for hour in (0..=self.hours).step_by(6) {
            let x = self.x(hour as f64);
            put(
                svg,
                format_args!(
                    "<path class=\"grid\" d=\"M{x:.1} {}V{bottom}\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}:00</text>",
                    self.top,
                    bottom + 18.0,
                    hour % 24
                ),
            );
        }
        put(
            svg,
            format_args!(
                "<path class=\"axis\" d=\"M{LEFT} {}V{bottom}H{RIGHT}\"/><text class=\"title\" x=\"{LEFT}\" y=\"{}\">{title}</text>",
                self.top,
                self.top - 30.0
            ),
        );
    }

    /// Lines in the legend above the axes.
    fn names(&self, svg: &mut String, names: &[(&str, &str)]) {
        let mut x = LEFT;
        for (class, name) in names {
            let y = self.top - 12.0;
            put(
                svg,
                format_args!(
                    "<path class=\"line {class}\" d=\"M{x} {}h20\"/><text x=\"{}\" y=\"{y}\">{name}</text>",
                    y - 4.0,
                    x + 26.0
                ),
            );
            x += 56.0 + 7.0 * name.len() as f64;
        }
    }

    fn line(&self, svg: &mut String, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let path: Vec<String> =
            points.map(|(hour, value)| format!("{:.1} {:.1}", self.x(hour), self.y(value))).collect();
        put(svg, format_args!("<path class=\"line {class}\" d=\"M{}\"/>", path.join("L")));
    }
}

/// Both panels.
pub(crate) fn draw(figures: &Figures) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {ALL}\" width=\"{WIDTH}\" height=\"{ALL}\" role=\"img\">\
         <title>Spend with and without Remora over the day, and what the cache answered</title><style>{STYLE}</style>\n\
         <rect class=\"bg\" width=\"{WIDTH}\" height=\"{ALL}\"/>\n"
    );
    let hours = &figures.hours;
    let adding = |of: fn(&Span) -> i64| {
        let sums = hours.iter().scan(0, move |sum, span| {
            *sum += of(span);
            Some(*sum)
        });
        std::iter::once(0)
            .chain(sums)
            .enumerate()
            .map(|(hour, nano)| (hour as f64, nano as f64 / 1e9))
            .collect::<Vec<_>>()
    };
    let (without, with) = (adding(|span| span.money.without), adding(|span| span.money.with()));
    let most = without.last().map_or(1.0, |(_, dollars)| *dollars);
    let step = step(most);
    let spend = Panel { top: TOP, hours: hours.len(), most: (most / step).ceil() * step, step };
    spend.axes(&mut svg, "Spend, adding up, dollars", |tick| format!("{tick:.2}"));
    spend.names(&mut svg, &[("l0", "without Remora"), ("l1", "with Remora, checks included")]);
    spend.line(&mut svg, "l0", without.into_iter());
    spend.line(&mut svg, "l1", with.into_iter());
    let share = Panel { top: TOP + NEXT, hours: hours.len(), most: 1.0, step: 0.2 };
    share
        .axes(&mut svg, "Answered by the cache, share of the hour's requests", |tick| format!("{:.0} %", tick * 100.0));
    share.names(&mut svg, &[("l1", "exact or coalesced"), ("l2", "semantic"), ("l3", "all")]);
    let rate = |of: fn(&Span) -> usize| {
        let asked = hours.iter().enumerate().filter(|(_, span)| span.tally.asked > 0);
        asked.map(move |(hour, span)| (hour as f64 + 0.5, of(span) as f64 / span.tally.asked as f64))
    };
    share.line(&mut svg, "l1", rate(|span| span.tally.exact + span.tally.shared));
    share.line(&mut svg, "l2", rate(|span| span.tally.semantic));
    share.line(&mut svg, "l3", rate(|span| span.tally.hits()));
    put(
        &mut svg,
        format_args!(
            "<text x=\"{LEFT}\" y=\"{}\">time of day; the first day begins with an empty cache</text>",
            ALL - 24.0
        ),
    );
    svg.push_str("</svg>\n");
    svg
}

/// A round distance of ticks, so that there are five to ten.
fn step(most: f64) -> f64 {
    let rough = most / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    [5.0, 2.0].into_iter().map(|digit| digit * power).find(|step| *step <= rough).unwrap_or(power)
}

fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "{line}");
}
