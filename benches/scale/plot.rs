//! Panels with two logarithmic axes, as SVG: a straight line at 45 degrees is what grows linearly, a flat one what does
//! not grow.
//!
//! Both axes have the same length for a decade. Drawn in the style of the program's own plots; never a point that was not
//! measured.

use std::fmt::Write as _;

/// What is drawn in one pair of axes.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    /// Unit of the vertical axis.
    pub(crate) unit: &'static str,
    pub(crate) lines: Vec<Line>,
}

/// Points of one colour: entries, value.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 400.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 380.0;
const TOP: f64 = 78.0;
/// Height of a panel's axes.
const HEIGHT: f64 = 380.0;
const BOTTOM: f64 = TOP + HEIGHT;
/// Below the axes: titles and the legend.
const BELOW: f64 = 170.0;

const STYLE: &str = "\
.bg{fill:#ffffff}.grid{stroke:#e3e6ea;stroke-width:1}.axis{stroke:#57606a;stroke-width:1;fill:none}\
.guide{stroke:#8c959f;stroke-width:1;stroke-dasharray:4 4;fill:none}\
text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:12px;fill:#24292f}\
.title{font-size:14px;font-weight:600}.word{font-size:10px;fill:#57606a}.line{fill:none;stroke-width:2}\
.l0{stroke:#6e7781}.l1{stroke:#0969da}.l2{stroke:#bc4c00}.l3{stroke:#1a7f37}\
.d0{fill:#6e7781}.d1{fill:#0969da}.d2{fill:#bc4c00}.d3{fill:#1a7f37}\
@media (prefers-color-scheme:dark){.bg{fill:#0d1117}.grid{stroke:#272d36}.axis{stroke:#8b949e}.guide{stroke:#6e7681}text{fill:#e6edf3}\
.word{fill:#8b949e}.l0{stroke:#8b949e}.l1{stroke:#58a6ff}.l2{stroke:#f0883e}.l3{stroke:#3fb950}\
.d0{fill:#8b949e}.d1{fill:#58a6ff}.d2{fill:#f0883e}.d3{fill:#3fb950}}";

/// A logarithmic axis over whole decades.
struct Axis {
    low: i32,
    high: i32,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: &[f64], from: f64, to: f64) -> Self {
        let exponents = values.iter().filter(|value| **value > 0.0).map(|value| value.log10());
        let low = exponents.clone().fold(f64::INFINITY, f64::min).floor().clamp(-9.0, 12.0) as i32;
        let high = exponents.fold(f64::NEG_INFINITY, f64::max).ceil().clamp(-9.0, 12.0) as i32;
        Self { low: low.min(high), high: high.max(low + 1), from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        (self.low..=self.high).map(|exponent| 10_f64.powi(exponent))
    }
}

/// All panels beside each other.
pub(crate) fn draw(panels: &[Panel]) -> String {
    let (width, height) = (WIDTH * panels.len() as f64, BOTTOM + BELOW);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\
         <title>What grows with the number of entries</title><style>{STYLE}</style>\n\
         <rect class=\"bg\" width=\"{width}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"26\">What grows with the number of entries (both axes logarithmic; dashed: linear growth)</text>\n"
    );
    for (number, panel) in panels.iter().enumerate() {
        put(&mut svg, format_args!("<g transform=\"translate({} 0)\">", WIDTH * number as f64));
        one(&mut svg, panel);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn one(svg: &mut String, panel: &Panel) {
    let points = || panel.lines.iter().flat_map(|line| line.points.iter());
    let x = Axis::over(&points().map(|point| point.0).collect::<Vec<_>>(), LEFT, RIGHT);
    let y = Axis::over(&points().map(|point| point.1).collect::<Vec<_>>(), BOTTOM, TOP);
    for tick in x.decades() {
        let (at, below, text) = (x.at(tick), BOTTOM + 18.0, round(tick));
        put(
            svg,
            format_args!(
                "<path class=\"grid\" d=\"M{at:.1} {TOP}V{BOTTOM}\"/><text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{text}</text>"
            ),
        );
    }
    for tick in y.decades() {
        let (at, beside, text) = (y.at(tick), LEFT - 6.0, round(tick));
        put(
            svg,
            format_args!(
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/><text x=\"{beside}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                at + 4.0
            ),
        );
    }
    put(
        svg,
        format_args!(
            "<path class=\"axis\" d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\"/><text class=\"title\" x=\"{LEFT}\" y=\"{}\">{}, {}</text>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">entries</text>",
            TOP - 18.0,
            panel.title,
            panel.unit,
            (LEFT + RIGHT) / 2.0,
            BOTTOM + 38.0
        ),
    );
    for (number, line) in panel.lines.iter().enumerate() {
        let at = BOTTOM + 64.0 + 22.0 * number as f64;
        let (class, mid, beside) = (number % 4, LEFT + 11.0, LEFT + 32.0);
        put(
            svg,
            format_args!(
                "<path class=\"line l{class}\" d=\"M{LEFT} {at}h22\"/><circle class=\"d{class}\" cx=\"{mid}\" cy=\"{at}\" r=\"3.5\"/><text x=\"{beside}\" y=\"{:.1}\">{}</text>",
                at + 4.0,
                line.name
            ),
        );
        let Some((first, last)) = line.points.first().zip(line.points.last()) else { continue };
        // As if it grew linearly from its first point on, as far as the axes go.
        let end = last.0.min(first.0 * 10_f64.powi(y.high) / first.1);
        put(
            svg,
            format_args!(
                "<path class=\"guide\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
                x.at(first.0),
                y.at(first.1),
                x.at(end),
                y.at(first.1 * end / first.0)
            ),
        );
        let path: Vec<String> =
            line.points.iter().map(|(px, py)| format!("{:.1} {:.1}", x.at(*px), y.at(*py))).collect();
        put(svg, format_args!("<path class=\"line l{class}\" d=\"M{}\"/>", path.join("L")));
        for (px, py) in &line.points {
            put(
                svg,
                format_args!("<circle class=\"d{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"/>", x.at(*px), y.at(*py)),
            );
        }
        put(
            svg,
            format_args!(
                "<text class=\"word\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                x.at(last.0) - 5.0,
                y.at(last.1) - 6.0,
                crate::report::short(last.1)
            ),
        );
    }
}

/// A power of ten without the digits that binary fractions add, with marks between thousands.
fn round(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.0} M", value / 1e6),
        value if value >= 1e3 => format!("{:.0} k", value / 1e3),
        value => format!("{}", (value * 1e9).round() / 1e9),
    }
}

fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "{line}");
}
