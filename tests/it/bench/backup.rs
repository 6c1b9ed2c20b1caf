//! Backup and restore of stores full of small deposits: their time beside that of their parts, each timed
//! alone in the same round; what they cost those who write meanwhile, and in memory; and whether all that
//! was acknowledged before is there afterwards, byte for byte.

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use strongroom::backup::write::{self, Part};
use strongroom::clock;
use strongroom::crypto::chain::Tagger;
use strongroom::crypto::{agefile, keygen, sha256_of};
use strongroom::os;
use strongroom::secret::{Key, Secret};
use strongroom::store::{self, Keys, Opened, copy};

use super::grown::{Grown, USUAL};
use super::load::{self, Plan};
use super::ours::put;
use super::process;
use super::report::{Report, median};
use super::rounds::Sizes;
use super::{BODY, DEPOSITS, body, name, version};
use crate::harness::store::{database_key, open};
use crate::harness::{Folder, run, wire};

/// Who writes meanwhile.
const WRITERS: usize = 8;
/// Stored through the API before the backup that is restored.
const ACKNOWLEDGED: u64 = 2_000;
/// Fetched through the API after the restore.
const FETCHED: u64 = 1_000;
/// How often each byte of a backup is hashed: for the manifest, while the file is written, as it is read
/// back, and in the members that are found in it.
const HASHED: f64 = 4.0;
const MIB: u64 = 1 << 20;
const DATABASES: [&str; 2] = ["access.db", "strongroom.db"];

/// A number of deposits, and what its figures are called.
#[derive(Clone, Copy)]
pub struct Step {
    pub deposits: u64,
    pub called: &'static str,
}

pub const LONG: [Step; 2] = steps(100_000, 1_000_000);
pub const SHORT: [Step; 2] = steps(100, 300);

const fn steps(few: u64, many: u64) -> [Step; 2] {
    [
        Step {
            deposits: few,
            called: "few",
        },
        Step {
            deposits: many,
            called: "many",
        },
    ]
}

pub fn measure(sizes: &Sizes, steps: [Step; 2], report: &mut Report) {
    report.peer("age", version(Command::new("age").arg("--version")));
    for step in steps {
        let mut bench = Bench::start(step);
        bench.grown.grow(step.deposits, &USUAL, report);
        bench.check_room();
        report.say("taking backups while nobody else does anything, and their parts");
        bench.quiet(sizes, report);
        report.say("taking backups while clients write");
        let file = bench.among_writers(sizes, report);
        report.say("restoring");
        bench.restore(sizes, &file, report);
    }
}

struct Bench {
    step: Step,
    grown: Grown,
    folder: Folder,
    recipient: String,
    identity: Secret<Vec<u8>>,
}

/// What a command took.
struct Took {
    seconds: f64,
    /// Its memory, at the most.
    peak: u64,
    said: String,
}

