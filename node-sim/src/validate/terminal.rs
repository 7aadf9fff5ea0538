//! A section on a terminal: its tables and checks. Plots are only on the page.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, presets::ASCII_MARKDOWN};

use super::{Section, Table};

pub(super) fn section(section: &Section) -> String {
    let mut text = format!("\n# {}\n", section.title);
    for table in &section.tables {
        let _ = write!(text, "\n{}\n{}\n", table.title, shown(table, CellAlignment::Right));
    }
    if !section.checks.is_empty() {
        let mut table = Table::new("", &["check", "value", "allowed", ""]);
        for check in &section.checks {
            let holds = if check.holds { "holds" } else { "fails" };
            table.rows.push([&check.what, &check.value, &check.limit, holds].map(ToString::to_string).to_vec());
        }
        let _ = write!(text, "\n{}\n", shown(&table, CellAlignment::Left));
    }
    text
}

fn shown(table: &Table, alignment: CellAlignment) -> comfy_table::Table {
    let mut out = comfy_table::Table::new();
    out.load_style(ASCII_MARKDOWN).set_header(&table.header).add_rows(&table.rows);
    for column in out.column_iter_mut().skip(1) {
        column.set_cell_alignment(alignment);
    }
    out
}
