//! Plots as inline SVG: bars of medians, lines over settings, spans of latencies, ratios.
//!
//! A plot is 360 units wide, so that its text can still be read on a telephone. Colours are the page's, by class, which
//! makes one plot serve light, dark and paper. What the pointer shows stands in each mark's title.

use std::fmt::Write;

use super::html::escape;
use crate::statistics::{Interval, Sample};

const WIDTH: f64 = 360.0;

/// How many colours there are; more series than that share them.
pub(super) const COLOURS: usize = 6;

/// How a number of this plot is written.
pub(super) type Format<'f> = &'f dyn Fn(f64) -> String;

/// A median, its interval, and all that it is the median of.
#[derive(Clone)]
pub(super) struct Mark {
    pub(super) interval: Interval,
    pub(super) all: Vec<f64>,
}

impl Mark {
    /// At the level of the bootstrap interval.
    pub(super) fn of(sample: &Sample) -> Self {
        Self { interval: sample.median_interval(0.95), all: sample.values().to_vec() }
    }

    /// A number that nothing is known about.
    pub(super) fn alone(value: f64) -> Self {
        Self { interval: Interval { estimate: value, low: value, high: value }, all: Vec::new() }
    }

    fn highest(&self) -> f64 {
        self.all.iter().copied().fold(self.interval.high, f64::max)
    }

    fn lowest(&self) -> f64 {
        self.all.iter().copied().fold(self.interval.low, f64::min)
    }

    /// `312 k [300 k..320 k], 5 rounds`.
    pub(super) fn told(&self, format: Format<'_>) -> String {
        let Interval { estimate, low, high } = self.interval;
        let mut text = format(estimate);
        if self.all.len() > 1 {
            let _ = write!(text, "\n95 %: {} to {}\n{} rounds", format(low), format(high), self.all.len());
        }
        text
    }
}

/// A bar and its name.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) colour: usize,
    pub(super) mark: Mark,
}

/// A range of numbers and where they lie.
struct Axis {
    low: f64,
    high: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Axis {
    /// From zero to a little more than `high`.
    fn linear(high: f64, from: f64, to: f64) -> Self {
        Self { low: 0.0, high: if high > 0.0 { high * 1.04 } else { 1.0 }, log: false, from, to }
    }

    fn logarithmic(low: f64, high: f64, from: f64, to: f64) -> Self {
        let low = low.max(f64::MIN_POSITIVE);
        Self { low: low / 1.15, high: high.max(low) * 1.15, log: true, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let part = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round numbers, about `count` of them.
    fn ticks(&self, count: usize) -> Vec<f64> {
        if self.log {
            let mut ticks = powers(self.low, self.high, &[1.0]);
            if ticks.len() < 3 {
                ticks = powers(self.low, self.high, &[1.0, 2.0, 5.0]);
            }
            let every = ticks.len().div_ceil(count + 1).max(1);
            return ticks.into_iter().step_by(every).collect();
        }
        let rough = (self.high - self.low) / count as f64;
        let magnitude = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].iter().map(|step| step * magnitude).find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        (0..=(self.high / step) as usize).map(|k| k as f64 * step).collect()
    }
}

/// `steps` times powers of ten between two numbers.
fn powers(low: f64, high: f64, steps: &[f64]) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let all = (first..=last).flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
    all.filter(|tick| (low..=high).contains(tick)).collect()
}

/// The element around a plot.
fn frame(title: &str, height: f64, content: &str) -> String {
    // Titles are larger than labels, and bold.
    let (whole, seen) = (escape(title), short(title, WIDTH * LETTER / 7.2));
    format!(
        "<svg class=plot viewBox=\"0 0 {WIDTH} {height}\" role=img aria-label=\"{whole}\"><text class=t x=0 y=13>{seen}\
         </text>\n{content}</svg>\n"
    )
}

/// A mark with what the pointer shows.
fn mark(colour: usize, told: &str, content: &str) -> String {
    format!("<g class=\"m c{}\"><title>{}</title>{content}</g>\n", colour % COLOURS, escape(told))
}

/// The width of a label's letter.
const LETTER: f64 = 6.4;

/// A label that fits into `width` units.
fn short(label: &str, width: f64) -> String {
    let fits = (width / LETTER) as usize;
    if label.chars().count() <= fits {
        return escape(label).into_owned();
    }
    let cut: String = label.chars().take(fits.saturating_sub(1)).collect();
    format!("{}…", escape(&cut))
}

/// Where marks begin beside labels: what the longest of these needs, as far as the marks can do with the rest.
fn beside<'l>(labels: impl Iterator<Item = &'l String>) -> f64 {
    let longest = labels.map(|label| label.chars().count()).max().unwrap_or(0);
    (longest as f64 * LETTER + 9.0).clamp(100.0, 172.0)
}

