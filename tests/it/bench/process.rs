//! What processes use up, as the kernel counts it.

use std::collections::HashMap;
use std::time::Duration;

/// Ticks a second in /proc; fixed for user space on Linux.
const TICKS: u32 = 100;

/// Of a process with all that it started, also those that ended and were waited for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu: Duration,
    pub resident_bytes: u64,
    pub threads: u64,
}

struct Entry {
    parent: u32,
    ticks: u32,
    threads: u64,
}

impl Usage {
    pub fn of(pid: u32) -> Self {
        let entries: HashMap<u32, Entry> = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|found| found.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid: u32| Some((pid, Entry::read(pid)?)))
            .collect();
        assert!(entries.contains_key(&pid), "process {pid} is gone");
        let mut usage = Self::default();
        for (found, entry) in &entries {
            if descends(&entries, *found, pid) {
                usage.cpu += Duration::from_secs(entry.ticks.into()) / TICKS;
                usage.threads += entry.threads;
                usage.resident_bytes += resident(*found);
            }
        }
        usage
    }
}

impl Entry {
    fn read(pid: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u32>().ok();
        Some(Self {
            parent: number(1)?,
            ticks: number(11)? + number(12)? + number(13)? + number(14)?,
            threads: number(17)?.into(),
        })
    }
}

fn descends(entries: &HashMap<u32, Entry>, mut pid: u32, ancestor: u32) -> bool {
    while pid != ancestor {
        match entries.get(&pid) {
            Some(entry) => pid = entry.parent,
            None => return false,
        }
    }
    true
}

fn resident(pid: u32) -> u64 {
    status(pid, "VmRSS:")
}

/// The most that a process had in memory, in bytes; none if it is gone.
pub fn peak(pid: u32) -> u64 {
    status(pid, "VmHWM:")
}

/// Lets `peak` begin anew; what it has in memory now.
pub fn begin_peak(pid: u32) -> u64 {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    peak(pid)
}

/// Bytes that the kernel gives in kB.
fn status(pid: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes << 10)
}

#[test]
fn this_process_and_its_children_are_counted() {
    let alone = Usage::of(std::process::id());
    assert!(alone.resident_bytes > 1 << 20 && alone.threads >= 2);
    let mut child = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    assert!(Usage::of(child.id()).resident_bytes > 0);
    drop(child.stdin.take());
    child.wait().unwrap();
}
