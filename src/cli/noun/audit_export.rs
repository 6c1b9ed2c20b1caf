//! `strongroom audit verify --export`: checks an export anywhere, without a server and without a
//! secret. What it proves rests on the public key and on checkpoints that were kept elsewhere.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use crate::api::audit::{ChainVerification, Verification};
use crate::cli::files;
use crate::crypto::chain;
use crate::error::{Error, Result};
use crate::model::audit::{
    Chain, ChainWalk, ChainedEvent, Checkpoint, ExportHeader, ExportLine, Head, SignedCheckpoint,
};
use crate::model::id::shown;

/// The longest line, with its end.
const LONGEST_LINE: u64 = 262_145;

/// What an export is held against.
pub struct Against {
    pub public_key: [u8; 32],
    pub checkpoints: Vec<Checkpoint>,
}

impl Against {
    /// `key` is 64 hex digits, or a file with them; each of `kept` a file with a signed checkpoint.
    pub fn read(key: &str, kept: &[std::path::PathBuf]) -> Result<Self> {
        let text = match Path::new(key).exists() {
            true => {
                String::from_utf8_lossy(files::read(Path::new(key), 4_096)?.expose()).into_owned()
            }
            false => key.to_owned(),
        };
        let mut public_key = [0; 32];
        hex::decode_to_slice(text.trim(), &mut public_key).map_err(|_| {
            let shown = shown(key);
            Error::invalid(
                "public_key",
                format!("`{shown}` is neither 64 hex digits nor a file with them"),
            )
        })?;
        let mut against = Self {
            public_key,
            checkpoints: Vec::new(),
        };
        for path in kept {
            let text = files::read(path, LONGEST_LINE)?;
            let signed = SignedCheckpoint::parse(&String::from_utf8_lossy(text.expose()))?;
            against.checkpoints.push(against.checked(signed)?);
        }
        Ok(against)
    }

    /// A checkpoint whose signature holds.
    fn checked(&self, signed: SignedCheckpoint) -> Result<Checkpoint> {
        let signature = signed.signature_bytes()?;
        let canonical = signed.checkpoint.canonical();
        chain::verify(&self.public_key, &canonical, &signature).map_err(|error| {
            let time = signed.checkpoint.time;
            Error::denied(
                "signature_wrong",
                format!("the checkpoint of {time} is not signed by this public key"),
            )
            .because(error)
        })?;
        Ok(signed.checkpoint)
    }
}

/// Walks the export twice: checkpoints stand at its end, and are needed at its beginning.
pub fn verify(path: &Path, against: Against) -> Result<Verification> {
    let mut checkpoints = Vec::new();
    let mut header: Option<ExportHeader> = None;
    each_line(path, |line| {
        match line {
            ExportLine::Header(found) if header.is_none() => header = Some(found),
            ExportLine::Header(_) => {
                return Err(Error::invalid("export", "the export has two headers"));
            }
            ExportLine::Checkpoint(signed) => checkpoints.push(against.checked(signed)?),
            ExportLine::Event(_) => {}
        }
        Ok(())
    })?;
    let header = header.ok_or_else(|| Error::invalid("export", "the export has no header"))?;
    if header.key()? != against.public_key {
        return Err(Error::denied(
            "public_key_differs",
            format!(
                "the export names the public key {}, which is not the one given",
                header.public_key
            ),
        ));
    }
    checkpoints.extend(against.checkpoints);
    if let Some(foreign) = checkpoints.iter().find(|it| it.instance != header.instance) {
        return Err(Error::denied(
            "export_foreign",
            format!(
                "a checkpoint is of instance {}, the export of {}",
                foreign.instance, header.instance
            ),
        ));
    }
    let mut walks = Vec::new();
    for begins in header.begins()? {
        walks.push(Walk::new(begins, &checkpoints));
    }
    each_line(path, |line| {
        if let ExportLine::Event(event) = line {
            let Some(walk) = walks.iter_mut().find(|walk| walk.chain == event.chain) else {
                let text = "the export has an event of a chain that its header does not begin";
                return Err(Error::invalid("export", text));
            };
            walk.step(&event)?;
        }
        Ok(())
    })?;
    Ok(Verification {
        chains: walks.into_iter().map(Walk::finish).collect(),
        public_key: header.public_key,
    })
}

fn each_line(path: &Path, mut take: impl FnMut(ExportLine) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(|error| files::cannot("read", path, error))?;
    let mut reader = BufReader::new(file);
    let mut number = 0_u64;
    loop {
        let mut line = Vec::new();
        let read = (&mut reader)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line);
        if read.map_err(|error| files::cannot("read", path, error))? == 0 {
            return Ok(());
        }
        number += 1;
        let at =
            |error: Error| Error::invalid("export", format!("line {number}: {}", error.public));
        let text = std::str::from_utf8(line.trim_ascii_end());
        let text = text.map_err(|_| at(Error::invalid("export", "it is not UTF-8")))?;
        take(ExportLine::parse(text).map_err(at)?)?;
    }
}

/// One chain of the export.
struct Walk {
    chain: Chain,
    walk: ChainWalk,
    report: ChainVerification,
}

impl Walk {
    fn new(begins: Head, checkpoints: &[Checkpoint]) -> Self {
        let chain = begins.chain;
        let mut walk = ChainWalk::after(chain, chain::event_hash, begins.number, begins.hash);
        for checkpoint in checkpoints {
            for head in checkpoint.heads.iter().filter(|head| head.chain == chain) {
                walk.expect(head.number, head.hash);
            }
        }
        let report = ChainVerification {
            chain,
            first: begins.number + 1,
            events: 0,
            head: String::new(),
            proven_to: 0,
            checkpoint_time: checkpoints.iter().map(|it| it.time).max(),
            fault: None,
        };
        Self {
            chain,
            walk,
            report,
        }
    }

    fn step(&mut self, event: &ChainedEvent) -> Result<()> {
        if self.report.fault.is_some() {
            return Ok(());
        }
        let stepped = self
            .walk
            .step(event.number, &event.canonical(), &event.hash_bytes()?);
        match stepped {
            Ok(()) => self.report.events += 1,
            Err(fault) => self.report.fault = Some(fault.to_string()),
        }
        Ok(())
    }

    fn finish(mut self) -> ChainVerification {
        if self.report.fault.is_none() {
            match self.walk.finish() {
                Ok(walked) => {
                    self.report.head = hex::encode(walked.hash);
                    self.report.proven_to = walked.proven_to;
                }
                Err(fault) => self.report.fault = Some(fault.to_string()),
            }
        }
        self.report
    }
}
