//! How SQLite goes about each list: along an index, whatever the order, the way and the filter. A list
//! that looked at every row, or sorted them, would be slow only where there are many.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use rusqlite::Statement;

use super::{First, Keys, Opened, Start, Store};
use crate::clock;
use crate::crypto::chain::Tagger;
use crate::crypto::keygen;
use crate::model::filter::{Filter, Filterable};
use crate::model::id::{ClientId, InstanceId, OrgId};

/// What the lists ran, here and in other tests of this program.
static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Called by every list.
pub(super) fn saw(statement: &Statement<'_>) {
    if let Some(sql) = statement.expanded_sql() {
        // Bound values do not change the plan; what is left is the statement.
        SEEN.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(sql);
    }
}

fn any<T: Filterable>() -> Filter<T> {
    Filter::parse(&[], clock::now()).unwrap()
}

const KEY: [u8; 32] = [7; 32];

pub(super) fn store(dir: &std::path::Path) -> Store {
    let key = crate::secret::Key::new(KEY);
    let mut opened = Opened::open(dir, &key, true, clock::now()).unwrap();
    let first = First {
        instance: InstanceId::new(),
        seal_generation: 1,
        keys: Vec::new(),
        now: clock::now(),
    };
    opened.begin(&first).unwrap();
    let tagger = || Tagger::new(&keygen::key());
    let keys = Keys {
        changes: tagger(),
        access: tagger(),
        answers: keygen::key(),
    };
    opened.start(keys, |what| panic!("{what}")).unwrap()
}

/// Each order and way of every list, with each filter that an index narrows and one that none does.
async fn list_everything(store: &Store) {
    let id = [5; 16];
    let texts = || {
        [
            Start::Beginning,
            Start::After("m".to_owned()),
            Start::Before("m".to_owned()),
            Start::End,
        ]
    };
    let ids = || {
        [
            Start::Beginning,
            Start::After(id),
            Start::Before(id),
            Start::End,
        ]
    };
    let (org, owner) = (
        OrgId(uuid::Uuid::from_bytes(id)),
        ClientId(uuid::Uuid::from_bytes(id)),
    );
    for start in texts() {
        store.orgs(start.clone(), any(), 10).await.unwrap();
        store.users(start.clone(), any(), 10).await.unwrap();
        store.groups(org, start.clone(), any(), 10).await.unwrap();
        store.host_groups(start.clone(), any(), 10).await.unwrap();
        for filter in [
            "name ^ 'k'",
            "name ~ 'k'",
            "group = 'g'",
            "group = 'g' and name ^ 'k'",
        ] {
            let filter = Filter::parse(&[filter.to_owned()], clock::now()).unwrap();
            store.hosts(start.clone(), filter, 10).await.unwrap();
        }
        for filter in [
            "",
            "name = 'k'",
            "name ^ 'k'",
            "name ~ 'k'",
            "label.a = 'b'",
            "label.a = 'b' and name ^ 'k'",
        ] {
            for owner in [None, Some(owner)] {
                let filters: Vec<String> = [filter]
                    .into_iter()
                    .filter(|it| !it.is_empty())
                    .map(str::to_owned)
                    .collect();
                let filter = Filter::parse(&filters, clock::now()).unwrap();
                store
                    .deposits_by_name(org, owner, start.clone(), filter, 10)
                    .await
                    .unwrap();
            }
        }
    }
    for start in ids() {
        store.tokens(start.clone(), any(), 10).await.unwrap();
        store.recipients(start.clone(), any(), 10).await.unwrap();
        for org in [None, Some(org)] {
            store.clients(org, start.clone(), any(), 10).await.unwrap();
            store.jobs(org, start.clone(), any(), 10).await.unwrap();
        }
        store.deposits_by_id(start, any(), 10).await.unwrap();
    }
    for start in [
        Start::Beginning,
        Start::After((5, id)),
        Start::Before((5, id)),
        Start::End,
    ] {
        for filter in ["modified > -1d", "modified < -1d"] {
            let filter = Filter::parse(&[filter.to_owned()], clock::now()).unwrap();
            store
                .deposits_by_time(org, start.clone(), filter, 10)
                .await
                .unwrap();
        }
    }
}

#[test]
fn no_list_scans_or_sorts() {
    let dir = std::env::temp_dir().join(format!("strongroom-plans-{}", std::process::id()));
    crate::folder::make_folder(&dir).unwrap();
    let store = store(&dir);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(list_everything(&store));
    let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(seen.len() >= 22, "{} statements", seen.len());
    let plan = |sql: &str| -> Vec<(bool, String)> {
        store
            .readers
            .point(|db| {
                let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
                let rows = explain.query_map((), |row| {
                    Ok((row.get::<_, i64>(1)? == 0, row.get::<_, String>(3)?))
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .unwrap()
    };
    // A list looks up each of its rows, and takes them as they come. What it asks beside a row (the
    // newest of a client's few keys) may sort, and looks up as well.
    let walks = |sql: &str| {
        plan(sql).iter().any(|(outer, step)| {
            let beside = step.starts_with("CORRELATED ") || (!outer && !step.starts_with("SCAN "));
            !step.starts_with("SEARCH ") && !beside
        })
    };
    let bad: Vec<String> = seen
        .iter()
        .filter(|sql| walks(sql))
        .map(|sql| {
            format!(
                "{sql}\n  {}",
                plan(sql)
                    .iter()
                    .map(|(_, step)| step.as_str())
                    .collect::<Vec<_>>()
                    .join("\n  ")
            )
        })
        .collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    // What would be found: a filter without an index, an order without one.
    assert!(walks("SELECT * FROM deposits WHERE size > 5"));
    assert!(walks(
        "SELECT * FROM deposits WHERE org = x'00' ORDER BY size"
    ));
    drop(store);
    std::fs::remove_dir_all(&dir).unwrap();
}
