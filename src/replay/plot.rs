//! The trade-off as a picture: what a policy serves against what it serves wrongly. SVG, written by hand.
//!
//! Readable on light and dark pages: the colours follow the reader's preference, and without one it is a light picture.
//! Must never draw a point that was not measured: curves are straight lines between points.

use std::fmt::Write as _;

/// A picture with its axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// Title.
    pub title: String,
    /// Title of the horizontal axis.
    pub x_title: String,
    /// Title of the vertical axis.
    pub y_title: String,
    /// Whether the horizontal axis is logarithmic; points at 0 then stand at its left end.
    pub log_x: bool,
    /// What is drawn.
    pub series: Vec<Series>,
}

/// Points of one colour.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Points, both coordinates in percent, with a word beside them.
    pub points: Vec<(f64, f64, String)>,
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 690.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 490.0;

/// Colours in the style; further series begin again with the first.
const COLOURS: usize = 5;

const STYLE: &str = "\
.bg{fill:#ffffff}.grid{stroke:#e3e6ea;stroke-width:1}.axis{stroke:#57606a;stroke-width:1}\
text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:13px;fill:#24292f}\
.title{font-size:16px;font-weight:600}.word{font-size:10px;fill:#57606a}\
.line{fill:none;stroke-width:2}.dot{stroke:#ffffff;stroke-width:1}\
.l0{stroke:#6e7781}.l1{stroke:#0969da}.l2{stroke:#bc4c00}.l3{stroke:#1a7f37}.l4{stroke:#8250df}\
.d0{fill:#6e7781}.d1{fill:#0969da}.d2{fill:#bc4c00}.d3{fill:#1a7f37}.d4{fill:#8250df}\
@media (prefers-color-scheme:dark){.bg{fill:#0d1117}.grid{stroke:#272d36}.axis{stroke:#8b949e}text{fill:#e6edf3}\
.word{fill:#8b949e}.dot{stroke:#0d1117}.l0{stroke:#8b949e}.l1{stroke:#58a6ff}.l2{stroke:#f0883e}.l3{stroke:#3fb950}.l4{stroke:#bc8cff}\
.d0{fill:#8b949e}.d1{fill:#58a6ff}.d2{fill:#f0883e}.d3{fill:#3fb950}.d4{fill:#bc8cff}}";

/// How values become places on one axis.
struct Axis {
    low: f64,
    high: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.log { value.max(self.low).log10() } else { value };
        let (low, high) = (scale(self.low), scale(self.high));
        self.from + (scale(value) - low) / (high - low) * (self.to - self.from)
    }

    /// From 0 to the next round value above.
    fn linear(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let most = values.fold(1.0, f64::max);
        let step = step(most);
        Self { low: 0.0, high: (most / step).ceil() * step, log: false, from, to }
    }

    /// From below the least value above 0 to above the greatest, in steps of 1, 2, 5.
    fn logarithmic(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let positive = values.filter(|value| *value > 0.0);
        let least = positive.clone().fold(f64::INFINITY, f64::min).min(1.0);
        let most = positive.fold(0.0, f64::max).max(least * 10.0);
        Self { low: least / 2.0, high: most * 1.3, log: true, from, to }
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let decades = (-6..=3).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
            return decades.filter(|tick| *tick > self.low * 1.01 && *tick <= self.high).collect();
        }
        let step = step(self.high);
        std::iter::successors(Some(0.0), |tick| Some(tick + step))
            .take_while(|tick| *tick <= self.high + step / 100.0)
            .collect()
    }
}

/// A round distance of ticks, so that there are five to ten.
fn step(most: f64) -> f64 {
    let rough = most / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    [5.0, 2.0].into_iter().map(|digit| digit * power).find(|step| *step <= rough).unwrap_or(power)
}

