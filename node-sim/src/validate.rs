//! `node-sim validate`: a report on how true the simulated field is, in tables, plots and checks.
//!
//! Each part of the simulator has a section: a function of a [`Scenario`] in a file of its own in `validate/`, and one line
//! in [`SECTIONS`]. A section says in a text what it compares with what, shows it, and holds what can be held against a
//! published number or a theory in a [`Check`]. The report is a page with its plots in it, each plot also as an SVG file, and
//! its tables on the terminal. The same configuration gives the same bytes: a section reads no clock, and no part writes
//! when or where it was made.

mod decisions;
mod energy;
mod faults;
mod firmware;
mod ground;
mod page;
mod plot;
mod radio;
mod replay;
mod scenario;
mod sensors;
mod soil;
mod space;
mod terminal;
mod weather;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

pub use plot::{Axis, Form, Plot, Series};
pub use scenario::Scenario;

/// A function that makes a section.
pub type Make = fn(&Scenario) -> anyhow::Result<Section>;

/// Every section, by the name that `--only` knows it by, in the order of the report.
pub const SECTIONS: &[(&str, Make)] = &[
    ("weather", weather::section), //
    ("space", space::section),
    ("soil", soil::section),
    ("ground", ground::section),
    ("decisions", decisions::section),
    ("sensors", sensors::section),
    ("faults", faults::section),
    ("firmware", firmware::section),
    ("energy", energy::section),
    ("radio", radio::section),
    ("replay", replay::section),
];

/// What the report says of one part.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// What is compared with what and where the numbers to compare with come from; paragraphs are set apart by empty lines.
    pub text: String,
    /// Its tables.
    pub tables: Vec<Table>,
    /// Its plots.
    pub plots: Vec<Plot>,
    /// What must hold.
    pub checks: Vec<Check>,
}

/// A table of texts. Each row has as many cells as the header.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// The columns' names, with their units.
    pub header: Vec<String>,
    /// The rows; the first cell names the row.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns and no rows.
    #[must_use]
    pub fn new(title: &str, header: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            header: header.iter().map(|name| (*name).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row: its name, and numbers with so many decimals.
    pub fn row(&mut self, name: impl Into<String>, decimals: usize, values: &[f64]) {
        let cells = values.iter().map(|value| format!("{value:.decimals$}"));
        self.rows.push(std::iter::once(name.into()).chain(cells).collect());
    }
}

/// Something that must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// What is checked, with its unit.
    pub what: String,
    /// What came out.
    pub value: String,
    /// What is allowed.
    pub limit: String,
    /// Whether it holds.
    pub holds: bool,
}

impl Check {
    /// A value that must be at most a limit. What is not a number does not hold.
    #[must_use]
    pub fn at_most(what: &str, value: f64, limit: f64) -> Self {
        Self::new(what, shown(value), format!("at most {}", shown(limit)), value <= limit)
    }

    /// A value that must be at least a limit.
    #[must_use]
    pub fn at_least(what: &str, value: f64, limit: f64) -> Self {
        Self::new(what, shown(value), format!("at least {}", shown(limit)), value >= limit)
    }

    /// A value that must lie in a range, its ends included.
    #[must_use]
    pub fn within(what: &str, value: f64, low: f64, high: f64) -> Self {
        let limit = format!("{} to {}", shown(low), shown(high));
        Self::new(what, shown(value), limit, (low..=high).contains(&value))
    }

    /// Anything else.
    #[must_use]
    pub fn new(what: &str, value: impl Into<String>, limit: impl Into<String>, holds: bool) -> Self {
        Self { what: what.to_owned(), value: value.into(), limit: limit.into(), holds }
    }
}

/// A number with four significant digits, without the zeros behind them; very small and very large ones with an exponent.
#[must_use]
pub fn shown(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    if !(1e-4..1e7).contains(&size) {
        return format!("{value:.2e}");
    }
    let decimals = (3 - size.log10().floor() as i32).clamp(0, 8) as usize;
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A whole report.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    sections: Vec<(String, Section)>,
}

