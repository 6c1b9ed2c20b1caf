//! What the program says: data to stdout, talk to stderr, and the exit code. The only place that
//! prints, and the only one that maps kinds of error to exit codes. Nothing that came from a server
//! or a file reaches a terminal with its control characters.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the one place that prints"
)]

use std::fmt::Write as _;
use std::io::{self, BufRead as _, ErrorKind, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::crypto::agefile;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// How long a cell on a terminal may be before it is cut.
const WIDEST_CELL: usize = 64;

/// Whoever read stdout has gone: the end of the command, and no failure.
pub const CLOSED: &str = "closed_pipe";

/// How this run prints.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    pub json: bool,
    pub quiet: bool,
    pub yes: bool,
    pub verbose: u8,
    /// Tables are for people: stdout is a terminal.
    pub terminal: bool,
    /// Tables are for spreadsheets (RFC 4180).
    pub csv: bool,
}

/// CLI.md: 0 done, 1 failed, 2 wrong use, 3 sealed or unavailable, 4 not found, 5 refused.
fn exit_code(kind: Kind) -> u8 {
    match kind {
        Kind::Invalid => 2,
        Kind::Sealed | Kind::Unavailable => 3,
        Kind::NotFound => 4,
        Kind::Conflict
        | Kind::PreconditionFailed
        | Kind::KeyReused
        | Kind::Unauthenticated
        | Kind::Denied
        | Kind::TooLarge
        | Kind::Limited => 5,
        Kind::TooSlow
        | Kind::MethodNotAllowed
        | Kind::UnsupportedType
        | Kind::Unknown
        | Kind::Internal => 1,
    }
}

/// Help and version (0), or what is wrong with the words that were typed (2).
pub fn usage(error: &clap::Error) -> ExitCode {
    // A closed pipe is no reason to fail.
    let _ = match error.use_stderr() && agefile::is_secret(&error.to_string()) {
        // A key that was pasted begins with hyphens, and reads as an unknown option.
        true => writeln!(
            io::stderr(),
            "strongroom: an argument holds a secret key; secrets are never arguments, and this one stands in the shell's history now"
        ),
        false => error.print(),
    };
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// The end of a command.
pub fn finish(result: Result<()>, out: &Printer) -> ExitCode {
    let error = match result {
        Err(error) if error.code != CLOSED => error,
        _ => return ExitCode::SUCCESS,
    };
    let mut text = format!("strongroom: {}", clean_lines(&error.public));
    if let Some(seconds) = error.retry_after {
        let _ = write!(text, " (try again in {seconds} s)");
    }
    if let (true, Some(cause)) = (out.verbose > 0, error.cause()) {
        let _ = write!(text, "\n  because: {}", clean_lines(&cause.to_string()));
    }
    if out.json {
        let body = serde_json::json!({"error": {"kind": error.kind, "code": error.code, "message": error.public, "field": error.field}});
        text = json_text(&body, false);
    }
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::from(exit_code(error.kind))
}

/// A text with its control and direction characters escaped, line ends and tabs included.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if misleads(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The same for our own talk, which may have several lines.
fn clean_lines(text: &str) -> String {
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

/// Characters that move the cursor, change the terminal, or turn the direction of what is read.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Whether these bytes are harmless text, which a terminal may get as it is.
fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| {
        text.chars()
            .all(|c| matches!(c, '\n' | '\t') || !misleads(c))
    })
}

