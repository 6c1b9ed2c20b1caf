//! `strongroom service`: start and stop. Where the systemd unit is installed it is systemd's work;
//! else the server of a data folder is started in the background, and ended by its lock's process.

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::door::{Global, INSTALLED};
use super::serve::SlotArgs;
use super::{Printer, files};
use crate::error::{Error, Kind, Result};
use crate::folder::{self, Folder};
use crate::os;

/// The unit that docs/operating.md installs.
const UNIT: &str = "strongroom.service";
/// Where units lie, by their precedence.
const UNIT_FOLDERS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// A server that is told to end has 20 seconds for the requests that it took on.
const STOPPING: Duration = Duration::from_secs(60);
/// Unlocking stretches a passphrase, and a large log is taken over.
const STARTING: Duration = Duration::from_secs(120);
/// So long a server has between taking its folder and answering, or the other way round.
const UNDER_WAY: Duration = Duration::from_secs(30);
/// What a background server writes goes on in a new file beyond this.
const LARGE_LOG: u64 = 10_000_000;
/// How much of a log's end is looked at for its last lines.
const TAIL_BYTES: u64 = 256 << 10;
const MOST_REMEMBERED: u64 = 64 << 10;

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Start the server in the background; its log goes to log/serve.log
    ///
    /// What opens it is remembered by its file's name, for the next start. Without anything that opens
    /// it the server starts sealed.
    Start(StartArgs),
    /// Stop the server, and wait for its end
    Stop,
    /// Stop the server, and start it again as it was started, or as the options say
    Restart(StartArgs),
    /// Say whether the server runs; exit 3 if it does not
    Status,
    /// Print the end of the server's log
    Tail(TailArgs),
}

#[derive(clap::Args, Debug, Default)]
pub struct StartArgs {
    #[command(flatten)]
    slot: SlotArgs,
    /// Start sealed, whatever opened it before
    #[arg(long, conflicts_with_all = ["passphrase_file", "key_file", "slot_identity", "slot"])]
    sealed: bool,
}

#[derive(clap::Args, Debug, Default)]
pub struct TailArgs {
    /// So many lines; 50 if left out
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
}

/// What `serve` is started with, beside the folder: names of files, never what is in them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    version: u32,
    arguments: Vec<String>,
}

pub fn run(verb: Verb, global: &Global, out: &Printer) -> Result<()> {
    if by_systemd(global) {
        return systemd(verb, out);
    }
    // Absolute: the server does not run in the folder that this command is typed in.
    let root = std::path::absolute(global.data_dir())
        .map_err(|error| files::cannot("find", &global.data_dir(), error))?;
    let folder = Folder::new(root);
    folder.check_initialised()?;
    match verb {
        Verb::Start(args) => start(&args, &folder, out),
        Verb::Stop => stop(&folder, out),
        Verb::Restart(args) => {
            if !args.chosen() && remembered(&folder)?.is_none() {
                return Err(Error::invalid(
                    "opener",
                    "nothing says what opens the server after its restart; give --passphrase-file F, --key-file F or --slot-identity F, or --sealed",
                ));
            }
            // What would keep it from starting keeps it from being stopped.
            check_account(&folder)?;
            check_openers(&args, &folder)?;
            stop(&folder, out)?;
            start(&args, &folder, out)
        }
        Verb::Status => status(server_of(&folder)?, out),
        Verb::Tail(args) => tail(&args, &folder, out),
    }
}

/// The process of the server, if it runs.
pub fn runs(global: &Global) -> Result<Option<u32>> {
    match by_systemd(global) {
        true => main_pid(),
        false => {
            let folder = Folder::new(global.data_dir());
            folder.check_initialised()?;
            server_of(&folder)
        }
    }
}

/// Whether systemd runs this machine and has our unit, and no other folder was named.
fn by_systemd(global: &Global) -> bool {
    global.data_dir() == Path::new(INSTALLED)
        && Path::new("/run/systemd/system").is_dir()
        && UNIT_FOLDERS
            .iter()
            .any(|folder| Path::new(folder).join(UNIT).exists())
}

