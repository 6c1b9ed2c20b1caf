//! A home as one age-encrypted file (docs/formats/client.md): what `client backup` writes and
//! `client restore` reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::files;
use super::home::{FILES, Home, REGISTRATION};
use crate::clock::{self, Timestamp};
use crate::crypto::agefile;
use crate::error::{Error, Result};
use crate::secret::Secret;

const FORMAT: &str = "strongroom-client-home";
const VERSION: u32 = 1;
/// Five small files in JSON, and what age adds.
pub const LONGEST: u64 = 2 << 20;

/// What is inside the age file, as JSON. The order of the fields is part of the format: it begins
/// with its magic and version.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    format: String,
    version: u32,
    created: Timestamp,
    files: BTreeMap<String, String>,
}

/// Read first, so that a newer format is refused by its version and not by its fields.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.files.values_mut().for_each(Zeroize::zeroize);
    }
}

/// Everything in the home that makes up a client, encrypted.
pub fn seal(home: &Home, recipients: &[String]) -> Result<Vec<u8>> {
    let mut bundle = Bundle {
        format: FORMAT.to_owned(),
        version: VERSION,
        created: clock::now(),
        files: BTreeMap::new(),
    };
    for name in home.occupied() {
        bundle
            .files
            .insert(name.to_owned(), home.text(name)?.expose().clone());
    }
    let json = serde_json::to_vec(&bundle)
        .map(Zeroizing::new)
        .map_err(|error| Error::internal(format!("the bundle as JSON: {error}")))?;
    agefile::encrypt(recipients, &json)
}

/// Opens a bundle and puts its files into a home that has none of them.
pub fn restore(home: &Home, sealed: &[u8], identity: &Secret<Vec<u8>>) -> Result<()> {
    let bundle = open(sealed, identity)?;
    files::private_folder(&home.dir)?;
    let occupied = home.occupied();
    if !occupied.is_empty() {
        return Err(Error::conflict(
            "home_occupied",
            format!(
                "{} holds {} already, and nothing is replaced; name another --home, or move it away",
                home.dir.display(),
                occupied.join(", ")
            ),
        ));
    }
    // client.toml last: a home that has it has all.
    let ordered = bundle
        .files
        .iter()
        .filter(|(name, _)| *name != REGISTRATION);
    for (name, text) in ordered.chain(bundle.files.get_key_value(REGISTRATION)) {
        files::create(&home.file(name), text.as_bytes())?;
    }
    Ok(())
}

fn open(sealed: &[u8], identity: &Secret<Vec<u8>>) -> Result<Bundle> {
    parse(agefile::decrypt(identity, sealed)?.expose())
}

/// Whether these bytes are what a bundle's age file holds.
///
/// # Errors
/// `Invalid`, without a word of what stands in them.
pub fn check(json: &[u8]) -> Result<()> {
    parse(json).map(|_| ())
}

fn parse(json: &[u8]) -> Result<Bundle> {
    let wrong =
        |why: &str| Error::invalid("bundle", format!("this is not a client's backup: {why}"));
    let head: Head = serde_json::from_slice(json)
        .map_err(|_| wrong("it does not begin with format and version"))?;
    if head.format != FORMAT {
        return Err(wrong("its format is another"));
    }
    if head.version != VERSION {
        return Err(wrong(&format!(
            "its version is {}, and this program reads version {VERSION}",
            head.version
        )));
    }
    // The reason stays out: it could quote a secret.
    let bundle: Bundle =
        serde_json::from_slice(json).map_err(|_| wrong("its fields are others"))?;
    match bundle
        .files
        .keys()
        .find(|name| !FILES.contains(&name.as_str()))
    {
        Some(name) => Err(wrong(&format!(
            "it holds `{}`, which no home has",
            crate::model::id::shown(name)
        ))),
        None => Ok(bundle),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::home::{IDENTITY, KEY};

    #[test]
    fn a_home_comes_back_byte_for_byte_and_replaces_nothing() {
        let folder = files::TestFolder::new();
        let dir = &folder.0;
        let home = Home::new(dir.join("a"));
        home.make_keys("host").unwrap_or_else(|e| panic!("{e}"));
        let (identity, recipient) = agefile::generate_identity();
        let identity = Secret::new(identity.expose().clone().into_bytes());
        let sealed = seal(&home, &[recipient]).unwrap();
        let other = Home::new(dir.join("b"));
        restore(&other, &sealed, &identity).unwrap();
        for name in [KEY, IDENTITY] {
            assert_eq!(
                std::fs::read(home.file(name)).unwrap(),
                std::fs::read(other.file(name)).unwrap()
            );
        }
        assert_eq!(
            restore(&other, &sealed, &identity).unwrap_err().code,
            "home_occupied"
        );
    }

    #[test]
    fn what_is_no_bundle_is_refused() {
        let (identity, recipient) = agefile::generate_identity();
        let identity = Secret::new(identity.expose().clone().into_bytes());
        let time = "2026-01-01T00:00:00Z";
        for (json, why) in [
            ("x".to_owned(), "begin"),
            (r#"{"format":"other","version":1}"#.to_owned(), "another"),
            (
                format!(r#"{{"format":"{FORMAT}","version":2}}"#),
                "version is 2",
            ),
            (
                format!(
                    r#"{{"format":"{FORMAT}","version":1,"created":"{time}","files":{{"../x":""}}}}"#
                ),
                "no home has",
            ),
        ] {
            let sealed =
                agefile::encrypt(std::slice::from_ref(&recipient), json.as_bytes()).unwrap();
            let error = open(&sealed, &identity).err().unwrap();
            assert!(error.public.contains(why), "{error}");
        }
    }
}
