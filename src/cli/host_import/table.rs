//! A table with a heading: CSV, with commas or, as some offices write it, with semicolons.

use std::collections::HashMap;

use super::{Found, host, wrong};
use crate::api::host::AddHost;
use crate::error::{Error, Result};
use crate::model::id::shown;

const COLUMNS: &str = "name, address, port, account, sudo, jump, group, window, label.KEY";

pub(super) fn read(text: &str) -> Result<Found> {
    let heading = text.lines().next().unwrap_or_default();
    let delimiter = match heading.contains(';') && !heading.contains(',') {
        true => b';',
        false => b',',
    };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let columns: Vec<String> = reader
        .headers()
        .map_err(unreadable)?
        .iter()
        .map(str::to_ascii_lowercase)
        .collect();
    for (at, column) in columns.iter().enumerate() {
        if !known(column) {
            return Err(wrong(
                1,
                format!(
                    "there is no column `{}`; the heading takes {COLUMNS}",
                    shown(column)
                ),
            ));
        }
        if columns[..at].contains(column) {
            return Err(wrong(
                1,
                format!("the column `{column}` stands there twice"),
            ));
        }
    }
    if !columns.iter().any(|it| it == "name") {
        return Err(wrong(
            1,
            format!("the column `name` is missing; the heading takes {COLUMNS}"),
        ));
    }
    let mut found = Found::default();
    let mut lines: HashMap<String, usize> = HashMap::new();
    for record in reader.records() {
        let record = record.map_err(unreadable)?;
        let line = record
            .position()
            .and_then(|it| usize::try_from(it.line()).ok())
            .unwrap_or_default();
        let cells = columns.iter().map(String::as_str).zip(record.iter());
        let host = row(cells).map_err(|error| wrong(line, error.public))?;
        if let Some(first) = lines.insert(host.name.to_string(), line) {
            return Err(wrong(
                line,
                format!("the host `{}` stands in line {first}, too", host.name),
            ));
        }
        found.hosts.push(host);
    }
    Ok(found)
}

fn known(column: &str) -> bool {
    matches!(
        column,
        "name" | "address" | "port" | "account" | "sudo" | "jump" | "group" | "window"
    ) || column.starts_with("label.")
}

fn row<'a>(cells: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Result<AddHost> {
    let name = cells.clone().find(|(column, _)| *column == "name");
    let mut host = host(name.map(|(_, cell)| cell).unwrap_or_default().parse()?);
    // An empty cell says nothing.
    for (column, cell) in cells.filter(|(_, cell)| !cell.is_empty()) {
        match column {
            "address" => host.address = Some(cell.parse()?),
            "port" => {
                let port = cell.parse().map_err(|_| {
                    Error::invalid("port", format!("`{}` is not a port", shown(cell)))
                })?;
                host.own.port = Some(port);
            }
            "account" => host.own.account = Some(cell.parse()?),
            "sudo" => host.own.sudo = Some(yes(cell)?),
            "jump" => {
                let jump = cell.split([',', ' ', ';']).filter(|it| !it.is_empty());
                host.own.jump = Some(jump.map(str::parse).collect::<Result<_>>()?);
            }
            "group" => host.group = Some(cell.parse()?),
            "window" => {
                let windows = cell.split(['\n', ';']).map(str::trim);
                let windows = windows.filter(|it| !it.is_empty()).map(str::parse);
                host.own.windows = Some(windows.collect::<Result<_>>()?);
            }
            _ => {
                if let Some(key) = column.strip_prefix("label.") {
                    host.labels.insert(key.parse()?, cell.parse()?);
                }
            }
        }
    }
    host.own.check()?;
    Ok(host)
}

fn yes(cell: &str) -> Result<bool> {
    match cell.to_ascii_lowercase().as_str() {
        "yes" | "true" | "1" | "x" => Ok(true),
        "no" | "false" | "0" => Ok(false),
        _ => Err(Error::invalid(
            "sudo",
            format!("`{}` is neither yes nor no", shown(cell)),
        )),
    }
}

fn unreadable(error: csv::Error) -> Error {
    let line = error.position().map_or(1, |it| it.line());
    let why = match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("{len} cells stand below a heading of {expected_len}"),
        _ => error.to_string(),
    };
    wrong(usize::try_from(line).unwrap_or_default(), why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_host() {
        let found = read(
            "Name,address,port,account,sudo,jump,group,label.env,window\r\n\
             db1,10.0.0.5,2222,ops,yes,\"bastion,inner\",emea/db,prod,\"0 22 * * sat for 6h; @daily for 30m\"\r\n\
             db2,,,,,,,,\r\n",
        )
        .unwrap();
        let [first, second] = found.hosts.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(
            serde_json::to_value(first).unwrap(),
            serde_json::json!({
                "name": "db1", "address": "10.0.0.5", "group": "emea/db", "labels": {"env": "prod"},
                "own": {"port": 2222, "account": "ops", "sudo": true, "jump": ["bastion", "inner"],
                    "windows": [
                        {"opens": "0 22 * * sat", "zone": "UTC", "minutes": 360},
                        {"opens": "@daily", "zone": "UTC", "minutes": 30}
                    ]},
            })
        );
        assert_eq!(second.name.as_str(), "db2");
        assert!(second.own.is_empty() && second.address.is_none());
        let semicolons = read("name;sudo\ndb1;no\n").unwrap();
        assert_eq!(semicolons.hosts[0].own.sudo, Some(false));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, said) in [
            ("", "`name` is missing"),
            ("host\na\n", "no column `host`"),
            ("name,name\na,b\n", "twice"),
            ("name,port\na,22\nb,0\n", "line 3: `0` is not a port"),
            ("name,port\na,ssh\n", "line 2: `ssh`"),
            ("name\na\nb\na\n", "line 4: the host `a` stands in line 2"),
            ("name,port\na\n", "line 2: 1 cells"),
            ("name\n\"a b\"\n", "line 2: `a b` is not a host's name"),
            ("name,sudo\na,maybe\n", "neither yes nor no"),
            ("name,window\na,sometimes\n", "maintenance window"),
            ("name,label.a b\na,c\n", "label's key"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.public.contains(said), "{text:?}: {error}");
        }
    }
}
