//! Where log lines go: stderr, rotating files or syslog, as text or JSON. Settings change it while
//! the server runs; what cannot be opened is refused when it is set.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use flexi_logger::writers::{
    FileLogWriter, LogWriter, SyslogConnection, SyslogFacility, SyslogLineHeader, SyslogWriter,
};
use flexi_logger::{
    Cleanup, Criterion, DeferredNow, FileSpec, LogSpecification, Logger, LoggerHandle, Naming,
};
use log::{LevelFilter, Record};
use serde_json::Value;

use crate::clock;
use crate::error::{Error, Result};
use crate::model::setting;

/// Ten files of ten megabytes.
const FILE_BYTES: u64 = 10_000_000;
const FILES: usize = 10;

/// Switches the log while it runs.
pub struct Logging {
    handle: LoggerHandle,
    shared: Arc<Shared>,
    folder: PathBuf,
}

struct Shared {
    json: RwLock<bool>,
    target: RwLock<Target>,
}

enum Target {
    Stderr,
    Other(Box<dyn LogWriter>),
}

struct Writer(Arc<Shared>);

impl Logging {
    /// Starts with text at `info` on stderr.
    pub fn start(folder: PathBuf) -> Result<Self> {
        let shared = Arc::new(Shared {
            json: RwLock::new(false),
            target: RwLock::new(Target::Stderr),
        });
        let handle = Logger::with(specification(LevelFilter::Info))
            .log_to_writer(Box::new(Writer(Arc::clone(&shared))))
            .start()
            .map_err(|error| Error::internal(format!("the log: {error}")))?;
        Ok(Self {
            handle,
            shared,
            folder,
        })
    }

    /// Makes a setting hold; other settings are not its business.
    pub fn apply(&self, name: &str, value: &str) -> Result<()> {
        match name {
            setting::LOG_LEVEL => {
                let level = value
                    .parse()
                    .map_err(|_| Error::invalid("value", format!("`{value}` is not a level")))?;
                self.handle.set_new_spec(specification(level));
            }
            setting::LOG_FORMAT => {
                *self
                    .shared
                    .json
                    .write()
                    .unwrap_or_else(PoisonError::into_inner) = value == "json"
            }
            setting::LOG_TARGET => {
                let target = self.open(value)?;
                *self
                    .shared
                    .target
                    .write()
                    .unwrap_or_else(PoisonError::into_inner) = target;
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&self, target: &str) -> Result<Target> {
        let refused = |error: String| {
            Error::invalid("value", format!("the log cannot go to {target}: {error}"))
        };
        match target {
            "file" => {
                let writer = FileLogWriter::builder(
                    FileSpec::default()
                        .directory(&self.folder)
                        .basename("strongroom")
                        .suppress_timestamp(),
                )
                .rotate(
                    Criterion::Size(FILE_BYTES),
                    Naming::Numbers,
                    Cleanup::KeepLogFiles(FILES),
                )
                .append()
                .format(|to, _, record| write!(to, "{}", record.args()))
                .try_build()
                .map_err(|error| refused(error.to_string()))?;
                Ok(Target::Other(Box::new(writer)))
            }
            "syslog" => {
                let connection = SyslogConnection::try_datagram("/dev/log")
                    .map_err(|error| refused(error.to_string()))?;
                let writer = SyslogWriter::builder(
                    connection,
                    SyslogLineHeader::Rfc3164,
                    SyslogFacility::SystemDaemons,
                )
                // It would leave out all but warnings and errors.
                .max_log_level(LevelFilter::Trace)
                .format(|to, _, record| write!(to, "{}", record.args()))
                .build()
                .map_err(|error| refused(error.to_string()))?;
                Ok(Target::Other(writer))
            }
            _ => Ok(Target::Stderr),
        }
    }
}

/// Our own lines at `level`, those of libraries only when they warn.
fn specification(level: LevelFilter) -> LogSpecification {
    let mut builder = LogSpecification::builder();
    builder
        .default(level.min(LevelFilter::Warn))
        .module("strongroom", level);
    builder.build()
}

impl LogWriter for Writer {
    fn write(&self, now: &mut DeferredNow, record: &Record) -> std::io::Result<()> {
        let line = if *self.0.json.read().unwrap_or_else(PoisonError::into_inner) {
            json(record)
        } else {
            text(record)
        };
        match &*self.0.target.read().unwrap_or_else(PoisonError::into_inner) {
            Target::Stderr => {
                // A closed stderr is no reason to stop serving.
                let _ = writeln!(std::io::stderr().lock(), "{line}");
                Ok(())
            }
            Target::Other(writer) => writer.write(
                now,
                &Record::builder()
                    .args(format_args!("{line}"))
                    .level(record.level())
                    .target(record.target())
                    .build(),
            ),
        }
    }

    fn flush(&self) -> std::io::Result<()> {
        match &*self.0.target.read().unwrap_or_else(PoisonError::into_inner) {
            Target::Stderr => Ok(()),
            Target::Other(writer) => writer.flush(),
        }
    }
}

/// Collects a line's key=value fields; numbers stay numbers.
struct Fields(Vec<(String, Value)>);

impl<'kvs> log::kv::VisitSource<'kvs> for Fields {
    fn visit_pair(
        &mut self,
        key: log::kv::Key<'kvs>,
        value: log::kv::Value<'kvs>,
    ) -> std::result::Result<(), log::kv::Error> {
        let kept = if let Some(value) = value.to_bool() {
            value.into()
        } else if let Some(value) = value.to_u64() {
            value.into()
        } else if let Some(value) = value.to_i64() {
            value.into()
        } else if let Some(value) = value.to_f64() {
            value.into()
        } else {
            value.to_string().into()
        };
        self.0.push((key.to_string(), kept));
        Ok(())
    }
}

fn fields(record: &Record) -> Vec<(String, Value)> {
    let mut fields = Fields(Vec::new());
    // A field that cannot be read is left out; the line stands.
    let _ = record.key_values().visit(&mut fields);
    fields.0
}

/// `2026-11-22T08:00:00Z INFO message key=value key="two words"`
fn text(record: &Record) -> String {
    let mut line = format!(
        "{} {} {}",
        clock::now(),
        record.level(),
        printable(&record.args().to_string())
    );
    for (key, value) in fields(record) {
        let value = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        if !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'"') {
            line.push_str(&format!(" {key}={value}"));
        } else {
            line.push_str(&format!(" {key}={:?}", value));
        }
    }
    line
}

fn json(record: &Record) -> String {
    let mut line = serde_json::Map::new();
    line.insert("time".to_owned(), clock::now().to_string().into());
    line.insert(
        "level".to_owned(),
        record.level().as_str().to_ascii_lowercase().into(),
    );
    line.insert("message".to_owned(), record.args().to_string().into());
    for (key, value) in fields(record) {
        line.entry(key).or_insert(value);
    }
    Value::Object(line).to_string()
}

/// One line, whatever is in it.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