fn systemd(verb: Verb, out: &Printer) -> Result<()> {
    let verb_word = match &verb {
        Verb::Start(args) | Verb::Restart(args) if args.chosen() => {
            return Err(Error::invalid(
                "opener",
                format!(
                    "{UNIT} says itself what opens the server; change it there: systemctl edit {UNIT}"
                ),
            ));
        }
        Verb::Start(_) => "start",
        Verb::Stop => "stop",
        Verb::Restart(_) => "restart",
        Verb::Status => return status(main_pid()?, out),
        Verb::Tail(args) => {
            let lines = args.lines.unwrap_or(50).to_string();
            let said = told(Command::new("journalctl").args([
                "--unit",
                UNIT,
                "--no-pager",
                "--lines",
                &lines,
            ]))?;
            return lines_of(&said, usize::MAX)
                .into_iter()
                .try_for_each(|line| out.line(&line));
        }
    };
    told(Command::new("systemctl").args([verb_word, UNIT]))?;
    out.talk(&format!("systemctl {verb_word} {UNIT} is done"));
    Ok(())
}

fn main_pid() -> Result<Option<u32>> {
    let said =
        told(Command::new("systemctl").args(["show", "--property=MainPID", "--value", UNIT]))?;
    let pid = String::from_utf8_lossy(&said).trim().parse().unwrap_or(0);
    Ok((pid > 0).then_some(pid))
}

/// Runs a program of the system to its end; what it says on stdout.
fn told(command: &mut Command) -> Result<Vec<u8>> {
    let failed = |why: String| Error::new(Kind::Internal, "service", why);
    let done = command
        .output()
        .map_err(|error| failed(format!("{}: {error}", command.get_program().display())))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(failed(format!(
        "{} ended with {}: {said}",
        command.get_program().display(),
        done.status
    )))
}

fn status(pid: Option<u32>, out: &Printer) -> Result<()> {
    let state = if pid.is_some() { "running" } else { "stopped" };
    out.record(
        &serde_json::json!({"state": state, "pid": pid}),
        &[
            ("state", state.to_owned()),
            ("pid", pid.map_or_else(String::new, |pid| pid.to_string())),
        ],
    )?;
    match pid {
        Some(_) => Ok(()),
        None => Err(Error::unavailable(
            "not_running",
            "the server does not run; start it: strongroom service start",
        )),
    }
}

impl StartArgs {
    /// Whether the options say what opens the server.
    fn chosen(&self) -> bool {
        self.sealed || self.slot.slot.is_some() || self.slot.secret.file().is_some()
    }

    /// The arguments of `serve`, with whole paths.
    fn arguments(&self) -> Result<Vec<String>> {
        let mut arguments = Vec::new();
        if let Some((option, path)) = self.slot.secret.file() {
            arguments.extend([option.to_owned(), whole(path)?]);
        }
        if let Some(slot) = self.slot.slot {
            arguments.extend(["--slot".to_owned(), slot.to_string()]);
        }
        if self.sealed {
            arguments.push("--sealed".to_owned());
        }
        Ok(arguments)
    }

    fn reads_stdin(&self) -> bool {
        self.slot
            .secret
            .file()
            .is_some_and(|(_, path)| path.as_os_str() == "-")
    }
}

fn whole(path: &Path) -> Result<String> {
    if path.as_os_str() == "-" {
        return Ok("-".to_owned());
    }
    std::path::absolute(path)
        .map_err(|error| files::cannot("find", path, error))?
        .into_os_string()
        .into_string()
        .map_err(|_| Error::invalid("file", format!("{} is not UTF-8", path.display())))
}

fn remembered(folder: &Folder) -> Result<Option<Remembered>> {
    let path = folder.service();
    if !path.exists() {
        return Ok(None);
    }
    // A newer or damaged one says nothing: the server starts sealed then, and can be told anew.
    let read = folder::read(&path, MOST_REMEMBERED)?;
    Ok(serde_json::from_slice::<Remembered>(&read)
        .ok()
        .filter(|it| it.version == 1))
}

fn remember(folder: &Folder, arguments: &[String]) -> Result<()> {
    let remembered = Remembered {
        version: 1,
        arguments: arguments.to_vec(),
    };
    let json =
        serde_json::to_vec(&remembered).map_err(|error| Error::internal(error.to_string()))?;
    folder::replace(&folder.service(), &json)
}

