//! A request's query, strictly: only what the route takes, each once but for `filter`.

use std::str::FromStr;

use super::headers::percent_decode;
use crate::error::{Error, Result};
use crate::model::id::shown;
use crate::model::page::MAX_LIMIT;
use crate::service::ListQuery;

/// May stand there more than once.
const REPEATED: &str = "filter";
pub(super) const MAX_FILTERS: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// # Errors
    /// Bad percent-encoding, an unknown parameter, or one given twice.
    pub(super) fn parse(raw: Option<&str>, taken: &'static [&'static str]) -> Result<Self> {
        let mut pairs: Vec<(&'static str, String)> = Vec::new();
        for pair in raw
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text| {
                percent_decode(text, true).ok_or_else(|| {
                    Error::invalid("query", "the query is not percent-encoded UTF-8")
                })
            };
            let name = decode(name)?;
            let Some(name) = taken.iter().find(|known| **known == name) else {
                return Err(unknown(&name, taken));
            };
            let before = pairs.iter().filter(|(known, _)| known == name).count();
            if before > 0 && (*name != REPEATED || before >= MAX_FILTERS) {
                return Err(Error::invalid(
                    name,
                    format!("the query gives `{name}` too often"),
                ));
            }
            pairs.push((*name, decode(value)?));
        }
        Ok(Self(pairs))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn parsed<T: FromStr<Err = Error>>(&self, name: &str) -> Result<Option<T>> {
        self.text(name).map(str::parse).transpose()
    }

    /// `true` or `false`, the latter unless said.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Error::invalid(
                name,
                format!("`{name}` takes `true` or `false`"),
            )),
        }
    }

    /// A whole number from 1 to `max`.
    pub(super) fn number(&self, name: &'static str, max: u32) -> Result<Option<u32>> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        super::headers::version(text)
            .filter(|number| *number <= max)
            .map(Some)
            .ok_or_else(|| {
                Error::invalid(
                    name,
                    format!("`{name}` takes a whole number from 1 to {max}"),
                )
            })
    }

    pub(super) fn list(&self) -> Result<ListQuery> {
        Ok(ListQuery {
            filters: self
                .0
                .iter()
                .filter(|(name, _)| *name == REPEATED)
                .map(|(_, value)| value.clone())
                .collect(),
            cursor: self.text("cursor").map(str::to_owned),
            limit: self.number("limit", MAX_LIMIT)?,
            last: match self.text("page") {
                None => false,
                Some("last") => true,
                Some(_) => return Err(Error::invalid("page", "`page` takes `last`")),
            },
        })
    }
}

fn unknown(name: &str, taken: &[&str]) -> Error {
    let known = match taken {
        [] => "it takes none".to_owned(),
        taken => format!("it takes {}", taken.join(", ")),
    };
    Error::invalid(
        "query",
        format!(
            "this path takes no query parameter `{}`; {known}",
            shown(name)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[&str] = &["filter", "cursor", "limit"];

    #[test]
    fn a_list_takes_filters_a_cursor_and_a_limit() {
        let query = Query::parse(Some("filter=a%3Db&filter=c+d&limit=5&cursor=x"), LIST).unwrap();
        let list = query.list().unwrap();
        assert_eq!(list.filters, ["a=b", "c d"]);
        assert_eq!((list.limit, list.cursor.as_deref()), (Some(5), Some("x")));
    }

    #[test]
    fn what_is_not_taken_is_refused_by_name() {
        let refused = |raw| Query::parse(Some(raw), LIST).unwrap_err().public;
        assert!(refused("limti=5").contains("limti"));
        assert!(refused("limit=5&limit=6").contains("limit"));
        assert!(refused("filter=%f").contains("percent"));
        for bad in ["0", "1001", "-1", "+1", "x", ""] {
            let raw = format!("limit={bad}");
            assert!(
                Query::parse(Some(&raw), LIST).unwrap().list().is_err(),
                "{bad}"
            );
        }
        assert!(Query::parse(None, &[]).is_ok());
        assert!(Query::parse(Some("a=1"), &[]).is_err());
    }
}