/// Vertical lines with numbers below, for plots whose values go to the right.
fn columns(axis: &Axis, bottom: f64, format: Format<'_>) -> String {
    let mut svg = String::new();
    let mut free = f64::NEG_INFINITY;
    for tick in axis.ticks(3) {
        let x = axis.at(tick);
        let _ = write!(svg, "<path class=g d=\"M{x:.1} 24V{bottom:.0}\"/>");
        let text = format(tick);
        let half = text.chars().count() as f64 * 3.4;
        if x - half > free && x + half <= WIDTH + 4.0 {
            free = x + half + 6.0;
            let _ = write!(
                svg,
                "<text x={x:.1} y={:.0} text-anchor=middle>{}</text>",
                bottom + 15.0,
                escape(&text)
            );
        }
    }
    svg.push('\n');
    svg
}

/// Bars from zero: median, interval, and each round as a dot.
pub(super) fn bars(title: &str, bars: &[Bar], format: Format<'_>) -> String {
    const STEP: f64 = 26.0;
    let high = bars.iter().map(|bar| bar.mark.highest()).fold(0.0, f64::max);
    let labels = beside(bars.iter().map(|bar| &bar.label));
    let axis = Axis::linear(high, labels, WIDTH - 62.0);
    let bottom = 28.0 + STEP * bars.len() as f64;
    let mut svg = columns(&axis, bottom, format);
    for (row, Bar { label, colour, mark: of }) in bars.iter().enumerate() {
        let y = 28.0 + STEP * (row as f64 + 0.5);
        let Interval { estimate, low, high } = of.interval;
        let (zero, x, low, high) = (axis.at(0.0), axis.at(estimate), axis.at(low), axis.at(high));
        let mut content = format!("<rect class=h x=0 y={:.1} width={WIDTH} height={STEP} />", y - STEP / 2.0);
        let _ = write!(content, "<text x=0 y={:.1}>{}</text>", y + 4.0, short(label, labels - 8.0));
        let _ = write!(
            content,
            "<rect class=b x={zero:.1} y={:.1} width={:.1} height=16 rx=2 />",
            y - 8.0,
            x - zero
        );
        for value in &of.all {
            let _ = write!(content, "<circle class=o cx={:.1} cy={y:.1} r=2.2 />", axis.at(*value));
        }
        let _ = write!(content, "<path class=w d=\"M{low:.1} {y:.1}H{high:.1}\"/>");
        let _ = write!(content, "<rect class=f x={:.1} y={:.1} width=3 height=16 />", x - 1.5, y - 8.0);
        let _ = write!(
            content,
            "<text class=v x={WIDTH} y={:.1} text-anchor=end>{}</text>",
            y + 4.0,
            escape(&format(estimate))
        );
        svg.push_str(&mark(*colour, &format!("{label}: {}", of.told(format)), &content));
    }
    frame(title, bottom + 22.0, &svg)
}

/// A line over settings: the place of each setting and its mark.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) colour: usize,
    pub(super) dashed: bool,
    pub(super) points: Vec<(usize, Mark)>,
}