/// As [`server_of`], but one that is just starting or ending has [`UNDER_WAY`] to do so.
fn settled(folder: &Folder) -> Result<Option<u32>> {
    let deadline = Instant::now() + UNDER_WAY;
    loop {
        match server_of(folder) {
            Err(error) if error.code == "folder_in_use" && Instant::now() < deadline => {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            answer => return answer,
        }
    }
}

fn start(args: &StartArgs, folder: &Folder, out: &Printer) -> Result<()> {
    if let Some(pid) = settled(folder)? {
        out.talk(&format!("the server runs already: process {pid}"));
        return Ok(());
    }
    check_account(folder)?;
    let arguments = match args.chosen() {
        true => args.arguments()?,
        false => remembered(folder)?.unwrap_or_default().arguments,
    };
    let log = folder.log().join("serve.log");
    let before = log_of(&log)?;
    let ready = folder
        .root()
        .join(format!("run/ready.{}", std::process::id()));
    folder::remove(&ready)?;
    let mut child = spawn(folder, &arguments, args.reads_stdin(), &log, &ready)?;
    let answer = wait_ready(&mut child, &ready, &log, before);
    let state = answer.inspect_err(|_| drop(folder::remove(&ready)))?;
    folder::remove(&ready)?;
    if args.chosen() && !args.reads_stdin() {
        remember(folder, &arguments)?;
    }
    let pid = child.id();
    out.talk(&match state["state"].as_str() {
        Some("sealed") => {
            format!("the server runs, sealed: process {pid}; open it: strongroom unseal")
        }
        _ => format!("the server runs: process {pid}"),
    });
    out.document(&state).map(|_| ())
}

/// The process of the server that answers on the folder's socket, as the kernel knows it: a number in
/// a file may be another's by now, or one of another namespace.
///
/// # Errors
/// `folder_in_use`: something else works on the folder; `other_namespace`.
fn server_of(folder: &Folder) -> Result<Option<u32>> {
    let stream = match UnixStream::connect(folder.socket()) {
        Ok(stream) => stream,
        Err(_) => {
            return match folder.holder()? {
                None => Ok(None),
                Some(pid) => Err(Error::conflict(
                    "folder_in_use",
                    format!(
                        "process {pid} works on {}, and is no server that answers: doctor, rollback, or one that is just starting or ending; try again when it is done",
                        folder.root().display()
                    ),
                )),
            };
        }
    };
    match os::peer_pid(&stream) {
        Ok(0) => Err(Error::denied(
            "other_namespace",
            "the server runs in a container or another namespace of processes; start and stop it there",
        )),
        Ok(pid) => Ok(Some(pid)),
        Err(error) => Err(Error::internal(error.to_string())),
    }
}

/// What opens the server after a restart must be there before it is stopped.
fn check_openers(args: &StartArgs, folder: &Folder) -> Result<()> {
    if args.reads_stdin() {
        return Ok(());
    }
    let arguments = match args.chosen() {
        true => args.arguments()?,
        false => remembered(folder)?.unwrap_or_default().arguments,
    };
    for pair in arguments.windows(2) {
        let names_a_file = ["--passphrase-file", "--key-file", "--slot-identity"];
        if names_a_file.contains(&pair[0].as_str()) {
            let path = Path::new(&pair[1]);
            std::fs::File::open(path).map_err(|error| files::cannot("read", path, error))?;
        }
    }
    Ok(())
}

/// What another account's server writes, the folder's own could not read afterwards.
fn check_account(folder: &Folder) -> Result<()> {
    let (owner, own) = (folder.owner()?, os::effective_uid());
    if owner == own {
        return Ok(());
    }
    Err(Error::denied(
        "other_account",
        format!(
            "{} belongs to uid {owner}, and this would run as uid {own}; start it as its own account: setpriv --reuid {owner} --clear-groups strongroom service start …",
            folder.root().display()
        ),
    ))
}

fn spawn(
    folder: &Folder,
    arguments: &[String],
    stdin: bool,
    log: &Path,
    ready: &Path,
) -> Result<Child> {
    let program = std::env::current_exe().map_err(|error| Error::internal(error.to_string()))?;
    let to = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(log)
        .map_err(|error| files::cannot("write", log, error))?;
    let same = to
        .try_clone()
        .map_err(|error| files::cannot("write", log, error))?;
    let mut command = Command::new(&program);
    command
        // Whatever name this copy of the program has: another name may be another command.
        .arg0("strongroom")
        .arg("serve")
        .arg("--data-dir")
        .arg(folder.root())
        .args(arguments)
        .arg("--ready-file")
        .arg(ready)
        .stdin(if stdin {
            Stdio::inherit()
        } else {
            Stdio::null()
        })
        .stdout(to)
        .stderr(same)
        .current_dir("/");
    os::detach(&mut command);
    command
        .spawn()
        .map_err(|error| files::cannot("start", &program, error))
}

/// The length of the log so far; one that is long makes room first.
fn log_of(path: &Path) -> Result<u64> {
    let length = path.metadata().map_or(0, |it| it.len());
    if length < LARGE_LOG {
        return Ok(length);
    }
    folder::rename(path, &path.with_extension("log.1"))?;
    Ok(0)
}

/// What the server says of itself when it answers.
fn wait_ready(child: &mut Child, ready: &Path, log: &Path, before: u64) -> Result<Value> {
    let end = Instant::now() + STARTING;
    loop {
        if let Ok(bytes) = folder::read(ready, MOST_REMEMBERED)
            && let Ok(state) = serde_json::from_slice(&bytes)
        {
            return Ok(state);
        }
        let ended = child
            .try_wait()
            .map_err(|error| Error::internal(error.to_string()))?;
        if let Some(status) = ended {
            let said = end_of(log, before).unwrap_or_default();
            let last = lines_of(&said, 3).join("\n  ");
            return Err(Error::unavailable(
                "not_started",
                format!("the server did not start ({status}):\n  {last}"),
            ));
        }
        if Instant::now() > end {
            return Err(Error::unavailable(
                "not_started",
                format!(
                    "process {} started, and does not answer yet; see {}",
                    child.id(),
                    log.display()
                ),
            ));
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn stop(folder: &Folder, out: &Printer) -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::denied(
            "not_stopped",
            format!("the server's process cannot be ended: {error}; its own account or root may"),
        )
    };
    let Some(pid) = server_of(folder)? else {
        out.talk("the server does not run");
        return Ok(());
    };
    let Some(process) = os::Process::find(pid).map_err(failed)? else {
        out.talk("the server has ended");
        return Ok(());
    };
    // Now it is certain that this process answers there, and not one that got its number.
    if server_of(folder)? == Some(pid) {
        process.terminate().map_err(failed)?;
    }
    if !process.ended_within(STOPPING).map_err(failed)? {
        return Err(Error::unavailable(
            "not_stopped",
            format!(
                "process {pid} was told to end {} s ago and still runs; see `strongroom service tail`",
                STOPPING.as_secs()
            ),
        ));
    }
    out.talk(&format!("the server has ended: process {pid}"));
    Ok(())
}

fn tail(args: &TailArgs, folder: &Folder, out: &Printer) -> Result<()> {
    let Some(log) = newest_log(folder) else {
        return Err(Error::not_found(format!(
            "no log lies in {}; a server that was started by hand writes to its stderr, or where the setting log.target says",
            folder.log().display()
        )));
    };
    let length = log.metadata().map_or(0, |it| it.len());
    let said = end_of(&log, length.saturating_sub(TAIL_BYTES))?;
    lines_of(&said, args.lines.unwrap_or(50))
        .into_iter()
        .try_for_each(|line| out.line(&line))
}

/// What the server writes itself (log.target = file), or what `service start` takes down.
fn newest_log(folder: &Folder) -> Option<PathBuf> {
    ["strongroom_rCURRENT.log", "serve.log"]
        .into_iter()
        .map(|name| folder.log().join(name))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
}

fn end_of(log: &Path, from: u64) -> Result<Vec<u8>> {
    let read = || {
        let mut file = std::fs::File::open(log)?;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(2 * TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| files::cannot("read", log, error))
}

/// The last lines.
fn lines_of(text: &[u8], most: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(most);
    lines[skipped..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}
