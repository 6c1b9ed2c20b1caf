//! Users and their grants.

use rusqlite::{Connection, Row};

use super::list::{Rows, Start, walk};
use super::totp::clear;
use super::{Change, Store};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::filter::Filter;
use crate::model::id::UserId;
use crate::model::role::{Grant, Role};
use crate::model::user::{User, UserName};

/// A user with the hash of its password.
#[derive(Clone)]
pub struct UserRow {
    pub user: User,
    /// PHC string.
    pub password: String,
}

pub struct NewUser {
    pub user: User,
    pub password: String,
}

const SELECT: &str = "SELECT id, name, password, created, disabled,
    EXISTS (SELECT 1 FROM second_factors f WHERE f.user_id = users.id AND f.confirmed IS NOT NULL) FROM users";

fn read(db: &Connection, row: &Row<'_>) -> Result<UserRow> {
    let id: [u8; 16] = row.get(0)?;
    Ok(UserRow {
        user: User {
            id: UserId(uuid::Uuid::from_bytes(id)),
            name: row.get::<_, String>(1)?.parse()?,
            grants: grants(db, &id)?,
            created: Timestamp(row.get(3)?),
            disabled: row.get(4)?,
            second_factor: row.get(5)?,
        },
        password: row.get(2)?,
    })
}

fn grants(db: &Connection, user: &[u8; 16]) -> Result<Vec<Grant>> {
    let mut statement = db.prepare_cached("SELECT g.role, g.org, o.name FROM grants g LEFT JOIN orgs o ON o.id = g.org WHERE g.user_id = ?1 ORDER BY g.role, o.name")?;
    let mut rows = statement.query([user])?;
    let mut grants = Vec::new();
    while let Some(row) = rows.next()? {
        let word: String = row.get(0)?;
        let everywhere = row.get_ref(1)?.as_blob().is_ok_and(<[u8]>::is_empty);
        let org = row
            .get::<_, Option<String>>(2)?
            .map(|name| name.parse())
            .transpose()?;
        // A grant on an organization that is gone gives nothing.
        if let Some(role) = Role::ALL.into_iter().find(|role| role.as_str() == word)
            && (everywhere || org.is_some())
        {
            grants.push(Grant { role, org });
        }
    }
    Ok(grants)
}

fn find(db: &Connection, name: &UserName) -> Result<Option<UserRow>> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE name = ?1"))?;
    let mut rows = statement.query([name.as_str()])?;
    rows.next()?.map(|row| read(db, row)).transpose()
}

pub(super) fn found(db: &Connection, name: &UserName) -> Result<UserRow> {
    find(db, name)?.ok_or_else(|| Error::not_found(format!("no user is named `{name}`")))
}

fn insert_grant(db: &Connection, user: UserId, grant: &Grant) -> Result<bool> {
    let org: Vec<u8> = match &grant.org {
        None => Vec::new(),
        Some(name) => {
            let id: Option<[u8; 16]> = rusqlite::OptionalExtension::optional(db.query_row(
                "SELECT id FROM orgs WHERE name = ?1",
                [name.as_str()],
                |row| row.get(0),
            ))?;
            id.ok_or_else(|| Error::not_found(format!("no organization is named `{name}`")))?
                .to_vec()
        }
    };
    Ok(db.execute(
        "INSERT OR IGNORE INTO grants (user_id, role, org) VALUES (?1, ?2, ?3)",
        (user.as_bytes(), grant.role.as_str(), org),
    )? > 0)
}

/// Someone must be able to give rights.
fn superuser_remains(db: &Connection) -> Result<()> {
    let left: i64 = db.query_row(
        "SELECT count(*) FROM users u JOIN grants g ON g.user_id = u.id WHERE g.role = 'superuser' AND length(g.org) = 0 AND u.disabled = 0",
        (),
        |row| row.get(0),
    )?;
    if left == 0 {
        return Err(Error::conflict(
            "last_superuser",
            "this would leave no enabled superuser; make another one first",
        ));
    }
    Ok(())
}

impl Store {
    /// # Errors
    /// `name_taken`.
    pub async fn add_user(&self, change: Change, new: NewUser) -> Result<User> {
        self.change(change, 1_024, move |tx, _| {
            if find(tx.db, &new.user.name)?.is_some() {
                return Err(Error::conflict("name_taken", format!("a user is named `{}` already", new.user.name)));
            }
            tx.db.execute("INSERT INTO users (id, name, password, created, disabled) VALUES (?1, ?2, ?3, ?4, 0)", (new.user.id.as_bytes(), new.user.name.as_str(), &new.password, new.user.created.0))?;
            for grant in &new.user.grants {
                insert_grant(tx.db, new.user.id, grant)?;
            }
            Ok(found(tx.db, &new.user.name)?.user)
        })
        .await
    }

    pub fn user(&self, name: &UserName) -> Result<UserRow> {
        self.readers.point(|db| found(db, name))
    }

    pub fn user_if_any(&self, name: &UserName) -> Result<Option<UserRow>> {
        self.readers.point(|db| find(db, name))
    }

