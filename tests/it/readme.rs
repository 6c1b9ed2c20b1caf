//! What the documents claim, held against what is there: figures against docs/measured/, settings,
//! dependencies, links.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::measured::root;

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A section, from its heading to the next of the same depth.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let start = document
        .find(heading)
        .unwrap_or_else(|| panic!("no `{heading}`"));
    let depth = heading.split(' ').next().unwrap();
    let body = &document[start + heading.len()..];
    &body[..body.find(&format!("\n{depth} ")).unwrap_or(body.len())]
}

/// A figure and where it comes from: `1.6 <!-- bench.json /counts/put_ratio -->`.
fn figures(text: &str) -> Vec<(String, String, String)> {
    text.split("<!-- ")
        .collect::<Vec<_>>()
        .windows(2)
        .map(|pair| {
            let figure = pair[0].split_whitespace().last().unwrap_or("").to_owned();
            let source = pair[1].split(" -->").next().unwrap();
            let (file, pointer) = source
                .split_once(' ')
                .unwrap_or_else(|| panic!("`{source}` names no file and place in it"));
            (figure, file.to_owned(), pointer.to_owned())
        })
        .collect()
}

/// The value as the figure shows it: with as many decimals, thousands apart.
fn as_shown(figure: &str, value: &Value) -> Option<String> {
    let Value::Number(number) = value else {
        return value.as_str().map(str::to_owned);
    };
    let decimals = figure.split_once('.').map_or(0, |(_, rest)| rest.len());
    let text = format!("{:.decimals$}", number.as_f64()?);
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    Some(grouped + rest)
}

/// The README with the figures that docs/measured/ has now: `STRONGROOM_BLESS=1 cargo test readme`.
fn blessed(readme: &str) -> String {
    figures(readme)
        .iter()
        .fold(readme.to_owned(), |readme, (figure, file, pointer)| {
            let source = format!(" <!-- {file} {pointer} -->");
            let shown = as_shown(figure, &measured(file, pointer)).unwrap();
            readme.replace(&format!("{figure}{source}"), &format!("{shown}{source}"))
        })
}

fn measured(file: &str, pointer: &str) -> Value {
    let record: Value = serde_json::from_str(&text(&format!("docs/measured/{file}"))).unwrap();
    let value = record.pointer(pointer);
    value
        .unwrap_or_else(|| panic!("docs/measured/{file} has no {pointer}"))
        .clone()
}

#[test]
fn figures_in_the_readme_are_those_that_were_measured() {
    let mut readme = text("README.md");
    if std::env::var_os("STRONGROOM_BLESS").is_some() {
        readme = blessed(&readme);
        fs::write(root().join("README.md"), &readme).unwrap();
    }
    let section = section(&readme, "## Measured");
    for (figure, file, pointer) in &figures(section) {
        let value = measured(file, pointer);
        assert_eq!(
            as_shown(figure, &value).as_ref(),
            Some(figure),
            "{file} {pointer}"
        );
    }
    // Beside those, no number stands there but within code, links and what the rows say they are.
    let mut bare = String::new();
    for line in section.lines() {
        let cells: Vec<&str> = line.split('|').skip(2).collect();
        let shown = if cells.is_empty() {
            line.to_owned()
        } else {
            cells.join("|")
        };
        for (at, part) in shown.split('`').enumerate() {
            if at % 2 == 0 {
                bare.push_str(part);
            }
        }
        bare.push('\n');
    }
    for part in bare.split(" -->") {
        let words: Vec<&str> = part
            .split("<!-- ")
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        let checked = usize::from(part.contains("<!-- "));
        for word in &words[..words.len().saturating_sub(checked)] {
            assert!(
                !word.starts_with(|c: char| c.is_ascii_digit()),
                "`{word}` says not where it comes from"
            );
        }
    }
}

#[test]
fn a_figure_that_was_not_measured_is_found() {
    let found =
        figures("| GET | 1.6 <!-- bench.json /counts/a --> | 40,000 <!-- bench.json /b --> |");
    assert_eq!(found.len(), 2);
    assert_eq!(
        found[0],
        (
            "1.6".to_owned(),
            "bench.json".to_owned(),
            "/counts/a".to_owned()
        )
    );
    let shown = |figure, value: Value| as_shown(figure, &value).unwrap();
    assert_eq!(shown("9.9", Value::from(1.6449)), "1.6");
    assert_eq!(shown("9", Value::from(1_234_567)), "1,234,567");
    assert_eq!(shown("9", Value::from(999.7)), "1,000");
    assert_eq!(shown("9.99", Value::from(12_345.5)), "12,345.50");
}

#[test]
fn every_setting_stands_in_the_operators_manual_as_it_is() {
    let manual = text("docs/operating.md");
    let rows: Vec<Vec<&str>> = section(&manual, "## Settings")
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let documented: Vec<(String, String, String)> = rows
        .iter()
        .map(|row| {
            let plain = |cell: &str| cell.replace('`', "");
            (plain(row[0]), plain(row[1]), plain(row[2]))
        })
        .collect();
    let known: Vec<(String, String, String)> = strongroom::model::setting::ALL
        .iter()
        .map(|it| (it.name.to_owned(), it.default.to_owned(), it.takes()))
        .collect();
    assert_eq!(documented, known);
}

#[test]
fn every_dependency_has_its_reason() {
    let cargo = text("Cargo.toml");
    let dependencies: BTreeSet<&str> = ["\n[dependencies]\n", "\n[dev-dependencies]\n"]
        .iter()
        .filter_map(|heading| cargo.split_once(heading))
        .flat_map(|(_, rest)| rest.split("\n[").next().unwrap().lines())
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name)
        .collect();
    let decision = text("docs/decisions/0001-one-executable-and-dependencies.md");
    let reasons: BTreeSet<&str> = decision
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, reason)| {
            assert!(reason.len() > 20, "{name}: {reason}");
            name
        })
        .collect();
    assert_eq!(reasons, dependencies);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
    for folder in ["docs", "docs/formats", "docs/decisions"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                documents.push(format!("{folder}/{name}"));
            }
        }
    }
    for document in documents {
        let at = root().join(&document);
        for link in text(&document).split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                at.clone()
            } else {
                at.parent().unwrap().join(path)
            };
            assert!(target.exists(), "{document} links to {link}");
            assert!(
                anchor.is_empty() || has_heading(&target, anchor),
                "{document} links to {link}"
            );
        }
    }
}

/// As forges name headings: lower case, blanks as hyphens, without punctuation.
fn has_heading(document: &Path, anchor: &str) -> bool {
    fs::read_to_string(document).unwrap().lines().any(|line| {
        let name: String = line
            .trim_start_matches('#')
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        line.starts_with('#') && name == anchor
    })
}