/// Lines over settings that stand at equal distances.
pub(super) fn lines(
    title: &str,
    across: &str,
    settings: &[String],
    lines: &[Line],
    log: bool,
    format: Format<'_>,
) -> String {
    const HEIGHT: f64 = 262.0;
    let (left, right, top, bottom) = (58.0, WIDTH - 14.0, 28.0, HEIGHT - 40.0);
    let marks = || lines.iter().flat_map(|line| &line.points).map(|(_, mark)| mark);
    let high = marks().map(Mark::highest).fold(0.0, f64::max);
    let low = marks().map(Mark::lowest).fold(f64::INFINITY, f64::min);
    let axis = if log { Axis::logarithmic(low, high, bottom, top) } else { Axis::linear(high, bottom, top) };
    let x = |place: usize| {
        let steps = settings.len().saturating_sub(1).max(1) as f64;
        left + 12.0 + place as f64 * (right - left - 24.0) / steps
    };
    let mut svg = String::new();
    for tick in axis.ticks(5) {
        let y = axis.at(tick);
        let _ = write!(
            svg,
            "<path class=g d=\"M{left} {y:.1}H{right}\"/><text x={} y={:.1} text-anchor=end>{}</text>",
            left - 8.0,
            y + 4.0,
            escape(&format(tick))
        );
    }
    let every = settings.len().div_ceil(9).max(1);
    for (place, setting) in settings.iter().enumerate().step_by(every) {
        let _ = write!(
            svg,
            "<text x={:.1} y={} text-anchor=middle>{}</text>",
            x(place),
            bottom + 17.0,
            escape(setting)
        );
    }
    let middle = (left + right) / 2.0;
    let _ =
        writeln!(svg, "<text x={middle} y={} text-anchor=middle>{}</text>", bottom + 34.0, escape(across));
    for line in lines {
        let path: Vec<String> = (line.points.iter())
            .map(|(place, mark)| format!("{:.1} {:.1}", x(*place), axis.at(mark.interval.estimate)))
            .collect();
        let dashed = if line.dashed { " d" } else { "" };
        let _ = writeln!(
            svg,
            "<g class=c{}><path class=\"l{dashed}\" d=\"M{}\"/></g>",
            line.colour % COLOURS,
            path.join("L")
        );
        for (place, of) in &line.points {
            let (x, y) = (x(*place), axis.at(of.interval.estimate));
            let content = format!(
                "<circle class=h cx={x:.1} cy={y:.1} r=11 /><path class=w d=\"M{x:.1} {:.1}V{:.1}\"/>{}",
                axis.at(of.interval.low),
                axis.at(of.interval.high),
                shape(line.colour, x, y)
            );
            let told = format!("{}, {across} {}: {}", line.label, settings[*place], of.told(format));
            svg.push_str(&mark(line.colour, &told, &content));
        }
    }
    frame(title, HEIGHT, &svg)
}

/// A form for each colour, for those who do not tell the colours apart.
fn shape(colour: usize, x: f64, y: f64) -> String {
    match colour % COLOURS {
        0 => format!("<circle class=f cx={x:.1} cy={y:.1} r=4 />"),
        1 => format!("<rect class=f x={:.1} y={:.1} width=7.4 height=7.4 />", x - 3.7, y - 3.7),
        2 => format!("<path class=f d=\"M{x:.1} {:.1}l4.8 8.4h-9.6z\"/>", y - 5.4),
        3 => format!("<path class=f d=\"M{x:.1} {:.1}l5.2 5.2l-5.2 5.2l-5.2 -5.2z\"/>", y - 5.2),
        4 => format!("<path class=f d=\"M{x:.1} {:.1}l4.8 -8.4h-9.6z\"/>", y + 5.4),
        _ => format!("<rect class=f x={:.1} y={:.1} width=10 height=4.6 />", x - 5.0, y - 2.3),
    }
}

