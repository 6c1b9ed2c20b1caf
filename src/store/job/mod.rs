//! Jobs: claimed by a lease under a generation, so that none is lost with its worker and no late worker
//! writes over a newer one.

mod change;
mod claim;

pub use claim::{Claim, Ended, Held, LaneCounts, Reached};

use rusqlite::{Connection, Row};
use serde::{Deserialize, Serialize};

use super::list::{Rows, Start, walk};
use super::{Change, Store, Touches};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::filter::Filter;
use crate::model::id::{JobId, OrgId};
use crate::model::job::{Job, JobKind, JobLine, JobState, LONGEST_LINE, Lane, MOST_LINES, cut};

/// Rows that one command prunes.
const PRUNED_AT_ONCE: u32 = 200;

/// A job to be made.
#[derive(Clone)]
pub struct NewJob {
    pub id: JobId,
    pub kind: JobKind,
    pub target: String,
    pub org: Option<OrgId>,
    /// JSON, checked and capped by the service.
    pub parameters: String,
    pub schedule: Option<String>,
    pub parent: Option<JobId>,
    pub created: Timestamp,
    pub created_by: String,
}

/// A job with what rights on it depend on.
#[derive(Clone, Serialize, Deserialize)]
pub struct JobRow {
    pub job: Job,
    pub org: Option<OrgId>,
    /// How often its worker was lost since it last came on.
    pub lost: u32,
}

const COLUMNS: &str = "id, kind, lane, state, target, parameters, schedule, parent, created, created_by, not_before, started, ended, attempts, generation, cancelled, released, done, total, unit, outcome, org, lost";

fn read(row: &Row<'_>) -> Result<JobRow> {
    let word = |at: usize| -> Result<String> { Ok(row.get::<_, String>(at)?) };
    let odd = |what: &str| Error::internal(format!("a job of another {what}"));
    let kind = JobKind::find(&word(1)?).ok_or_else(|| odd("kind"))?;
    let (lane, state) = (word(2)?, word(3)?);
    let number = |at: usize| -> Result<u64> { Ok(row.get::<_, i64>(at)?.unsigned_abs()) };
    let time = |at: usize| -> Result<Option<Timestamp>> {
        Ok(row.get::<_, Option<i64>>(at)?.map(Timestamp))
    };
    let parameters = serde_json::from_str(&word(5)?);
    Ok(JobRow {
        job: Job {
            id: JobId(uuid::Uuid::from_bytes(row.get(0)?)),
            kind,
            lane: Lane::ALL
                .into_iter()
                .find(|it| it.as_str() == lane)
                .ok_or_else(|| odd("lane"))?,
            state: JobState::ALL
                .into_iter()
                .find(|it| it.as_str() == state)
                .ok_or_else(|| odd("state"))?,
            target: word(4)?,
            parameters: parameters.map_err(|error| Error::internal(error.to_string()))?,
            schedule: row.get(6)?,
            parent: row
                .get::<_, Option<[u8; 16]>>(7)?
                .map(|id| JobId(uuid::Uuid::from_bytes(id))),
            created: Timestamp(row.get(8)?),
            created_by: word(9)?,
            not_before: time(10)?.filter(|time| time.0 > 0),
            started: time(11)?,
            ended: time(12)?,
            attempts: row.get(13)?,
            generation: number(14)?,
            cancelling: row.get(15)?,
            released: row.get(16)?,
            done: number(17)?,
            total: number(18)?,
            unit: word(19)?,
            outcome: word(20)?,
        },
        org: row
            .get::<_, Option<[u8; 16]>>(21)?
            .map(|id| OrgId(uuid::Uuid::from_bytes(id))),
        lost: row.get(22)?,
    })
}

pub(super) fn find(db: &Connection, id: JobId) -> Result<Option<JobRow>> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1"))?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(read).transpose()
}