    /// By name.
    pub async fn users(
        &self,
        start: Start<String>,
        filter: Filter<User>,
        limit: usize,
    ) -> Result<Rows<User>> {
        self.readers
            .scan(move |db| {
                let order = start.order();
                let mut statement = db.prepare_cached(&format!(
                    "{SELECT} WHERE name >= ?1 AND name < ?2 ORDER BY name {order}"
                ))?;
                let bounds = start.bounds("");
                let take = |row: &Row<'_>| Ok(read(db, row)?.user);
                walk(&start, &mut statement, bounds, limit, &filter, take)
            })
            .await
    }

    /// Disabling ends the user's sessions.
    pub async fn set_user_disabled(
        &self,
        change: Change,
        name: UserName,
        disabled: bool,
    ) -> Result<User> {
        self.change(change, 256, move |tx, event| {
            let known = found(tx.db, &name)?;
            tx.db.execute(
                "UPDATE users SET disabled = ?2 WHERE id = ?1",
                (known.user.id.as_bytes(), disabled),
            )?;
            tx.db.execute(
                "DELETE FROM sessions WHERE user_id = ?1",
                [known.user.id.as_bytes()],
            )?;
            superuser_remains(tx.db)?;
            event.detail = if disabled { "disabled" } else { "enabled" }.to_owned();
            Ok(found(tx.db, &name)?.user)
        })
        .await
    }

    /// With its grants, tokens, sessions and certificates.
    pub async fn remove_user(&self, change: Change, name: UserName) -> Result<()> {
        self.change(change, 256, move |tx, _| {
            let user = found(tx.db, &name)?.user.id;
            let id = *user.as_bytes();
            clear(tx.db, user)?;
            for table in ["grants", "tokens", "sessions", "user_certificates"] {
                tx.db
                    .execute(&format!("DELETE FROM {table} WHERE user_id = ?1"), [id])?;
            }
            tx.db.execute("DELETE FROM users WHERE id = ?1", [id])?;
            superuser_remains(tx.db)
        })
        .await
    }

    /// Ends the user's sessions.
    pub async fn set_user_password(
        &self,
        change: Change,
        name: UserName,
        password: String,
    ) -> Result<()> {
        self.change(change, 512, move |tx, _| {
            let id = *found(tx.db, &name)?.user.id.as_bytes();
            tx.db.execute(
                "UPDATE users SET password = ?2 WHERE id = ?1",
                (id, &password),
            )?;
            tx.db
                .execute("DELETE FROM sessions WHERE user_id = ?1", [id])?;
            Ok(())
        })
        .await
    }

    /// A new password, and nothing left of before: enabled, without sessions, tokens and certificates, and without a
    /// second factor if it is to be cleared.
    pub async fn reset_user<T>(
        &self,
        change: Change,
        name: UserName,
        (password, clears): (String, bool),
        answer: T,
    ) -> Result<T>
    where
        T: serde::Serialize + serde::de::DeserializeOwned + Send + 'static,
    {
        self.change(change, 512, move |tx, _| {
            let user = found(tx.db, &name)?.user.id;
            tx.db.execute(
                "UPDATE users SET password = ?2, disabled = 0 WHERE id = ?1",
                (user.as_bytes(), &password),
            )?;
            for table in ["sessions", "tokens", "user_certificates"] {
                tx.db.execute(
                    &format!("DELETE FROM {table} WHERE user_id = ?1"),
                    [user.as_bytes()],
                )?;
            }
            if clears {
                clear(tx.db, user)?;
            }
            Ok(answer)
        })
        .await
    }

    /// Ends the user's sessions, tokens and certificates, so that rights are those of a new log-in: whoever made a
    /// token before does not get what it may do now.
    pub async fn grant(&self, change: Change, name: UserName, grant: Grant) -> Result<User> {
        self.change(change, 256, move |tx, _| {
            let id = found(tx.db, &name)?.user.id;
            if insert_grant(tx.db, id, &grant)? {
                for table in ["sessions", "tokens", "user_certificates"] {
                    tx.db.execute(
                        &format!("DELETE FROM {table} WHERE user_id = ?1"),
                        [id.as_bytes()],
                    )?;
                }
            }
            Ok(found(tx.db, &name)?.user)
        })
        .await
    }

    /// # Errors
    /// `NotFound` if the user has no such grant, `last_superuser`.
    pub async fn revoke(&self, change: Change, name: UserName, grant: Grant) -> Result<User> {
        self.change(change, 256, move |tx, _| {
            let id = found(tx.db, &name)?.user.id;
            let org = grant.org.as_ref().map_or("", |org| org.as_str());
            let gone = tx.db.execute(
                "DELETE FROM grants WHERE user_id = ?1 AND role = ?2 AND org = CASE ?3 WHEN '' THEN x'' ELSE (SELECT id FROM orgs WHERE name = ?3) END",
                (id.as_bytes(), grant.role.as_str(), org),
            )?;
            if gone == 0 {
                return Err(Error::not_found(format!("`{name}` has no such grant")));
            }
            tx.db.execute("DELETE FROM sessions WHERE user_id = ?1", [id.as_bytes()])?;
            superuser_remains(tx.db)?;
            Ok(found(tx.db, &name)?.user)
        })
        .await
    }

    pub(super) fn user_by_id(db: &Connection, id: [u8; 16]) -> Result<Option<UserRow>> {
        let mut statement = db.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
        let mut rows = statement.query([id])?;
        rows.next()?.map(|row| read(db, row)).transpose()
    }
}