/// Seconds, by the part's name.
type Parts = Vec<(&'static str, f64)>;

impl Bench {
    fn start(step: Step) -> Self {
        let (identity, recipient) = agefile::generate_identity();
        let folder = Folder::new();
        folder.write("identity", identity.expose());
        Self {
            step,
            grown: Grown::start(BODY as usize),
            folder,
            recipient,
            identity: Secret::new(identity.expose().clone().into_bytes()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder that was not there, or is there no more.
    fn fresh(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    fn figure(&self, report: &mut Report, name: &str, value: f64) {
        report.figure(&format!("{name}_{}", self.step.called), value);
    }

    /// The store, its copy, the backup, what is restored of it, and what the parts alone make.
    fn check_room(&self) {
        let live = self.grown.ours.server.data.join("live");
        let store = fs::metadata(live.join("strongroom.db")).unwrap().len();
        let free = os::free_bytes(self.folder.path()).unwrap();
        let needed = 9 * store + 1_024 * MIB;
        assert!(
            free > needed,
            "{} deposits take {} MiB free, and {} are",
            self.step.deposits,
            needed / MIB,
            free / MIB
        );
    }

    /// Runs a command to its end.
    fn timed(&self, data: &Path, args: &[&str]) -> Took {
        let mut command = self.grown.ours.server.command();
        let (out, err) = (self.path("out"), self.path("err"));
        let started = Instant::now();
        let mut child = command
            .arg("--data-dir")
            .arg(data)
            .args(args)
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        let mut most = 0;
        let status = loop {
            most = most.max(process::peak(child.id()));
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::park_timeout(Duration::from_millis(2)),
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        let text = |path| fs::read_to_string(path).unwrap();
        assert!(status.success(), "{args:?}: {}", text(&err));
        Took {
            seconds,
            peak: most,
            said: text(&out),
        }
    }

    /// Takes one, in place of those of before; its file.
    fn backup(&self) -> (Took, PathBuf) {
        let to = self.path("backups");
        let args = [
            "backup",
            "create",
            "--recipient",
            &self.recipient,
            "--roll",
            "1",
            "--output",
            to.to_str().unwrap(),
        ];
        let took = self.timed(&self.grown.ours.server.data, &args);
        let file = PathBuf::from(took.said.trim());
        (took, file)
    }

    /// Backups while nobody else does anything, and their parts.
    fn quiet(&mut self, sizes: &Sizes, report: &mut Report) {
        let (mut ratios, mut ages, mut memory) = (Vec::new(), Vec::new(), 0);
        for _ in 0..sizes.rounds {
            let pid = self.grown.ours.server.pid;
            let before = process::begin_peak(pid);
            let (took, _) = self.backup();
            memory = memory.max(process::peak(pid) - before).max(took.peak);
            self.grown.ours.server.stop();
            let parts = self.parts_of_a_backup();
            self.grown.ours.serve_again();
            ratios.push(self.told("a backup", took.seconds, &parts));
            ages.push(self.age_to_debians(true));
        }
        self.figure(report, "backup_time_to_its_parts", median(&ratios));
        self.figure(report, "age_out_rate_to_debians", median(&ages));
        self.figure(report, "backup_memory_bytes", memory as f64);
    }

    /// Says it; the time to the sum of its parts.
    fn told(&self, what: &str, seconds: f64, parts: &Parts) -> f64 {
        let sum: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
        let of: Vec<String> = parts
            .iter()
            .map(|(part, seconds)| format!("{part} {seconds:.3}"))
            .collect();
        eprintln!(
            "bench: {} deposits: {what} {seconds:.3} s; {} = {sum:.3} s",
            self.step.deposits,
            of.join(" + ")
        );
        seconds / sum
    }

    /// Each as the server and the command do it, with the stopped server's files and nothing beside it.
    fn parts_of_a_backup(&self) -> Parts {
        let to = self.fresh("parts");
        let key = keygen::key();
        let copied = self.copied(&to, &key);
        let checked = seconds(|| copy::check(&to, &key).unwrap());
        let hashed = seconds(|| DATABASES.iter().for_each(|name| hash(&to.join(name))));
        let parts = DATABASES.map(|name| Part::of_file(name, to.join(name)).unwrap());
        let pack = |to: &mut dyn Write| {
            write::write(b"{}", b"key", &parts, clock::now(), to).unwrap();
        };
        pack(&mut File::create(self.path("tar")).unwrap());
        let out = seconds(|| self.encrypted(pack).sync_all().unwrap());
        let back = seconds(|| self.decrypted(&self.path("tar.age"), io::sink()));
        vec![
            ("copy", copied),
            ("page check", checked),
            ("hash", hashed * HASHED),
            ("age out", out),
            ("age in", back),
        ]
    }

    /// Copies the stopped server's store; in seconds.
    fn copied(&self, to: &Path, key: &Key) -> f64 {
        let server = &self.grown.ours.server;
        let live = server.data.join("live");
        let opened = Opened::open(&live, &database_key(server), false, clock::now()).unwrap();
        // Nothing is written with them.
        let keys = Keys {
            changes: Tagger::new(&keygen::key()),
            access: Tagger::new(&keygen::key()),
            answers: keygen::key(),
        };
        let store = opened.start(keys, |why| panic!("{why}")).unwrap();
        seconds(|| drop(store.copy(to, key, &|_, _| true).unwrap()))
    }

    /// Writes `tar.age`.
    fn encrypted(&self, pack: impl FnOnce(&mut dyn Write)) -> File {
        let file = File::create(self.path("tar.age")).unwrap();
        let mut to = agefile::writer(std::slice::from_ref(&self.recipient), file).unwrap();
        pack(&mut to);
        to.finish().unwrap()
    }

    /// Reads from the disk what is in an encrypted file, into `to`.
    fn decrypted(&self, file: &Path, mut to: impl Write) {
        let file = File::open(file).unwrap();
        os::forget_pages(&file);
        let from = BufReader::with_capacity(256 << 10, file);
        let mut from = agefile::reader(&self.identity, from).unwrap();
        io::copy(&mut from, &mut to).unwrap();
    }

    /// How fast the tar is encrypted, or decrypted, beside `age`: both from file to file.
    fn age_to_debians(&self, out: bool) -> f64 {
        let (tar, sealed, clear) = (self.path("tar"), self.path("tar.age"), self.path("clear"));
        let mut age = Command::new("age");
        let ours = match out {
            true => {
                age.args(["-r", &self.recipient, "-o"])
                    .arg(&sealed)
                    .arg(&tar);
                let copy = |to: &mut dyn Write| {
                    io::copy(&mut File::open(&tar).unwrap(), to).unwrap();
                };
                seconds(|| drop(self.encrypted(copy)))
            }
            false => {
                age.arg("-d").arg("-i").arg(self.path("identity"));
                age.arg("-o").arg(&clear).arg(&sealed);
                seconds(|| self.decrypted(&sealed, File::create(self.path("ours")).unwrap()))
            }
        };
        seconds(|| drop(run(&mut age).ok())) / ours
    }

    /// Backups while clients write, beside the same clients alone; the first of them, which has all that
    /// was acknowledged before it.
    fn among_writers(&mut self, sizes: &Sizes, report: &mut Report) -> PathBuf {
        let target = self.grown.ours.target.clone();
        let count = ACKNOWLEDGED.min(self.step.deposits);
        let before = load::times(&target, WRITERS, count, &put("before-"));
        assert_eq!((before.failed, before.done), (0, count));
        let kept = self.path("kept.tar.age");
        let (mut p99, mut rates) = (Vec::new(), Vec::new());
        for round in 0..sizes.rounds {
            let first = (round + 1) * 10_000_000;
            let ended = AtomicBool::new(false);
            let plan = self.plan(sizes);
            let (during, backups) = std::thread::scope(|scope| {
                let writing = scope.spawn(|| {
                    let outcome = load::requests(&target, &plan, first, &put("during-"));
                    ended.store(true, Relaxed);
                    outcome
                });
                let mut backups = 0;
                while !ended.load(Relaxed) {
                    let (_, file) = self.backup();
                    if !kept.exists() {
                        fs::rename(&file, &kept).unwrap();
                    }
                    backups += 1;
                }
                (writing.join().unwrap(), backups)
            });
            let quiet = load::requests(&target, &plan, first + 5_000_000, &put("quiet-"));
            for outcome in [&during, &quiet] {
                assert_eq!(outcome.failed, 0, "{:?}", outcome.first_failure);
            }
            eprintln!(
                "bench: {} deposits: PUT {:.0}/s, p99 {:.0} us, during {backups} backups {:.0}/s, p99 {:.0} us",
                self.step.deposits,
                quiet.per_second,
                quiet.p99_micros,
                during.per_second,
                during.p99_micros
            );
            p99.push(during.p99_micros / quiet.p99_micros);
            rates.push(during.per_second / quiet.per_second);
        }
        self.figure(report, "put_p99_during_a_backup_to_quiet", median(&p99));
        self.figure(report, "put_rate_during_a_backup_to_quiet", median(&rates));
        kept
    }

    /// Long enough for a whole backup of so many.
    fn plan(&self, sizes: &Sizes) -> Plan {
        let seconds = self.step.deposits / 100_000;
        Plan {
            connections: WRITERS,
            warm_up: Duration::from_millis(300),
            time: sizes.time + Duration::from_secs(2 * seconds),
        }
    }

    /// Restores it into empty folders, and looks at what is there then.
    fn restore(&mut self, sizes: &Sizes, file: &Path, report: &mut Report) {
        self.grown.ours.server.stop();
        let (mut ratios, mut ages, mut memory) = (Vec::new(), Vec::new(), 0);
        let data = self.path("restored");
        let (identity, key) = (self.path("identity"), self.grown.ours.server.path("key"));
        let args = [file, &identity, &key].map(|path| path.to_str().unwrap());
        let args = [
            "restore",
            args[0],
            "--identity",
            args[1],
            "--key-file",
            args[2],
        ];
        for _ in 0..sizes.rounds {
            let _ = fs::remove_dir_all(&data);
            let took = self.timed(&data, &args);
            memory = memory.max(took.peak);
            let parts = self.parts_of_a_restore(file);
            ratios.push(self.told("a restore", took.seconds, &parts));
            ages.push(self.age_to_debians(false));
        }
        self.figure(report, "restore_time_to_its_parts", median(&ratios));
        self.figure(report, "age_in_rate_to_debians", median(&ages));
        self.figure(report, "restore_memory_bytes", memory as f64);
        self.grown.ours.server.data = data;
        self.everything_is_there();
    }

    fn parts_of_a_restore(&self, file: &Path) -> Parts {
        let clear = self.path("clear");
        let back = seconds(|| {
            let to = File::create(&clear).unwrap();
            self.decrypted(file, &to);
            to.sync_all().unwrap();
        });
        let hashed = seconds(|| hash(&clear));
        let to = self.fresh("parts");
        let (one, other) = (keygen::key(), keygen::key());
        self.copied(&to, &one);
        let rekeyed = seconds(|| store::rekey(&to, &one, &other).unwrap());
        let checked = seconds(|| copy::check(&to, &other).unwrap());
        vec![
            ("age in", back),
            ("hash", hashed),
            ("copy", rekeyed),
            ("page check", checked),
        ]
    }

    /// All that was acknowledged before the backup began: each byte in the store, and some of it over the
    /// API. What was stored while it ran is whole, or not there.
    fn everything_is_there(&mut self) {
        let count = ACKNOWLEDGED.min(self.step.deposits);
        let db = open(&self.grown.ours.server, "strongroom.db");
        let mut before = 0;
        let (found, _) = self.grown.rows.found(&db, |named| {
            let (when, number) = named.split_once("-bench-").unwrap();
            before += u64::from(when == "before");
            body(number.parse::<u64>().unwrap() % 64)
        });
        drop(db);
        assert_eq!((found, before), (self.step.deposits, count));
        self.grown.ours.serve_again();
        let target = &self.grown.ours.target;
        let mut client =
            wire::Connection::with_config(&self.grown.ours.server.client_url, target.tls.clone());
        for number in 0..FETCHED.min(count) {
            let answer = client.get(&format!("/{DEPOSITS}/before-{}", name(number)));
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.body, body(number % 64));
        }
        self.grown.ours.server.cli(&["audit", "verify"]).ok();
    }
}

fn seconds(run: impl FnOnce()) -> f64 {
    let started = Instant::now();
    run();
    started.elapsed().as_secs_f64()
}

fn hash(path: &Path) {
    sha256_of(&mut File::open(path).unwrap()).unwrap();
}
