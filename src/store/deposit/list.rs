//! Lists of deposits, in the order of an index.

use rusqlite::Row;

use super::row::{SELECT, read};
use crate::error::Result;
use crate::model::deposit::Deposit;
use crate::model::filter::Filter;
use crate::model::id::{ClientId, OrgId};
use crate::store::Store;
use crate::store::list::{Rows, walk};

impl Store {
    /// By name within an organization, those after `after`; of one owner if given.
    pub async fn deposits_by_name(
        &self,
        org: OrgId,
        owner: Option<ClientId>,
        after: Option<String>,
        filter: Filter<Deposit>,
        limit: usize,
    ) -> Result<Rows<Deposit>> {
        self.readers
            .scan(move |db| {
                let prefix = filter.equals("name").or_else(|| filter.prefix("name")).unwrap_or_default().to_owned();
                let after = after.unwrap_or_default();
                let end = after_prefix(&prefix);
                let label = filter.label_equals().map(|(label, value)| (label.to_owned(), value.to_owned()));
                let take = |row: &Row<'_>| Ok(read(row)?.deposit);
                let (from, to) = (":name >= ?2 AND :name > ?3", " AND (?4 = '' OR :name < ?4)");
                let range = format!("{from}{to}");
                if let Some((label, value)) = label {
                    let sql = format!(
                        "{} WHERE l.org = ?1 AND l.label = ?5 AND l.value = ?6 AND {} AND (?7 IS NULL OR d.owner = ?7) ORDER BY l.name",
                        SELECT.replace("FROM deposits d", "FROM deposit_labels l CROSS JOIN deposits d ON d.id = l.deposit"),
                        range.replace(":name", "l.name")
                    );
                    let mut statement = db.prepare_cached(&sql)?;
                    return walk(&mut statement, (org.as_bytes(), &prefix, &after, &end, label, value, owner.map(|id| *id.as_bytes())), limit, &filter, take);
                }
                let range = range.replace(":name", "d.name");
                match owner {
                    Some(owner) => {
                        let mut statement = db.prepare_cached(&format!("{SELECT} WHERE d.org = ?1 AND d.owner = ?5 AND {range} ORDER BY d.name"))?;
                        walk(&mut statement, (org.as_bytes(), &prefix, &after, &end, owner.as_bytes()), limit, &filter, take)
                    }
                    None => {
                        let mut statement = db.prepare_cached(&format!("{SELECT} WHERE d.org = ?1 AND {range} ORDER BY d.name"))?;
                        walk(&mut statement, (org.as_bytes(), &prefix, &after, &end), limit, &filter, take)
                    }
                }
            })
            .await
    }

    /// Of all organizations, in the order they were made, those after `after`.
    pub async fn deposits_by_id(
        &self,
        after: Option<[u8; 16]>,
        filter: Filter<Deposit>,
        limit: usize,
    ) -> Result<Rows<Deposit>> {
        self.readers
            .scan(move |db| {
                let mut statement =
                    db.prepare_cached(&format!("{SELECT} WHERE d.id > ?1 ORDER BY d.id"))?;
                walk(
                    &mut statement,
                    [after.unwrap_or_default()],
                    limit,
                    &filter,
                    |row| Ok(read(row)?.deposit),
                )
            })
            .await
    }
}

/// The least text above all that begin with `prefix`; empty where there is no end.
fn after_prefix(prefix: &str) -> String {
    let mut end: Vec<u8> = prefix.bytes().collect();
    match end.last_mut() {
        // Names are ASCII below `{`, so the next byte is a character too.
        Some(last) if *last < 0x7f => *last += 1,
        _ => return String::new(),
    }
    String::from_utf8(end).unwrap_or_default()
}