/// Latencies of one thing.
pub(super) struct Span {
    pub(super) label: String,
    pub(super) colour: usize,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// From the median over the 99th percentile to the worst, on a logarithmic scale.
pub(super) fn spans(title: &str, spans: &[Span], format: Format<'_>) -> String {
    const STEP: f64 = 26.0;
    let low = spans.iter().map(|span| span.p50).fold(f64::INFINITY, f64::min);
    let high = spans.iter().map(|span| span.max).fold(0.0, f64::max);
    let labels = beside(spans.iter().map(|span| &span.label));
    let axis = Axis::logarithmic(low, high, labels, WIDTH - 14.0);
    let bottom = 28.0 + STEP * spans.len() as f64;
    let mut svg = columns(&axis, bottom, format);
    for (row, Span { label, colour, p50, p99, max }) in spans.iter().enumerate() {
        let y = 28.0 + STEP * (row as f64 + 0.5);
        let (a, b, c) = (axis.at(*p50), axis.at(*p99), axis.at(*max));
        let content = format!(
            "<rect class=h x=0 y={:.1} width={WIDTH} height={STEP} /><text x=0 y={:.1}>{}</text>\
             <path class=w d=\"M{b:.1} {y:.1}H{c:.1}\"/><rect class=b x={a:.1} y={:.1} width={:.1} height=10 />\
             <rect class=f x={:.1} y={:.1} width=3 height=16 /><circle class=f cx={b:.1} cy={y:.1} r=4 />\
             <path class=w d=\"M{c:.1} {:.1}v10\"/>",
            y - STEP / 2.0,
            y + 4.0,
            short(label, labels - 8.0),
            y - 5.0,
            (b - a).max(0.0),
            a - 1.5,
            y - 8.0,
            y - 5.0
        );
        let told = format!("{label}\np50 {}\np99 {}\nmax {}", format(*p50), format(*p99), format(*max));
        svg.push_str(&mark(*colour, &told, &content));
    }
    frame(title, bottom + 22.0, &svg)
}

/// A ratio, its interval where there is one, and what is to be thought of it.
pub(super) struct Ratio {
    pub(super) label: String,
    pub(super) ratio: f64,
    pub(super) interval: Option<(f64, f64)>,
    /// `good`, `bad` or `same`: classes of the page.
    pub(super) class: &'static str,
    pub(super) told: String,
}

/// Ratios around 1, on a logarithmic scale.
pub(super) fn ratios(title: &str, ratios: &[Ratio]) -> String {
    const STEP: f64 = 26.0;
    // Grey intervals that are wide must not make the others small: they may reach over the end.
    let called = ratios.iter().any(|ratio| ratio.class != "same");
    let ends = ratios.iter().filter(|ratio| !called || ratio.class != "same").flat_map(|ratio| {
        let (low, high) = ratio.interval.unwrap_or((ratio.ratio, ratio.ratio));
        [low.ln().abs(), high.ln().abs(), ratio.ratio.ln().abs()]
    });
    let far = ends.filter(|far| far.is_finite()).fold(0.02, f64::max).min(7.0).exp();
    let labels = beside(ratios.iter().map(|ratio| &ratio.label));
    let axis =
        Axis { low: 1.0 / far.powf(1.1), high: far.powf(1.1), log: true, from: labels, to: WIDTH - 58.0 };
    let bottom = 28.0 + STEP * ratios.len() as f64;
    let mut svg = String::new();
    let steps = [1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 5.0, 10.0, 100.0];
    // The largest that lies inside, so that three numbers stand below: its inverse, 1 and itself.
    let step = steps.iter().rev().find(|step| **step <= far).copied().unwrap_or(1.01);
    for tick in [1.0 / step, 1.0, step] {
        let x = axis.at(tick);
        let class = if tick == 1.0 { "one" } else { "g" };
        let _ = write!(
            svg,
            "<path class={class} d=\"M{x:.1} 24V{bottom:.0}\"/><text x={x:.1} y={:.0} text-anchor=middle>{tick:.2}</text>",
            bottom + 15.0
        );
    }
    svg.push('\n');
    for (row, Ratio { label, ratio, interval, class, told }) in ratios.iter().enumerate() {
        let y = 28.0 + STEP * (row as f64 + 0.5);
        let x = axis.at(*ratio);
        let mut content = format!("<rect class=h x=0 y={:.1} width={WIDTH} height={STEP} />", y - STEP / 2.0);
        let _ = write!(content, "<text x=0 y={:.1}>{}</text>", y + 4.0, short(label, labels - 8.0));
        if let Some((low, high)) = interval {
            let _ =
                write!(content, "<path class=w d=\"M{:.1} {y:.1}H{:.1}\"/>", axis.at(*low), axis.at(*high));
        }
        let _ = write!(content, "<circle class=f cx={x:.1} cy={y:.1} r=4.5 />");
        let _ = write!(content, "<text class=v x={WIDTH} y={:.1} text-anchor=end>{ratio:.3}</text>", y + 4.0);
        let _ = writeln!(svg, "<g class=\"m {class}\"><title>{}</title>{content}</g>", escape(told));
    }
    frame(title, bottom + 22.0, &svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let linear = Axis::linear(471_000.0, 0.0, 100.0);
        assert_eq!(linear.ticks(4), [0.0, 200_000.0, 400_000.0]);
        let log = Axis::logarithmic(900.0, 2e6, 0.0, 100.0);
        assert!(log.ticks(4).iter().all(|tick| (700.0..3e6).contains(tick)));
        assert!(log.ticks(4).len() <= 5);
        assert!(Axis::logarithmic(100.0, 100.0, 0.0, 1.0).ticks(4).len() <= 5);
    }

    #[test]
    fn values_lie_where_the_axis_says() {
        let axis = Axis::logarithmic(1.15, 100.0 / 1.15, 0.0, 100.0);
        assert!((axis.at(10.0) - 50.0).abs() < 1e-9, "{}", axis.at(10.0));
        assert_eq!((axis.at(0.0), axis.at(1e9)), (0.0, 100.0));
        let axis = Axis::linear(0.0, 10.0, 20.0);
        assert!(axis.at(0.0).is_finite());
    }

    #[test]
    fn long_labels_are_cut_and_escaped() {
        assert_eq!(short("lz4", 64.0), "lz4");
        assert_eq!(short("<deflate-dynamic>", 64.0), "&lt;deflate-…");
        for (label, seen) in [
            ("load at random, wall", "load at random, wall"),
            ("deflate on model: 1 device of profile spr", "deflate on model: 1 devi…"),
        ] {
            let labels = beside([label.to_owned()].iter());
            assert_eq!(short(label, labels - 8.0), seen);
        }
    }
}