fn there(db: &Connection, id: JobId) -> Result<JobRow> {
    find(db, id)?.ok_or_else(|| {
        Error::not_found(format!(
            "no job has the id {id}, or it ended long ago; `strongroom job list` shows those that are kept"
        ))
    })
}

/// Makes a job, as part of a command.
pub(super) fn insert(db: &Connection, new: &NewJob) -> Result<Job> {
    db.prepare_cached(
        "INSERT INTO jobs (id, kind, lane, target, org, parameters, schedule, parent, created, created_by, state, released, not_before, started, ended, attempts, lost, generation, lease_until, boot, cancelled, done, total, unit, outcome)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 'queued', 0, 0, NULL, NULL, 0, 0, 0, NULL, NULL, 0, 0, 0, '', '')",
    )?
    .execute((
        new.id.as_bytes(),
        new.kind.as_str(),
        new.kind.lane().as_str(),
        &new.target,
        new.org.map(|org| *org.as_bytes()),
        &new.parameters,
        &new.schedule,
        new.parent.map(|id| *id.as_bytes()),
        new.created.0,
        &new.created_by,
    ))?;
    Ok(there(db, new.id)?.job)
}

/// Adds a line to a job's log; the oldest of too many go.
pub(super) fn write_line(db: &Connection, id: JobId, now: Timestamp, text: &str) -> Result<()> {
    let text = cut(text, LONGEST_LINE);
    let number: i64 = db
        .prepare_cached("SELECT coalesce(max(number), 0) + 1 FROM job_logs WHERE job = ?1")?
        .query_row([id.as_bytes()], |row| row.get(0))?;
    db.prepare_cached("INSERT INTO job_logs (job, number, time, text) VALUES (?1, ?2, ?3, ?4)")?
        .execute((id.as_bytes(), number, now.0, text))?;
    let most = i64::try_from(MOST_LINES).unwrap_or(i64::MAX);
    db.prepare_cached("DELETE FROM job_logs WHERE job = ?1 AND number <= ?2")?
        .execute((id.as_bytes(), number - most))?;
    Ok(())
}

impl Store {
    pub fn job(&self, id: JobId) -> Result<JobRow> {
        self.readers.point(|db| there(db, id))
    }

    /// In the order they were made.
    pub async fn jobs(
        &self,
        org: Option<OrgId>,
        start: Start<[u8; 16]>,
        filter: Filter<Job>,
        limit: usize,
    ) -> Result<Rows<Job>> {
        self.readers
            .scan(move |db| {
                let (low, high) = start.bounds();
                let take = |row: &Row<'_>| Ok(read(row)?.job);
                let range = format!("id > ?1 AND id < ?2 ORDER BY id {}", start.order());
                match org {
                    Some(org) => {
                        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE org = ?3 AND {range}");
                        let mut statement = db.prepare_cached(&sql)?;
                        let params = (low, high, org.as_bytes());
                        walk(&start, &mut statement, params, limit, &filter, take)
                    }
                    None => {
                        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE {range}");
                        let mut statement = db.prepare_cached(&sql)?;
                        walk(&start, &mut statement, (low, high), limit, &filter, take)
                    }
                }
            })
            .await
    }

