//! What strace saw: whether an answer left before a completed sync of the write-ahead log that began
//! after its rows were written there.

use std::collections::HashMap;

/// The system calls that the rule needs.
pub const CALLS: &str =
    "trace=fdatasync,fsync,pwrite64,write,writev,sendto,sendmsg,read,readv,recvfrom,recvmsg";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    LogWrite,
    LogSync,
    Answer,
    Request,
}

/// One system call; times are lines of the trace, which are in causal order: a thread goes on only
/// after strace has seen its call begin or end.
#[derive(Clone, Debug)]
struct Called {
    what: What,
    /// The connection, or the file.
    on: String,
    start: usize,
    end: usize,
    result: i64,
}

#[derive(Debug, Default)]
pub struct Report {
    pub answers: usize,
    pub syncs: usize,
    pub violations: Vec<String>,
}

/// Judges the answers on connections to a port of the server. `alone`: one request was at work at a
/// time, so that whatever was written must be synced; otherwise something of it must be.
pub fn judge(trace: &str, port: &str, alone: bool) -> Report {
    let calls = parse(trace, port);
    let mut report = Report::default();
    let of = |what| calls.iter().filter(move |call| call.what == what);
    report.syncs = of(What::LogSync).filter(|sync| sync.result == 0).count();
    for answer in of(What::Answer) {
        let request = of(What::Request)
            .filter(|read| read.on == answer.on && read.end < answer.start && read.result > 0)
            .map(|read| read.end)
            .max();
        let Some(request) = request else {
            continue;
        };
        report.answers += 1;
        let written: Vec<&Called> = of(What::LogWrite)
            .filter(|write| write.start > request && write.start < answer.start)
            .collect();
        let synced = |write: &Called| {
            of(What::LogSync)
                .any(|sync| sync.start > write.end && sync.end < answer.start && sync.result == 0)
        };
        let holds = if alone {
            !written.is_empty() && written.iter().all(|write| synced(write))
        } else {
            written.iter().any(|write| synced(write))
        };
        if !holds {
            report.violations.push(format!(
                "line {}: an answer left on {} after {} writes to the log, not all of them synced",
                answer.start,
                answer.on,
                written.len()
            ));
        }
    }
    report
}

/// The time (microseconds since 1970) of the first sync that strace let fail, and how many.
pub fn injected(trace: &str) -> Option<(i64, usize)> {
    let mut failed = trace.lines().filter(|line| line.contains("(INJECTED)"));
    let first: f64 = failed.next()?.split_whitespace().nth(1)?.parse().ok()?;
    #[allow(clippy::cast_possible_truncation)]
    Some(((first * 1e6) as i64, failed.count() + 1))
}

/// Whether the log was written to, whole calls counted, after a sync of it failed.
pub fn writes_after_failure(trace: &str) -> bool {
    let log = "/strongroom.db-wal>";
    trace
        .lines()
        .skip_while(|line| !(line.contains("(INJECTED)") && line.contains(log)))
        .any(|line| line.contains("pwrite64(") && line.contains(log))
}

fn parse(trace: &str, port: &str) -> Vec<Called> {
    let mut calls = Vec::new();
    let mut open: HashMap<&str, Called> = HashMap::new();
    for (at, line) in trace.lines().enumerate() {
        let mut words = line.splitn(2, char::is_whitespace);
        let (Some(thread), Some(rest)) = (words.next(), words.next()) else {
            continue;
        };
        let Some((_, call)) = rest.trim_start().split_once(' ') else {
            continue;
        };
        if call.starts_with("<...") {
            if let Some(mut begun) = open.remove(thread) {
                (begun.end, begun.result) = (at, result(call));
                calls.push(begun);
            }
            continue;
        }
        let Some((what, on)) = classify(call, port) else {
            continue;
        };
        let called = Called {
            what,
            on: on.to_owned(),
            start: at,
            end: at,
            result: result(call),
        };
        if call.ends_with("<unfinished ...>") {
            open.insert(thread, called);
        } else {
            calls.push(called);
        }
    }
    // What had not ended when the trace did is nobody's excuse, but an answer it may be.
    calls.extend(open.into_values().map(|call| Called {
        end: usize::MAX,
        ..call
    }));
    calls
}

fn classify<'a>(call: &'a str, port: &str) -> Option<(What, &'a str)> {
    let (name, rest) = call.split_once('(')?;
    let (_, on) = rest.split_once('<')?;
    if on.starts_with("TCP:[") {
        let connection = on.split_once("]>")?.0;
        if !connection.contains(&format!(":{port}->")) {
            return None;
        }
        return match name {
            "write" | "writev" | "sendto" | "sendmsg" => Some((What::Answer, connection)),
            "read" | "readv" | "recvfrom" | "recvmsg" => Some((What::Request, connection)),
            _ => None,
        };
    }
    let file = on.split_once('>')?.0;
    if !file.ends_with("/strongroom.db-wal") {
        return None;
    }
    match name {
        "pwrite64" | "write" => Some((What::LogWrite, file)),
        "fsync" | "fdatasync" => Some((What::LogSync, file)),
        _ => None,
    }
}

/// What stands behind the last ` = `.
fn result(call: &str) -> i64 {
    call.rsplit_once(" = ")
        .and_then(|(_, result)| result.split_whitespace().next()?.parse().ok())
        .unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str =
        r#"7 1.0 recvfrom(9<TCP:[127.0.0.1:443->127.0.0.1:5]>, ""..., 99, 0, NULL, NULL) = 99"#;
    const WRITE: &str = r#"8 1.1 pwrite64(5</d/strongroom.db-wal>, ""..., 24, 0) = 24"#;
    const SYNC: &str = "8 1.2 fdatasync(5</d/strongroom.db-wal>) = 0";
    const BEGUN: &str = "8 1.2 fdatasync(5</d/strongroom.db-wal> <unfinished ...>";
    const ENDED: &str = "8 1.3 <... fdatasync resumed>) = 0";
    const ANSWER: &str =
        r#"7 1.4 sendto(9<TCP:[127.0.0.1:443->127.0.0.1:5]>, ""..., 50, 0, NULL, 0) = 50"#;

    fn violations(lines: &[&str]) -> usize {
        let report = judge(&lines.join("\n"), "443", true);
        assert_eq!(report.answers, 1, "{report:?}");
        report.violations.len()
    }

    #[test]
    fn only_a_completed_sync_after_the_write_and_before_the_answer_counts() {
        assert_eq!(violations(&[READ, WRITE, SYNC, ANSWER]), 0);
        assert_eq!(violations(&[READ, WRITE, BEGUN, ENDED, ANSWER]), 0);
        for bad in [
            &[READ, ANSWER][..],
            &[READ, WRITE, ANSWER],
            &[READ, WRITE, ANSWER, SYNC],
            &[READ, SYNC, WRITE, ANSWER],
            &[READ, WRITE, BEGUN, ANSWER, ENDED],
            &[READ, BEGUN, WRITE, ENDED, ANSWER],
            &[WRITE, SYNC, READ, ANSWER],
            &[READ, WRITE, SYNC, WRITE, ANSWER],
        ] {
            assert_eq!(violations(bad), 1, "{bad:?}");
        }
        let failed = SYNC.replace("= 0", "= -1 EIO (Input/output error) (INJECTED)");
        assert_eq!(violations(&[READ, WRITE, &failed, ANSWER]), 1);
        assert_eq!(injected(&failed), Some((1_200_000, 1)));
    }
}