impl Report {
    /// Makes the sections, all or those of these names.
    ///
    /// # Errors
    /// When a name is not one of the sections', or a section cannot be made.
    pub fn make(sections: &[(&str, Make)], scenario: &Scenario, only: &[String]) -> anyhow::Result<Self> {
        let known = || sections.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        if let Some(unknown) = only.iter().find(|wanted| sections.iter().all(|(name, _)| name != wanted)) {
            bail!("{unknown:?} is not one of the sections {}", known());
        }
        let wanted = |name: &str| only.is_empty() || only.iter().any(|wanted| wanted == name);
        let sections = sections
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, make)| {
                tracing::info!(section = name, "is made");
                Ok(((*name).to_owned(), make(scenario).with_context(|| format!("section {name}"))?))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { sections })
    }

    /// Whether every check holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.sections.iter().flat_map(|(_, section)| &section.checks).all(|check| check.holds)
    }

    /// Writes `report.html`, and each plot as `SECTION-PLOT.svg`, and gives back the page's path. Files of another report
    /// in the folder stay unless they have the same name.
    ///
    /// # Errors
    /// When a plot cannot be drawn or a file cannot be written.
    pub fn write(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(dir).with_context(|| format!("{dir:?}"))?;
        let write = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
            let path = dir.join(name);
            std::fs::write(&path, text).with_context(|| format!("{path:?}"))?;
            Ok(path)
        };
        let mut drawn = Vec::new();
        for (name, section) in &self.sections {
            let mut svgs = Vec::new();
            for plot in &section.plots {
                let svg = plot.svg().with_context(|| format!("plot {} of section {name}", plot.name))?;
                write(&format!("{name}-{}.svg", plot.name), &svg)?;
                svgs.push(svg);
            }
            drawn.push((name.as_str(), section, svgs));
        }
        write("report.html", &page::page(&drawn))
    }

    /// The tables and checks as a text for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        self.sections.iter().map(|(_, section)| terminal::section(section)).collect()
    }
}

/// How `node-sim validate` is started.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The configuration, TOML; its broker and its folders are not needed. Without one, the default farm.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A file of faults, instead of the configuration's.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// The folder to write to.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long the farm is looked at, from its start.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3660))]
    days: u32,
    /// Only this section; may be given more than once.
    #[arg(long, value_name = "SECTION")]
    only: Vec<String>,
}

/// Makes the report, writes it, prints its tables, and says whether every check holds.
///
/// # Errors
/// When the configuration is wrong, a section cannot be made, or a file cannot be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let Arguments { config, scenario, out, days, only } = arguments;
    let scenario = Scenario::read(config.as_deref(), scenario.as_deref(), *days)?;
    let report = Report::make(SECTIONS, &scenario, only)?;
    let page = report.write(out)?;
    print!("{}", report.text());
    println!("{}", page.display());
    Ok(report.holds())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(_: &Scenario) -> anyhow::Result<Section> {
        let mut table = Table::new("A table", &["row", "a & b"]);
        table.row("one", 2, &[1.0]);
        let series = [Series::new("a", Form::Line, vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0), (3.0, 2.0)])];
        Ok(Section {
            title: "A section".to_owned(),
            text: "What is <compared>.\n\nWith what.".to_owned(),
            tables: vec![table],
            plots: vec![Plot::new("plot", "A plot", Axis::numbers("x, m"), Axis::numbers("y, s"), series)],
            checks: vec![Check::at_most("below", 1.0, 2.0), Check::at_most("a number", f64::NAN, 2.0)],
        })
    }

    #[test]
    fn a_failed_check_fails_the_report_and_is_seen_on_the_page_and_on_the_terminal() {
        let scenario = Scenario::of(crate::FarmConfig::default(), 1).unwrap();
        let report = Report::make(&[("part", failing)], &scenario, &[]).unwrap();
        assert!(!report.holds());
        let dir = tempfile::tempdir().unwrap();
        let page = std::fs::read_to_string(report.write(dir.path()).unwrap()).unwrap();
        assert!(page.contains("What is &lt;compared&gt;.") && page.contains("a &amp; b"), "{page}");
        assert!(page.contains("fails") && page.contains("NaN") && page.contains("<svg"), "{page}");
        assert!(std::fs::read_to_string(dir.path().join("part-plot.svg")).unwrap().contains("y, s"));
        assert!(report.text().contains("fails") && report.text().contains("A table"), "{}", report.text());
        let error = Report::make(&[("part", failing)], &scenario, &["prat".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "\"prat\" is not one of the sections part");
    }

    #[test]
    fn numbers_are_shown_with_four_digits() {
        let texts = [0.0, 1.0, -0.012_345_6, 123.456, 98_765.4, 1.5e-9, 2.5e9].map(shown);
        assert_eq!(texts, ["0", "1", "-0.01235", "123.5", "98765", "1.50e-9", "2.50e9"]);
    }
}