/// JSON whose strings hold no raw control or direction characters, beyond what JSON itself escapes.
fn json_text(value: &impl Serialize, pretty: bool) -> String {
    let text = if pretty {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    // Our own types, with texts as keys, always serialise.
    let text = text.unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
    json_escaped(&text)
}

/// JSON has such characters within strings alone, so each may stand as its escape.
fn json_escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && misleads(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

impl Printer {
    /// stdout is not a terminal, or is one.
    pub fn is_terminal() -> bool {
        io::stdout().is_terminal()
    }

    /// Data, to stdout.
    fn stdout(&self, bytes: &[u8]) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)
            .and_then(|()| out.flush())
            .map_err(|error| {
                let code = if error.kind() == ErrorKind::BrokenPipe {
                    CLOSED
                } else {
                    "output"
                };
                Error::new(
                    Kind::Internal,
                    code,
                    format!("cannot write to stdout: {error}"),
                )
            })
    }

    /// Bytes as they are. A terminal gets only text, unless `forced`.
    pub fn bytes(&self, bytes: &[u8], forced: bool) -> Result<()> {
        if self.terminal && !forced && !is_text(bytes) {
            return Err(Error::invalid(
                "output",
                format!(
                    "these {} bytes are not text, and stdout is a terminal; give -o FILE, or -o - to see them all the same",
                    bytes.len()
                ),
            ));
        }
        self.stdout(bytes)
    }

    /// A stream of JSON documents, one a line. A terminal gets whole lines, escaped; anything else
    /// the bytes as they came. `rest` keeps the unfinished line; a line end more ends the last one.
    pub fn json_lines(&self, rest: &mut Vec<u8>, piece: &[u8]) -> Result<()> {
        if !self.terminal {
            // The line end that ends the last line is for terminals.
            return if piece == b"\n" {
                Ok(())
            } else {
                self.stdout(piece)
            };
        }
        rest.extend_from_slice(piece);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]);
            if !line.is_empty() {
                self.stdout(format!("{}\n", json_escaped(&line)).as_bytes())?;
            }
        }
        Ok(())
    }

    /// One piece of data on a line of its own: a secret, a code, a value.
    pub fn line(&self, text: &str) -> Result<()> {
        self.stdout(format!("{}\n", clean(text)).as_bytes())
    }

    /// One document, where `--json` asked for it; false: print it for people.
    pub fn document(&self, value: &impl Serialize) -> Result<bool> {
        if self.json {
            self.stdout(format!("{}\n", json_text(value, self.terminal)).as_bytes())?;
        }
        Ok(self.json)
    }

    /// A document for people as for programs, with or without `--json`.
    pub fn pretty(&self, value: &impl Serialize) -> Result<()> {
        self.stdout(format!("{}\n", json_text(value, true)).as_bytes())
    }

    /// One object: as JSON, or a line for each of its fields. Empty fields are left out.
    pub fn record(&self, value: &impl Serialize, fields: &[(&str, String)]) -> Result<()> {
        if self.document(value)? {
            return Ok(());
        }
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
            let value = clean(value);
            let _ = if self.terminal {
                writeln!(text, "{name:width$}  {value}")
            } else {
                writeln!(text, "{name}\t{value}")
            };
        }
        self.stdout(text.as_bytes())
    }

    /// Rows that are all there. With `--json`, `whole` is printed instead.
    pub fn table<T>(
        &self,
        whole: &impl Serialize,
        items: &[T],
        columns: &'static [&'static str],
        row: impl Fn(&Printer, &T) -> Vec<String>,
    ) -> Result<()> {
        if self.document(whole)? {
            return Ok(());
        }
        let rows = items.iter().map(|item| row(self, item)).collect();
        self.rows(columns, rows, &mut Vec::new())
    }

    /// Aligned below a heading on a terminal; separated by tabs, without a heading, in a pipe.
    /// `widths` are those of the rows printed before; empty: these are the first.
    fn rows(
        &self,
        columns: &[&str],
        rows: Vec<Vec<String>>,
        widths: &mut Vec<usize>,
    ) -> Result<()> {
        let mut text = String::new();
        if self.csv {
            if widths.is_empty() {
                widths.resize(columns.len(), 0);
                text.push_str(&csv_line(columns.iter().copied()));
            }
            for row in &rows {
                text.push_str(&csv_line(row.iter().map(String::as_str)));
            }
            return self.stdout(text.as_bytes());
        }
        if !self.terminal {
            for row in rows {
                let cells: Vec<String> = row.iter().map(|cell| clean(cell)).collect();
                let _ = writeln!(text, "{}", cells.join("\t"));
            }
            return self.stdout(text.as_bytes());
        }
        let mut lines: Vec<Vec<String>> = Vec::with_capacity(rows.len() + 1);
        if widths.is_empty() {
            lines.push(
                columns
                    .iter()
                    .map(|name| name.to_ascii_uppercase())
                    .collect(),
            );
            widths.resize(columns.len(), 0);
        }
        lines.extend(
            rows.iter()
                .map(|row| row.iter().map(|cell| cut(&clean(cell))).collect()),
        );
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        for line in &lines {
            let cells = line
                .iter()
                .zip(&*widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        self.stdout(text.as_bytes())
    }

    /// Talk: how it goes, what to do next. Left out with `--quiet`.
    pub fn talk(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{}", clean_lines(text));
        }
    }

    /// How far something is, on a terminal that shows stderr: bytes done, of all.
    pub fn progress(&self, done: u64, total: u64) {
        const MIB: u64 = 1 << 20;
        // A line each MiB is enough.
        if !self.shows_progress(total) || done % MIB > (256 << 10) {
            return;
        }
        let text = format!(
            "{} of {} MiB, {} %",
            done / MIB,
            total.div_ceil(MIB),
            (done.min(total) * 100) / total
        );
        let _ = write!(io::stderr(), "\r{text}\x1b[K");
    }

    /// Wipes the line that `progress` wrote.
    pub fn progress_ends(&self, total: u64) {
        if self.shows_progress(total) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    /// What is done in a moment needs none.
    fn shows_progress(&self, total: u64) -> bool {
        const LONG: u64 = 16 << 20;
        !self.quiet && total >= LONG && io::stderr().is_terminal()
    }

    /// What must be seen even with `--quiet`.
    pub fn warn(&self, text: &str) {
        let _ = writeln!(io::stderr(), "strongroom: {}", clean_lines(text));
    }

    /// Whether talk can be drawn over.
    pub fn redraws(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Talk that takes the place of what was drawn before it; empty: takes that away.
    pub fn redraw(&self, text: &str) {
        let _ = write!(io::stderr(), "\r\x1b[K{}", clean(text));
        let _ = io::stderr().flush();
    }

    /// With `-v`.
    pub fn detail(&self, text: &str) {
        if self.verbose > 0 {
            let _ = writeln!(io::stderr(), "{}", clean_lines(text));
        }
    }

    /// Asks before what cannot be undone. `--yes` answers it; without either a terminal or `--yes`
    /// it is wrong use.
    pub fn confirm(&self, question: &str) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        let nobody = format!("{question} Nobody is there to answer; give --yes");
        if self
            .ask(question)?
            .ok_or_else(|| Error::invalid("yes", nobody))?
        {
            Ok(())
        } else {
            Err(Error::denied(
                "not_confirmed",
                "not confirmed; nothing was changed",
            ))
        }
    }

    /// Asks whatever `--yes` says; none if nobody is there to answer.
    pub fn ask(&self, question: &str) -> Result<Option<bool>> {
        let answer = self.ask_text(&format!("{question} [y/N]"))?;
        Ok(answer.map(|answer| matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes")))
    }

    /// Whether somebody is there to answer.
    pub fn someone_answers() -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks for a line; none if nobody is there to answer.
    pub fn ask_text(&self, question: &str) -> Result<Option<String>> {
        if !Self::someone_answers() {
            return Ok(None);
        }
        let _ = write!(io::stderr(), "{} ", clean_lines(question));
        let _ = io::stderr().flush();
        let mut answer = String::new();
        let read = io::stdin().lock().take(4_096).read_line(&mut answer);
        match read {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(answer.trim().to_owned())),
            Err(error) => Err(Error::new(
                Kind::Internal,
                "input",
                format!("cannot read the answer: {error}"),
            )),
        }
    }

    /// Asks for a secret, without echo; none if nothing is typed, or nobody is there to answer.
    pub fn ask_secret(&self, prompt: &str) -> Result<Option<Secret<String>>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        self.warn_plain(prompt);
        let typed =
            rpassword::read_password().map_err(|error| Error::internal(error.to_string()))?;
        Ok((!typed.is_empty()).then(|| Secret::new(typed)))
    }

    /// What must be seen even with `--quiet`, on a line without the program's name.
    fn warn_plain(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{}", clean_lines(text));
    }

    /// A time: to the second on a terminal, exact elsewhere.
    pub fn time(&self, time: Timestamp) -> String {
        if self.terminal {
            Timestamp(time.0 - time.0.rem_euclid(Timestamp::SECOND)).to_string()
        } else {
            time.to_string()
        }
    }

    /// A time that may not be.
    pub fn maybe_time(&self, time: Option<Timestamp>) -> String {
        time.map(|time| self.time(time)).unwrap_or_default()
    }
}

/// One record, each cell in quotes. A cell that a spreadsheet would take for a formula gets an
/// apostrophe, which makes it text.
fn csv_line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let cells = cells.map(|cell| {
        let formula = cell.starts_with(['=', '+', '-', '@']);
        format!(
            "\"{}{}\"",
            if formula { "'" } else { "" },
            clean(cell).replace('"', "\"\"")
        )
    });
    format!("{}\r\n", cells.collect::<Vec<_>>().join(","))
}