    /// A job's log behind a line's number.
    pub fn job_log(&self, id: JobId, after: u64) -> Result<Vec<JobLine>> {
        self.readers.point(|db| {
            let mut statement = db.prepare_cached(
                "SELECT number, time, text FROM job_logs WHERE job = ?1 AND number > ?2 ORDER BY number",
            )?;
            let after = i64::try_from(after).unwrap_or(i64::MAX);
            let rows = statement.query_map((id.as_bytes(), after), |row| {
                Ok(JobLine {
                    number: row.get::<_, i64>(0)?.unsigned_abs(),
                    time: Timestamp(row.get(1)?),
                    text: row.get(2)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// What a job made.
    pub fn job_children(&self, id: JobId) -> Result<Vec<JobId>> {
        self.readers.point(|db| {
            let mut statement =
                db.prepare_cached("SELECT id FROM jobs WHERE parent = ?1 ORDER BY id LIMIT 1000")?;
            let rows = statement.query_map([id.as_bytes()], |row| {
                Ok(JobId(uuid::Uuid::from_bytes(row.get(0)?)))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Makes a job, as a request's change.
    pub async fn add_job(&self, change: Change, new: NewJob) -> Result<Job> {
        self.change_that(
            Touches::Jobs,
            change,
            512 + new.parameters.len(),
            move |tx, _| insert(tx.db, &new),
        )
        .await
    }

    /// Drops some of the jobs that ended before `before`, and of those beyond the newest `most`; false if
    /// none is left to drop.
    pub async fn prune_jobs(&self, before: Timestamp, most: u32) -> Result<bool> {
        const OLD: &str = "SELECT id FROM (SELECT id, ended FROM jobs WHERE ended IS NOT NULL ORDER BY ended DESC LIMIT -1 OFFSET ?1)
            UNION SELECT id FROM jobs WHERE ended IS NOT NULL AND ended < ?2 LIMIT ?3";
        let bounds = (most, before.0, PRUNED_AT_ONCE);
        let any = self
            .readers
            .scan(move |db| Ok(db.prepare_cached(OLD)?.exists(bounds)?))
            .await?;
        if !any {
            return Ok(false);
        }
        self.upkeep(Touches::Jobs, 64 << 10, move |tx| {
            let ids: Vec<[u8; 16]> = tx
                .db
                .prepare_cached(OLD)?
                .query_map(bounds, |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            for id in &ids {
                for sql in [
                    "DELETE FROM job_logs WHERE job = ?1",
                    "DELETE FROM jobs WHERE id = ?1",
                ] {
                    tx.db.prepare_cached(sql)?.execute([id])?;
                }
            }
            Ok(!ids.is_empty())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::model::audit::{Actor, Event, Object, Outcome};
    use crate::model::id::BootId;
    use crate::model::id::RequestId;
    use crate::model::job::{LONGEST_LINE, MOST_LINES};

    const NOW: Timestamp = Timestamp(1_795_000_000_000_000);

    fn new(kind: JobKind) -> NewJob {
        NewJob {
            id: JobId::new(),
            kind,
            target: String::new(),
            org: None,
            parameters: "{}".to_owned(),
            schedule: None,
            parent: None,
            created: NOW,
            created_by: "test".to_owned(),
        }
    }

    fn change() -> Change {
        Change {
            event: Event {
                time: NOW,
                request: RequestId::new(),
                actor: Actor {
                    kind: "server".to_owned(),
                    name: String::new(),
                    source: "server".to_owned(),
                },
                action: "test".to_owned(),
                object: Object {
                    kind: "job".to_owned(),
                    id: String::new(),
                    name: String::new(),
                },
                outcome: Outcome::Done,
                detail: String::new(),
                reason: String::new(),
            },
            once: None,
        }
    }

    fn claim(lane: Lane, boot: BootId, most: usize) -> Claim {
        Claim {
            lane,
            boot,
            most,
            held: false,
            now: NOW,
            lease_until: NOW.plus(Timestamp::SECOND),
        }
    }

    fn of(row: &JobRow) -> Held {
        Held {
            id: row.job.id,
            generation: row.job.generation,
        }
    }

    /// Runs `test` with a store of its own.
    fn with_store<F: Future<Output = ()>>(name: &str, test: impl FnOnce(std::rc::Rc<Store>) -> F) {
        let dir = std::env::temp_dir().join(format!("strongroom-{name}-{}", std::process::id()));
        crate::folder::make_folder(&dir).unwrap();
        let store = std::rc::Rc::new(crate::store::plans::store(&dir));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test(store));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_late_worker_is_fenced_off() {
        with_store("fenced", async |store| {
            let job = new(JobKind::Pruning);
            store.add_job(change(), job.clone()).await.unwrap();
            let (first, second) = (BootId::new(), BootId::new());
            let row = store.claim_job(claim(Lane::Upkeep, first, 4)).await;
            let late = of(&row.unwrap().unwrap());
            // Nobody else gets it.
            let none = store.claim_job(claim(Lane::Upkeep, second, 4)).await;
            assert!(none.unwrap().is_none());
            assert_eq!(
                store
                    .take_back_jobs(first, HashSet::new(), NOW)
                    .await
                    .unwrap(),
                0
            );
            // Another process takes it up at once, before the lease is over.
            assert_eq!(
                store
                    .take_back_jobs(second, HashSet::new(), NOW)
                    .await
                    .unwrap(),
                1
            );
            let row = store.claim_job(claim(Lane::Upkeep, second, 4)).await;
            let row = row.unwrap().unwrap();
            assert!(row.job.generation > late.generation && row.lost == 1 && row.job.attempts == 1);
            let reached = || {
                Some(Reached {
                    done: 5,
                    total: 9,
                    unit: "x".to_owned(),
                })
            };
            let end = || Ended {
                state: JobState::Succeeded,
                outcome: String::new(),
                not_before: None,
                now: NOW,
            };
            let refused = [
                store
                    .report_job(late, reached(), vec!["late".to_owned()], NOW)
                    .await,
                store.renew_job(late, NOW).await.map(drop),
                store.job_is_cancelled(late).map(drop),
                store.end_job(late, end(), None).await,
                store.give_back_job(late, NOW).await,
                store
                    .add_child_job(late, new(JobKind::Pruning))
                    .await
                    .map(drop),
            ];
            for it in refused {
                assert_eq!(it.unwrap_err().code, "fenced");
            }
            store
                .report_job(of(&row), reached(), Vec::new(), NOW)
                .await
                .unwrap();
            assert_eq!(store.job(job.id).unwrap().lost, 0);
            store.end_job(of(&row), end(), None).await.unwrap();
            let again = store.end_job(of(&row), end(), None).await;
            assert_eq!(again.unwrap_err().code, "fenced");
            let log = store.job_log(job.id, 0).unwrap();
            assert!(log.iter().all(|line| line.text != "late"));
        });
    }

    #[test]
    fn a_lease_that_ended_is_taken_back_unless_its_worker_is_alive() {
        with_store("leases", async |store| {
            let job = new(JobKind::Pruning);
            store.add_job(change(), job.clone()).await.unwrap();
            let boot = BootId::new();
            store
                .claim_job(claim(Lane::Upkeep, boot, 4))
                .await
                .unwrap()
                .unwrap();
            let later = NOW.plus(Timestamp::DAY);
            let alive = HashSet::from([job.id]);
            assert_eq!(store.take_back_jobs(boot, alive, later).await.unwrap(), 0);
            assert_eq!(
                store
                    .take_back_jobs(boot, HashSet::new(), later)
                    .await
                    .unwrap(),
                1
            );
        });
    }

    #[test]
    fn lanes_bound_and_hold_what_begins() {
        with_store("lanes", async |store| {
            for _ in 0..3 {
                store
                    .add_job(change(), new(JobKind::Pruning))
                    .await
                    .unwrap();
            }
            let boot = BootId::new();
            let claimed = async |claim: Claim| store.claim_job(claim).await.unwrap().is_some();
            assert!(!claimed(claim(Lane::Management, boot, 4)).await);
            assert!(claimed(claim(Lane::Upkeep, boot, 1)).await);
            assert!(!claimed(claim(Lane::Upkeep, boot, 1)).await);
            let held = Claim {
                held: true,
                ..claim(Lane::Upkeep, boot, 4)
            };
            assert!(!claimed(held).await);
            // Drained after the worker asked how the lane stands.
            store.set_drained(change(), &[Lane::Upkeep]).await.unwrap();
            assert!(!claimed(claim(Lane::Upkeep, boot, 4)).await);
            assert!(
                store.is_drained(Lane::Upkeep).unwrap()
                    && !store.is_drained(Lane::Management).unwrap()
            );
            store
                .set_drained(change(), &[Lane::Management])
                .await
                .unwrap();
            assert!(store.is_drained(Lane::Upkeep).unwrap());
            assert_eq!(store.hold_jobs(Lane::Upkeep, true).await.unwrap(), 2);
            let counts = store.lane_counts(Lane::Upkeep).unwrap();
            assert_eq!((counts.running, counts.held, counts.queued), (1, 2, 0));
            store.set_drained(change(), &[]).await.unwrap();
            assert_eq!(store.hold_jobs(Lane::Upkeep, false).await.unwrap(), 2);
            assert!(claimed(claim(Lane::Upkeep, boot, 4)).await);
        });
    }

    #[test]
    fn whoever_cancels_a_job_cancels_what_it_made() {
        with_store("children", async |store| {
            let parent = new(JobKind::Pruning);
            store.add_job(change(), parent.clone()).await.unwrap();
            let row = store.claim_job(claim(Lane::Upkeep, BootId::new(), 4)).await;
            let row = row.unwrap().unwrap();
            let child = NewJob {
                parent: Some(parent.id),
                ..new(JobKind::Pruning)
            };
            let grandchild = NewJob {
                parent: Some(child.id),
                ..new(JobKind::Pruning)
            };
            store.add_child_job(of(&row), child.clone()).await.unwrap();
            store.add_job(change(), grandchild.clone()).await.unwrap();
            assert_eq!(store.job_children(parent.id).unwrap(), [child.id]);
            let job = store
                .cancel_job(change(), parent.id, "someone".to_owned())
                .await
                .unwrap();
            // It runs: it ends before its next step.
            assert!(job.state == JobState::Running && job.cancelling);
            assert!(store.renew_job(of(&row), NOW).await.unwrap());
            for id in [child.id, grandchild.id] {
                assert_eq!(store.job(id).unwrap().job.state, JobState::Cancelled);
            }
            let over = store
                .cancel_job(change(), child.id, "someone".to_owned())
                .await;
            assert_eq!(over.unwrap_err().code, "wrong_state");
        });
    }

    #[test]
    fn the_newest_lines_and_jobs_are_kept() {
        with_store("kept", async |store| {
            let boot = BootId::new();
            let mut ids = Vec::new();
            for at in 0..5 {
                let job = new(JobKind::Pruning);
                store.add_job(change(), job.clone()).await.unwrap();
                let row = store.claim_job(claim(Lane::Upkeep, boot, 4)).await;
                let end = Ended {
                    state: JobState::Succeeded,
                    outcome: String::new(),
                    not_before: None,
                    now: NOW.plus(at * Timestamp::DAY),
                };
                let held = of(&row.unwrap().unwrap());
                if at == 4 {
                    let lines = (0..MOST_LINES + 5).map(|number| format!("{number}"));
                    let long = "ä".repeat(LONGEST_LINE);
                    let lines = lines.chain([long]).collect();
                    store.report_job(held, None, lines, NOW).await.unwrap();
                    let log = store.job_log(job.id, 0).unwrap();
                    assert_eq!(log.len() as u64, MOST_LINES);
                    assert_eq!(log.last().unwrap().text.len(), LONGEST_LINE);
                }
                store.end_job(held, end, None).await.unwrap();
                ids.push(job.id);
            }
            // One by its age, two by their number.
            let before = NOW.plus(Timestamp::DAY);
            while store.prune_jobs(before, 2).await.unwrap() {}
            let left: Vec<bool> = ids.iter().map(|id| store.job(*id).is_ok()).collect();
            assert_eq!(left, [false, false, false, true, true]);
            let lines = store.job_log(ids[0], 0).unwrap();
            assert!(lines.is_empty());
        });
    }
}
