//! API tokens: hashes, scopes, ends.

use rusqlite::Row;

use super::list::{Rows, Start, walk};
use super::user::UserRow;
use super::{Change, Store};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::filter::Filter;
use crate::model::id::{TokenId, UserId};
use crate::model::token::{Scope, Token};

pub struct NewToken {
    pub token: Token,
    pub user: UserId,
    pub hash: [u8; 32],
}

/// A token with its user, as each request needs it.
pub struct TokenRow {
    pub token: Token,
    pub user: UserRow,
}

const SELECT: &str = "SELECT t.id, u.name, t.label, t.scopes, t.created, t.expires, t.user_id FROM tokens t JOIN users u ON u.id = t.user_id";

fn read(row: &Row<'_>) -> Result<Token> {
    let words: String = row.get(3)?;
    Ok(Token {
        id: TokenId(uuid::Uuid::from_bytes(row.get(0)?)),
        user: row.get::<_, String>(1)?.parse()?,
        label: row.get(2)?,
        scopes: Scope::ALL
            .into_iter()
            .filter(|scope| words.split(' ').any(|word| word == scope.as_str()))
            .collect(),
        created: Timestamp(row.get(4)?),
        expires: row.get::<_, Option<i64>>(5)?.map(Timestamp),
    })
}

impl Store {
    /// `secret` goes into the answer, so that a retry gets the same one; what is kept is its hash.
    pub async fn add_token(
        &self,
        change: Change,
        new: NewToken,
        secret: String,
    ) -> Result<(Token, String)> {
        self.change(change, 512, move |tx, _| {
            let scopes: Vec<&str> = new.token.scopes.iter().map(|scope| scope.as_str()).collect();
            tx.db.execute(
                "INSERT INTO tokens (id, hash, user_id, label, scopes, created, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                (new.token.id.as_bytes(), new.hash, new.user.as_bytes(), &new.token.label, scopes.join(" "), new.token.created.0, new.token.expires.map(|end| end.0)),
            )?;
            Ok((new.token, secret))
        })
        .await
    }

    pub fn token_by_hash(&self, hash: &[u8; 32]) -> Result<Option<TokenRow>> {
        self.readers.point(|db| {
            let mut statement = db.prepare_cached(&format!("{SELECT} WHERE t.hash = ?1"))?;
            let mut rows = statement.query([hash])?;
            let Some(row) = rows.next()? else {
                return Ok(None);
            };
            let user = Self::user_by_id(db, row.get(6)?)?;
            user.map(|user| read(row).map(|token| TokenRow { token, user }))
                .transpose()
        })
    }

    pub fn token(&self, id: TokenId) -> Result<Token> {
        self.readers.point(|db| {
            let mut statement = db.prepare_cached(&format!("{SELECT} WHERE t.id = ?1"))?;
            let mut rows = statement.query([id.as_bytes()])?;
            rows.next()?
                .map(read)
                .transpose()?
                .ok_or_else(|| Error::not_found(format!("no token has the id {id}")))
        })
    }

    /// In the order they were made.
    pub async fn tokens(
        &self,
        start: Start<[u8; 16]>,
        filter: Filter<Token>,
        limit: usize,
    ) -> Result<Rows<Token>> {
        self.readers
            .scan(move |db| {
                let order = start.order();
                let mut statement = db.prepare_cached(&format!(
                    "{SELECT} WHERE t.id > ?1 AND t.id < ?2 ORDER BY t.id {order}"
                ))?;
                walk(&start, &mut statement, start.bounds(), limit, &filter, read)
            })
            .await
    }

    pub async fn remove_token(&self, change: Change, id: TokenId) -> Result<()> {
        self.change(change, 128, move |tx, _| {
            match tx
                .db
                .execute("DELETE FROM tokens WHERE id = ?1", [id.as_bytes()])?
            {
                0 => Err(Error::not_found(format!("no token has the id {id}"))),
                _ => Ok(()),
            }
        })
        .await
    }
}