fn cut(cell: &str) -> String {
    if cell.chars().count() <= WIDEST_CELL {
        return cell.to_owned();
    }
    let mut out: String = cell.chars().take(WIDEST_CELL - 1).collect();
    out.push('…');
    out
}

/// A list that arrives page by page: printed as it comes, or gathered for one JSON document.
pub struct Listing<T> {
    out: Printer,
    columns: &'static [&'static str],
    row: fn(&Printer, &T) -> Vec<String>,
    gathered: Vec<Value>,
    widths: Vec<usize>,
}

impl<T: Serialize> Listing<T> {
    pub fn new(
        out: &Printer,
        columns: &'static [&'static str],
        row: fn(&Printer, &T) -> Vec<String>,
    ) -> Self {
        Self {
            out: *out,
            columns,
            row,
            gathered: Vec::new(),
            widths: Vec::new(),
        }
    }

    pub fn page(&mut self, items: &[T]) -> Result<()> {
        if self.out.json {
            for item in items {
                let item = serde_json::to_value(item)
                    .map_err(|error| Error::internal(format!("an item as JSON: {error}")))?;
                self.gathered.push(item);
            }
            return Ok(());
        }
        if items.is_empty() {
            return Ok(());
        }
        let rows = items
            .iter()
            .map(|item| (self.row)(&self.out, item))
            .collect();
        self.out.rows(self.columns, rows, &mut self.widths)
    }

    /// `more`: `--limit` ended the list.
    pub fn end(mut self, more: bool) -> Result<()> {
        if self.out.csv && self.widths.is_empty() {
            self.out.rows(self.columns, Vec::new(), &mut self.widths)?;
        }
        self.out
            .document(&serde_json::json!({"items": self.gathered, "more": more}))?;
        if self.out.terminal && !self.out.json && self.widths.is_empty() {
            self.out.talk("none");
        }
        if more {
            self.out.talk("there are more; raise --limit to see them");
        }
        Ok(())
    }
}

