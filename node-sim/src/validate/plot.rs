//! Plots: what is drawn, and the drawing of it as SVG by the `plotters` crate.

use std::ops::Range;

use plotters::prelude::*;
use plotters::style::full_palette::{BLUE_700, GREEN_700, GREY_300, GREY_700, ORANGE_800, PURPLE_500, RED_600};

/// The size of a plot, pixels.
const SIZE: (u32, u32) = (780, 320);
/// What the series are drawn in, in their order.
const COLOURS: [RGBColor; 6] = [BLUE_700, ORANGE_800, GREEN_700, PURPLE_500, RED_600, GREY_700];

/// A plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// Its name among those of its section, fit for a file's name: `a-z`, `0-9` and `-`.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// The axis from left to right.
    pub x: Axis,
    /// The axis from below to above.
    pub y: Axis,
    /// What is drawn, one over the other.
    pub series: Vec<Series>,
}

/// An axis.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Axis {
    /// What it is, with its unit.
    pub label: String,
    /// Names for 0, 1, 2, … instead of numbers.
    pub names: Vec<String>,
    /// From where to where it reaches; unless given, over what is drawn.
    pub range: Option<(f64, f64)>,
}

impl Axis {
    /// An axis of numbers over what is drawn.
    #[must_use]
    pub fn numbers(label: &str) -> Self {
        Self { label: label.to_owned(), ..Self::default() }
    }

    /// An axis of numbers from one to another.
    #[must_use]
    pub fn from_to(label: &str, low: f64, high: f64) -> Self {
        Self { range: Some((low, high)), ..Self::numbers(label) }
    }

    /// An axis with names for 0, 1, 2, ….
    #[must_use]
    pub fn names(label: &str, names: impl IntoIterator<Item = String>) -> Self {
        let names: Vec<String> = names.into_iter().collect();
        let range = Some((-0.5, names.len() as f64 - 0.5));
        Self { label: label.to_owned(), names, range }
    }

    /// The months, January at 0.
    #[must_use]
    pub fn months() -> Self {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        Self::names("", MONTHS.map(str::to_owned))
    }
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A line through the points. A point that is not finite interrupts it.
    Line,
    /// The points.
    Points,
    /// A bar from zero for each point; those of several series stand side by side.
    Bars,
}

/// Points that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// How it is drawn.
    pub form: Form,
    /// The points.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// A series.
    #[must_use]
    pub fn new(name: &str, form: Form, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), form, points }
    }

    /// A series of values at 0, 1, 2, ….
    #[must_use]
    pub fn over_names(name: &str, form: Form, values: &[f64]) -> Self {
        Self::new(name, form, values.iter().enumerate().map(|(at, &value)| (at as f64, value)).collect())
    }

    fn finite(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite())
    }
}

impl Plot {
    /// A plot.
    #[must_use]
    pub fn new(name: &str, title: &str, x: Axis, y: Axis, series: impl IntoIterator<Item = Series>) -> Self {
        Self { name: name.to_owned(), title: title.to_owned(), x, y, series: series.into_iter().collect() }
    }

    /// The drawing, an SVG document.
    ///
    /// # Errors
    /// When it cannot be drawn.
    pub fn svg(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        self.draw(SVGBackend::with_string(&mut text, SIZE))?;
        Ok(text)
    }

    fn draw(&self, backend: SVGBackend<'_>) -> anyhow::Result<()> {
        let area = backend.into_drawing_area();
        area.fill(&WHITE)?;
        let x = self.x.range.map_or_else(|| self.over(|point| point.0, 0.0), |(low, high)| low..high);
        let y = self.y.range.map_or_else(|| self.over(|point| point.1, 0.05), |(low, high)| low..high);
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 16))
            .margin(10)
            .margin_right(20)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(x.clone(), y.clone())?;
        let label = |axis: &Axis, range: &Range<f64>, value: f64| match axis.names.is_empty() {
            true => number(value, range.end - range.start),
            false if (value - value.round()).abs() > 1e-6 => String::new(),
            false => axis.names.get(value.round() as usize).filter(|_| value > -0.5).cloned().unwrap_or_default(),
        };
        let (x_label, y_label) = (|value: &f64| label(&self.x, &x, *value), |value: &f64| label(&self.y, &y, *value));
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(&self.x.label).y_desc(&self.y.label).label_style(("sans-serif", 12)).axis_style(GREY_700);
        mesh.bold_line_style(GREY_300).light_line_style(TRANSPARENT).x_label_formatter(&x_label);
        mesh.y_label_formatter(&y_label).x_labels(self.x.names.len().max(12)).y_labels(7).draw()?;

        let bars = self.series.iter().filter(|series| series.form == Form::Bars).count().max(1) as f64;
        let mut bar = 0.0;
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            match series.form {
                Form::Line => {
                    for piece in series.points.split(|(x, y)| !(x.is_finite() && y.is_finite())) {
                        chart.draw_series(LineSeries::new(piece.iter().copied(), colour.stroke_width(2)))?;
                    }
                }
                Form::Points => {
                    chart.draw_series(series.finite().map(|point| Circle::new(point, 2, colour.filled())))?;
                }
                Form::Bars => {
                    let (left, right) = (0.8 * bar / bars - 0.4, 0.8 * (bar + 1.0) / bars - 0.4);
                    bar += 1.0;
                    let rectangle = |(x, y)| Rectangle::new([(x + left, 0.0), (x + right, y)], colour.filled());
                    chart.draw_series(series.finite().map(rectangle))?;
                }
            }
            let mark = move |(x, y)| Rectangle::new([(x, y - 3), (x + 14, y + 3)], colour.filled());
            chart.draw_series(std::iter::empty::<Circle<(f64, f64), i32>>())?.label(&series.name).legend(mark);
        }
        if self.series.len() > 1 {
            let mut legend = chart.configure_series_labels();
            legend.position(SeriesLabelPosition::UpperRight).label_font(("sans-serif", 12)).margin(6);
            legend.background_style(WHITE.mix(0.85)).border_style(GREY_300).draw()?;
        }
        area.present()?;
        Ok(())
    }

    /// From the least to the greatest of what is drawn, with so large a share of it to spare on both sides; bars begin at 0.
    fn over(&self, of: impl Fn(&(f64, f64)) -> f64, spare: f64) -> Range<f64> {
        let bars = self.series.iter().any(|series| series.form == Form::Bars);
        let values = self.series.iter().flat_map(Series::finite).map(|point| of(&point));
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let (low, high) = if bars { (low.min(0.0), high.max(0.0)) } else { (low, high) };
        // A range of no width cannot be drawn.
        let width = if high > low { high - low } else { low.abs().max(1.0) };
        let below = if bars && low == 0.0 { 0.0 } else { spare * width };
        (low - below)..(low + width + spare * width)
    }
}

/// A number beside an axis, with the decimals that tell one from the next.
fn number(value: f64, span: f64) -> String {
    let decimals = (1 - span.log10().floor() as i32).clamp(0, 8) as usize;
    let text = format!("{value:.decimals$}");
    // A zero that the mesh has computed may be a negative one.
    if text.trim_start_matches('-').chars().all(|c| matches!(c, '0' | '.')) { "0".to_owned() } else { text }
}
