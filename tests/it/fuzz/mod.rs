//! The fuzz targets of `src/fuzz.rs` on their corpora in `tests/data/fuzz/` and on mutations of them.
//! Each target runs in a process of its own with little memory, so that a crash, an endless
//! recursion and a huge allocation are all seen; the input that was being run is kept.
//!
//! `make test`: a fixed seed and a few thousand inputs a target. `make fuzz`: STRONGROOM_FUZZ_SECONDS
//! (60) a target, and docs/measured/fuzz.json.

mod mutate;
mod schema;

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use strongroom::fuzz::{TARGETS, Target};

use super::harness::{self, Folder, measured, seed};
use mutate::{Random, mutated};

/// What a target may use above what the process had before, in KiB.
const MEMORY: u64 = 64 << 10;
/// The whole process, address space in KiB: an allocation beyond fails and ends it.
const ADDRESSES: u64 = 1 << 20;
/// New kinds of answers keep their inputs, up to so many.
const POOL: usize = 2_000;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/fuzz")
        .join(target);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// How long one target runs.
#[derive(Clone, Copy)]
enum Length {
    Inputs(u64),
    Time(Duration),
}

/// What a worker did.
#[derive(Debug)]
struct Ran {
    inputs: u64,
    kinds: u64,
    peak_kib: u64,
}

/// A worker that ended badly.
struct Failed {
    input: PathBuf,
    output: String,
}

fn run(target: &str, seed: u64, length: Length) -> Result<Ran, Failed> {
    let folder = Folder::new();
    let current = folder.path().join("input");
    let result = folder.path().join("result");
    let (inputs, millis) = match length {
        Length::Inputs(inputs) => (inputs, u64::MAX),
        Length::Time(time) => (u64::MAX, u64::try_from(time.as_millis()).unwrap()),
    };
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "ulimit -v {ADDRESSES} && ulimit -c 0; exec \"$0\" \"$@\""
        ))
        .arg(std::env::current_exe().unwrap())
        .args(["fuzz::worker", "--exact", "--ignored", "--nocapture"])
        .env(
            "STRONGROOM_FUZZ",
            format!("{target} {seed} {inputs} {millis}"),
        )
        .env("STRONGROOM_FUZZ_CURRENT", &current)
        .env("STRONGROOM_FUZZ_RESULT", &result)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if output.status.success() {
        let text = fs::read_to_string(&result).unwrap();
        let numbers: Vec<u64> = text
            .split(' ')
            .map(|number| number.parse().unwrap())
            .collect();
        return Ok(Ran {
            inputs: numbers[0],
            kinds: numbers[1],
            peak_kib: numbers[2],
        });
    }
    let written = fs::read(&current).unwrap_or_default();
    let length = written
        .first_chunk::<8>()
        .map_or(0, |length| u64::from_be_bytes(*length));
    let bytes = written
        .get(8..8 + usize::try_from(length).unwrap())
        .unwrap_or_default();
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{target}-{seed}"));
    fs::write(&kept, bytes).unwrap();
    Err(Failed {
        input: kept,
        output: format!(
            "{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ),
    })
}

impl Failed {
    fn tell(&self, target: &str) -> String {
        format!(
            "target {target} fails on {0}:\n{1}\nreplay: STRONGROOM_FUZZ_INPUT={0} STRONGROOM_FUZZ='{target} 1 0 0' cargo test --test it -- fuzz::worker --exact --ignored --nocapture",
            self.input.display(),
            self.output
        )
    }
}

/// Runs in the processes that the tests here start.
#[test]
#[ignore = "the other tests of this module start it, a process each"]
fn worker() {
    let ask = std::env::var("STRONGROOM_FUZZ").unwrap();
    let ask: Vec<&str> = ask.split(' ').collect();
    let target = target(ask[0]);
    if let Ok(input) = std::env::var("STRONGROOM_FUZZ_INPUT") {
        (target.run)(&fs::read(input).unwrap());
        return;
    }
    let (seed, inputs, millis): (u64, u64, u64) = (
        ask[1].parse().unwrap(),
        ask[2].parse().unwrap(),
        ask[3].parse().unwrap(),
    );
    let current = File::create(std::env::var("STRONGROOM_FUZZ_CURRENT").unwrap()).unwrap();
    let result = std::env::var("STRONGROOM_FUZZ_RESULT").unwrap();
    let ran = work(
        &target,
        seed,
        inputs,
        Duration::from_millis(millis),
        &current,
    );
    fs::write(
        result,
        format!("{} {} {}", ran.inputs, ran.kinds, ran.peak_kib),
    )
    .unwrap();
}

