//! The report as a page: one file that any browser shows without a network.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Check, Section, Table};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;color:#1c2b21;max-width:840px;margin:2em auto;padding:0 1em}\
h1,h2{line-height:1.2}h2{margin-top:2em;border-top:1px solid #ccd5cc;padding-top:.7em}\
table{border-collapse:collapse;margin:1em 0;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}\
caption{text-align:left;font-weight:600;padding:.3em 0}\
th,td{padding:.2em .7em;border-bottom:1px solid #e2e8e2;text-align:right}th:first-child,td:first-child{text-align:left}\
.check td:nth-child(n+2){text-align:left}.fails{color:#b00020;font-weight:600}svg{max-width:100%;height:auto}";

/// The page of sections with their drawn plots: name, section, SVG documents.
pub(super) fn page(sections: &[(&str, &Section, Vec<String>)]) -> String {
    let failed = sections.iter().flat_map(|(_, section, _)| &section.checks).filter(|check| !check.holds).count();
    let checks: usize = sections.iter().map(|(_, section, _)| section.checks.len()).sum();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "How true is the simulated field?" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "How true is the simulated field?" }
                p {
                    (checks) " checks, of which "
                    @if failed == 0 { "all hold." } @else { span.fails { (failed) " fail" } "." }
                }
                ul {
                    @for (name, section, _) in sections { li { a href={ "#" (name) } { (section.title) } } }
                }
                @for (name, section, svgs) in sections { (one(name, section, svgs)) }
            }
        }
    };
    page.into_string()
}

fn one(name: &str, section: &Section, svgs: &[String]) -> Markup {
    html! {
        h2 id=(name) { (section.title) }
        @for paragraph in section.text.split("\n\n").filter(|text| !text.trim().is_empty()) { p { (paragraph) } }
        @if !section.checks.is_empty() { (checks(&section.checks)) }
        @for svg in svgs { figure style="margin:1em 0" { (PreEscaped(svg)) } }
        @for each in &section.tables { (table(each)) }
    }
}

fn checks(checks: &[Check]) -> Markup {
    html! {
        table.check {
            thead { tr { th { "Check" } th { "value" } th { "allowed" } th {} } }
            tbody {
                @for Check { what, value, limit, holds } in checks {
                    tr {
                        td { (what) } td { (value) } td { (limit) }
                        @if *holds { td { "holds" } } @else { td.fails { "fails" } }
                    }
                }
            }
        }
    }
}

fn table(table: &Table) -> Markup {
    html! {
        table {
            caption { (table.title) }
            thead { tr { @for name in &table.header { th { (name) } } } }
            tbody { @for row in &table.rows { tr { @for cell in row { td { (cell) } } } } }
        }
    }
}
