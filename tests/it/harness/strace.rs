//! Commands that strace does something to at one of their system calls.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::run::{Output, run};

/// The same command, with what `inject` says (as strace takes it) done to its calls; `log` is written by
/// strace.
pub fn injected(command: &Command, inject: &str, log: &Path) -> Command {
    let calls = inject.split(':').next().unwrap();
    let mut strace = under(command, calls, log);
    strace.args(["-e", &format!("inject={inject}"), "--"]);
    whole(strace, command)
}

fn under(command: &Command, calls: &str, log: &Path) -> Command {
    let mut strace = Command::new("strace");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        strace.current_dir(folder);
    }
    strace.args(["-f", "-qq", "-o"]).arg(log);
    strace.args(["-e", &format!("trace={calls}")]);
    strace
}

fn whole(mut strace: Command, command: &Command) -> Command {
    strace.arg(command.get_program()).args(command.get_args());
    strace
}

/// Kills a command when it makes this call for the `step`th time.
pub fn killed_at(command: &Command, call: &str, step: usize) -> Output {
    let inject = format!("{call}:signal=KILL:when={step}");
    run(&mut injected(command, &inject, Path::new("/dev/null")))
}

/// Runs a command to its end, which must be a good one: how often each of the calls was made, at most, by
/// one of its threads.
pub fn counted(command: &Command, calls: &[&str], log: &Path) -> Vec<(String, usize)> {
    let mut strace = under(command, &calls.join(","), log);
    strace.arg("--");
    run(&mut whole(strace, command)).ok();
    let mut threads: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in std::fs::read_to_string(log).unwrap().lines() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        // A call that others came between is told twice, and once with its opening bracket.
        if let Some((call, _)) = rest.trim_start().split_once('(')
            && calls.contains(&call)
        {
            let of = (call.to_owned(), thread.to_owned());
            *threads.entry(of).or_default() += 1;
        }
    }
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    for ((call, _), times) in threads {
        let most = most.entry(call).or_default();
        *most = times.max(*most);
    }
    most.into_iter().collect()
}