fn work(target: &Target, seed: u64, inputs: u64, time: Duration, current: &File) -> Ran {
    let start = Instant::now();
    let mut pool = corpus(target.name);
    let mut kinds = HashSet::new();
    let one = |input: &[u8]| {
        let mut record = (input.len() as u64).to_be_bytes().to_vec();
        record.extend_from_slice(input);
        current.write_all_at(&record, 0).unwrap();
        (target.run)(input)
    };
    for input in &pool {
        assert!(
            input.len() <= target.longest,
            "an input of the corpus is too long"
        );
        kinds.insert(one(input));
    }
    let before = peak_kib();
    let mut random = Random::new(seed);
    let mut done = pool.len() as u64;
    while done < inputs && start.elapsed() < time {
        let input = mutated(&mut random, &pool, target.words, target.longest);
        if kinds.insert(one(&input)) && pool.len() < POOL {
            pool.push(input);
        }
        done += 1;
        if done.is_multiple_of(64) {
            assert!(
                peak_kib() - before <= MEMORY,
                "it took {} KiB",
                peak_kib() - before
            );
        }
    }
    let peak_kib = peak_kib() - before;
    assert!(peak_kib <= MEMORY, "it took {peak_kib} KiB");
    Ran {
        inputs: done,
        kinds: kinds.len() as u64,
        peak_kib,
    }
}

/// The most that this process ever had in memory.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn target(name: &str) -> Target {
    let planted = |run| Target {
        name: "setting",
        run,
        longest: 1 << 10,
        words: &["=DEFECT"],
    };
    match name {
        "planted-panic" => planted(|bytes| {
            assert!(!bytes.windows(7).any(|piece| piece == b"=DEFECT"));
            0
        }),
        "planted-hunger" => planted(|bytes| {
            let length = if bytes.contains(&b'D') { 100 << 20 } else { 1 };
            std::hint::black_box(vec![1_u8; length]).len() as u64
        }),
        "planted-recursion" => planted(|bytes| deep(bytes.len() as u64)),
        _ => TARGETS
            .iter()
            .find(|target| target.name == name)
            .map(|target| Target { ..*target })
            .unwrap_or_else(|| panic!("no target {name}")),
    }
}

#[allow(unconditional_recursion, reason = "a planted defect")]
fn deep(n: u64) -> u64 {
    std::hint::black_box(deep(std::hint::black_box(n + 1)) + 1)
}

#[test]
fn planted_defects_are_found_and_their_inputs_kept() {
    for (name, part) in [
        ("planted-panic", "DEFECT"),
        ("planted-hunger", "D"),
        ("planted-recursion", ""),
    ] {
        let failed = run(name, seed(), Length::Inputs(20_000)).err();
        let failed = failed.unwrap_or_else(|| panic!("{name} was not found"));
        let input = fs::read(&failed.input).unwrap();
        assert!(
            String::from_utf8_lossy(&input).contains(part),
            "{name}: {input:?}"
        );
        assert!(failed.tell(name).contains("STRONGROOM_FUZZ_INPUT="));
    }
}

#[test]
fn the_corpus_has_a_folder_for_each_target_and_no_other() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fuzz");
    let mut folders: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    assert_eq!(folders, names);
    assert!(names.iter().all(|name| corpus(name).len() > 1));
}

#[test]
fn every_target_holds_on_its_corpus_and_on_mutations_of_it() {
    let seconds = std::env::var("STRONGROOM_FUZZ_SECONDS").map_or(60, |text| text.parse().unwrap());
    let long = harness::long("fuzz");
    let length = if long {
        Length::Time(Duration::from_secs(seconds))
    } else {
        Length::Inputs(4_000)
    };
    let mut failures = Vec::new();
    let mut counts = serde_json::Map::new();
    for target in TARGETS {
        match run(target.name, seed(), length) {
            Ok(ran) => {
                println!("{}: {ran:?}", target.name);
                // A target that sees one kind of answer tests nothing.
                if ran.kinds < 2 {
                    failures.push(format!(
                        "{}: only {} kinds of answers",
                        target.name, ran.kinds
                    ));
                }
                counts.insert(
                    target.name.to_owned(),
                    json!({ "inputs": ran.inputs, "kinds_of_answers": ran.kinds, "peak_kib": ran.peak_kib }),
                );
            }
            Err(failed) => failures.push(failed.tell(target.name)),
        }
    }
    if long {
        let requests = schema::long(&mut failures);
        let record = measured::Record {
            target: "fuzz",
            peers: json!({ "schemathesis": schema::version() }),
            counts: json!({ "seconds_a_target": seconds, "targets": counts, "requests_by_schema": requests }),
            failures: failures.clone(),
        };
        measured::write(&record, Folder::new().path());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
