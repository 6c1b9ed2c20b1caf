//! Lists of deposits, in the order of an index.

use rusqlite::Row;

use super::row::{SELECT, read};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::deposit::Deposit;
use crate::model::filter::Filter;
use crate::model::id::{ClientId, OrgId};
use crate::store::Store;
use crate::store::list::{Rows, Start, walk};

/// The heads' columns, led by the index of labels.
fn by_label() -> String {
    SELECT.replace(
        "FROM deposits d",
        "FROM deposit_labels l CROSS JOIN deposits d ON d.id = l.deposit",
    )
}

fn take(row: &Row<'_>) -> Result<Deposit> {
    Ok(read(row)?.deposit)
}

impl Store {
    /// By name within an organization; of one owner if given. A name, a prefix and one label are
    /// looked up by indexes.
    pub async fn deposits_by_name(
        &self,
        org: OrgId,
        owner: Option<ClientId>,
        start: Start<String>,
        filter: Filter<Deposit>,
        limit: usize,
    ) -> Result<Rows<Deposit>> {
        self.readers
            .scan(move |db| {
                let prefix = filter.equals("name").or_else(|| filter.prefix("name"));
                let (low, high) = start.bounds(prefix.unwrap_or_default());
                let order = start.order();
                let org = org.as_bytes();
                if let Some((label, value)) = filter.label_equals() {
                    let sql = format!(
                        "{} WHERE l.org = ?1 AND l.label = ?4 AND l.value = ?5 AND l.name >= ?2 AND l.name < ?3
                         AND (?6 IS NULL OR d.owner = ?6) ORDER BY l.name {order}",
                        by_label()
                    );
                    let owner = owner.map(|owner| *owner.as_bytes());
                    let mut statement = db.prepare_cached(&sql)?;
                    let params = (org, &low, &high, label, value, owner);
                    return walk(&start, &mut statement, params, limit, &filter, take);
                }
                let range = "d.name >= ?2 AND d.name < ?3";
                match owner {
                    Some(owner) => {
                        let mut statement = db.prepare_cached(&format!(
                            "{SELECT} WHERE d.org = ?1 AND d.owner = ?4 AND {range} ORDER BY d.name {order}"
                        ))?;
                        let params = (org, &low, &high, owner.as_bytes());
                        walk(&start, &mut statement, params, limit, &filter, take)
                    }
                    None => {
                        let mut statement = db.prepare_cached(&format!(
                            "{SELECT} WHERE d.org = ?1 AND {range} ORDER BY d.name {order}"
                        ))?;
                        walk(&start, &mut statement, (org, &low, &high), limit, &filter, take)
                    }
                }
            })
            .await
    }

    /// By the time of their last change within an organization; for filters that bound it.
    pub async fn deposits_by_time(
        &self,
        org: OrgId,
        start: Start<(i64, [u8; 16])>,
        filter: Filter<Deposit>,
        limit: usize,
    ) -> Result<Rows<Deposit>> {
        self.readers
            .scan(move |db| {
                let mut low = (filter.after("modified").map_or(0, |Timestamp(at)| at), [0; 16]);
                let last = filter.before("modified").map_or(i64::MAX, |Timestamp(at)| at);
                let mut high = (last, [0xff; 16]);
                match &start {
                    Start::Beginning | Start::End => {}
                    Start::After(key) => low = low.max(*key),
                    Start::Before(key) => high = high.min(*key),
                }
                let order = start.order();
                let mut statement = db.prepare_cached(&format!(
                    "{SELECT} WHERE d.org = ?1 AND (d.modified, d.id) > (?2, ?3) AND (d.modified, d.id) < (?4, ?5)
                     ORDER BY d.modified {order}, d.id {order}"
                ))?;
                let params = (org.as_bytes(), low.0, low.1, high.0, high.1);
                walk(&start, &mut statement, params, limit, &filter, take)
            })
            .await
    }

    /// Those of others that a client reads, in the order they were made. The ids of these alone are
    /// gathered and sorted first, along the readers' indexes.
    pub async fn deposits_shared_with(
        &self,
        client: ClientId,
        start: Start<[u8; 16]>,
        filter: Filter<Deposit>,
        limit: usize,
    ) -> Result<Rows<Deposit>> {
        self.readers
            .scan(move |db| {
                let (low, high) = start.bounds();
                let order = start.order();
                let mut statement = db.prepare_cached(&format!(
                    "{SELECT} WHERE d.id > ?1 AND d.id < ?2 AND d.id IN (SELECT deposit FROM deposit_readers WHERE reader = ?3
                     UNION SELECT r.deposit FROM client_group_members m JOIN deposit_readers r ON r.reader = m.client_group WHERE m.client = ?3)
                     ORDER BY d.id {order}"
                ))?;
                let params = (low, high, client.as_bytes());
                walk(&start, &mut statement, params, limit, &filter, take)
            })
            .await
    }

    /// Of all organizations, in the order they were made.
    pub async fn deposits_by_id(
        &self,
        start: Start<[u8; 16]>,
        filter: Filter<Deposit>,
        limit: usize,
    ) -> Result<Rows<Deposit>> {
        self.readers
            .scan(move |db| {
                let (low, high) = start.bounds();
                let order = start.order();
                let mut statement = db.prepare_cached(&format!(
                    "{SELECT} WHERE d.id > ?1 AND d.id < ?2 ORDER BY d.id {order}"
                ))?;
                walk(&start, &mut statement, (low, high), limit, &filter, take)
            })
            .await
    }
}