/// How far something is whose end is known.
pub fn bar(done: u64, total: u64, text: &str) -> String {
    const WIDTH: usize = 30;
    let (done, total) = (done.min(total), total.max(1));
    let filled = usize::try_from(done * WIDTH as u64 / total).unwrap_or(WIDTH);
    format!(
        "[{}{}] {}% {text}",
        "#".repeat(filled),
        "-".repeat(WIDTH - filled),
        done * 100 / total,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spreadsheet_gets_text_and_no_formula() {
        assert_eq!(
            csv_line(["a", "b \"c\", d", "=1+1", "x\ny", ""].into_iter()),
            "\"a\",\"b \"\"c\"\", d\",\"'=1+1\",\"x\\ny\",\"\"\r\n"
        );
    }

    #[test]
    fn control_and_direction_characters_never_reach_the_terminal() {
        assert_eq!(
            clean("a\x1b[31mb\u{202e}c\n\u{9b}"),
            "a\\u{1b}[31mb\\u{202e}c\\n\\u{9b}"
        );
        assert_eq!(clean("größe ✓ 日本"), "größe ✓ 日本");
        assert!(is_text("a\nb\tä".as_bytes()));
        assert!(!is_text(b"\x1b[2J") && !is_text(&[0xff]) && !is_text("\u{85}".as_bytes()));
        let text = json_text(&serde_json::json!({"a": "\u{9b}\u{7f}\u{202e}\x1b"}), false);
        assert!(
            text.is_ascii() && !text.bytes().any(|b| b.is_ascii_control()),
            "{text}"
        );
        let back: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["a"], "\u{9b}\u{7f}\u{202e}\x1b");
    }

    #[test]
    fn exit_codes_are_those_of_the_manual() {
        for (kind, code) in [
            (Kind::Invalid, 2),
            (Kind::Sealed, 3),
            (Kind::Unavailable, 3),
            (Kind::NotFound, 4),
            (Kind::Denied, 5),
            (Kind::Unauthenticated, 5),
            (Kind::Conflict, 5),
            (Kind::PreconditionFailed, 5),
            (Kind::Limited, 5),
            (Kind::Internal, 1),
        ] {
            assert_eq!(exit_code(kind), code, "{kind:?}");
        }
    }

    #[test]
    fn a_long_cell_is_cut_for_people() {
        assert_eq!(cut(&"x".repeat(64)).len(), 64);
        assert_eq!(cut(&"x".repeat(65)).chars().count(), 64);
    }
}