impl Plot {
    /// The picture.
    pub fn to_svg(&self) -> String {
        let points = self.series.iter().flat_map(|series| &series.points);
        let xs = points.clone().map(|(x, _, _)| *x);
        let x = if self.log_x { Axis::logarithmic(xs, LEFT, RIGHT) } else { Axis::linear(xs, LEFT, RIGHT) };
        let y = Axis::linear(points.map(|(_, y, _)| *y), BOTTOM, TOP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             role=\"img\"><title>{title}</title><style>{STYLE}</style>\n<rect class=\"bg\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"28\">{title}</text>\n",
            title = escaped(&self.title)
        );
        self.axes(&mut svg, &x, &y);
        let mut words = Words::default();
        for (number, series) in self.series.iter().enumerate() {
            draw(&mut svg, series, number, &x, &y, &mut words);
            let at = TOP + 10.0 + 24.0 * number as f64;
            let class = number % COLOURS;
            put(
                &mut svg,
                format_args!(
                    "<path class=\"line l{class}\" d=\"M{} {at}h22\"/><circle class=\"dot d{class}\" cx=\"{}\" cy=\"{at}\" r=\"4\"/>\
                 <text x=\"{}\" y=\"{}\">{}</text>",
                    RIGHT + 20.0,
                    RIGHT + 31.0,
                    RIGHT + 50.0,
                    at + 4.0,
                    escaped(&series.name)
                ),
            );
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        for tick in y.ticks() {
            let at = y.at(tick);
            put(
                svg,
                format_args!(
                    "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                    LEFT - 8.0,
                    at + 4.0,
                    round(tick)
                ),
            );
        }
        for tick in x.ticks() {
            let at = x.at(tick);
            put(
                svg,
                format_args!(
                    "<path class=\"grid\" d=\"M{at:.1} {TOP}V{BOTTOM}\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                    BOTTOM + 20.0,
                    round(tick)
                ),
            );
        }
        if x.log {
            put(svg, format_args!("<text x=\"{LEFT}\" y=\"{}\" text-anchor=\"middle\">0</text>", BOTTOM + 20.0));
        }
        let (middle_x, middle_y) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
        put(
            svg,
            format_args!(
                "<path class=\"axis\" d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\" fill=\"none\"/>\
             <text x=\"{middle_x}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(22 {middle_y}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
                BOTTOM + 48.0,
                escaped(&self.x_title),
                escaped(&self.y_title)
            ),
        );
    }
}

/// Words already written, by their places. A word that would lie on another is left out.
#[derive(Default)]
struct Words(Vec<(f64, f64)>);

impl Words {
    fn has_room(&mut self, x: f64, y: f64) -> bool {
        let free = self.0.iter().all(|(other_x, other_y)| (x - other_x).abs() > 30.0 || (y - other_y).abs() > 11.0);
        if free {
            self.0.push((x, y));
        }
        free
    }
}

/// A line through the points in order of x, a dot at each, and a word beside it: for the first series above to the left,
/// for the others below to the right.
fn draw(svg: &mut String, series: &Series, number: usize, x: &Axis, y: &Axis, words: &mut Words) {
    let class = number % COLOURS;
    let mut points: Vec<&(f64, f64, String)> = series.points.iter().collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let path: Vec<String> = points.iter().map(|(px, py, _)| format!("{:.1} {:.1}", x.at(*px), y.at(*py))).collect();
    if path.len() > 1 {
        put(svg, format_args!("<path class=\"line l{class}\" d=\"M{}\"/>", path.join("L")));
    }
    let radius = if path.len() > 1 { 4 } else { 6 };
    for (px, py, word) in points {
        let (at_x, at_y) = (x.at(*px), y.at(*py));
        put(svg, format_args!("<circle class=\"dot d{class}\" cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"{radius}\"/>"));
        let above = number == 0 && at_x > LEFT + 40.0;
        let (word_x, word_y, anchor) =
            if above { (at_x - 6.0, at_y - 6.0, "end") } else { (at_x + 7.0, at_y + 12.0, "start") };
        let middle = if above { word_x - 12.0 } else { word_x + 12.0 };
        if word_y < BOTTOM && !word.is_empty() && words.has_room(middle, word_y) {
            let word = escaped(word);
            put(
                svg,
                format_args!(
                    "<text class=\"word\" x=\"{word_x:.1}\" y=\"{word_y:.1}\" text-anchor=\"{anchor}\">{word}</text>"
                ),
            );
        }
    }
}

fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "{line}");
}

/// Without the digits that binary fractions add.
fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(log_x: bool, points: &[(f64, f64)]) -> String {
        let points = points.iter().map(|(x, y)| (*x, *y, "w<1".to_owned())).collect();
        let series = vec![Series { name: "a & b".into(), points }];
        Plot { title: "T".into(), x_title: "X".into(), y_title: "Y".into(), log_x, series }.to_svg()
    }

    #[test]
    fn every_point_is_inside_the_axes_also_at_zero_and_words_are_escaped() {
        for log in [true, false] {
            let svg = plot(log, &[(0.0, 0.0), (0.03, 10.7), (2.6, 56.5), (9.0, 100.0)]);
            let number = |text: &str| text.split('"').next().unwrap().parse::<f64>().unwrap();
            let dots: Vec<(f64, f64)> = svg
                .lines()
                .filter(|line| line.starts_with("<circle"))
                .map(|line| (number(line.split("cx=\"").nth(1).unwrap()), number(line.split("cy=\"").nth(1).unwrap())))
                .collect();
            assert_eq!(dots.len(), 4);
            assert!(dots.iter().all(|(x, y)| (LEFT..=RIGHT).contains(x) && (TOP..=BOTTOM).contains(y)), "{dots:?}");
            assert!(dots.is_sorted_by(|a, b| a.0 < b.0 && a.1 > b.1));
            assert!(
                svg.contains("a &amp; b") && svg.contains("w&lt;1") && !svg.contains("NaN") && !svg.contains("inf")
            );
        }
    }

    #[test]
    fn no_points_and_a_single_point_are_pictures_too() {
        for svg in [plot(true, &[]), plot(true, &[(0.0, 5.0)]), plot(false, &[(3.0, 0.0)])] {
            assert!(
                svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf")
            );
        }
    }

    #[test]
    fn five_series_have_five_colours_in_light_and_in_dark() {
        let series = |name: &str| Series { name: name.into(), points: vec![(1.0, 1.0, String::new())] };
        let series = ["a", "b", "c", "d", "e"].map(series).to_vec();
        let plot = Plot { title: String::new(), x_title: String::new(), y_title: String::new(), log_x: false, series };
        let svg = plot.to_svg();
        for colour in 0..5 {
            assert_eq!(svg.matches(&format!("class=\"dot d{colour}\"")).count(), 2, "a point and its legend");
            assert_eq!(STYLE.matches(&format!(".d{colour}{{fill:#")).count(), 2);
            assert_eq!(STYLE.matches(&format!(".l{colour}{{stroke:#")).count(), 2);
        }
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(Axis::linear([56.5].into_iter(), 0.0, 1.0).ticks(), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        let ticks = Axis::logarithmic([0.03, 2.6].into_iter(), 0.0, 1.0).ticks();
        assert_eq!(ticks.iter().map(|tick| round(*tick)).collect::<Vec<_>>(), [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0]);
    }
}
