//! How backups are, for health: which of those that were verified still lie where they were, and where
//! that is.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Service;
use crate::model::backup::Backup;

/// The part of health that is about backups.
const BOARD: &str = "backups";

/// Where the file of a verified backup is, as far as the server sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lies {
    /// On the disk of the data folder.
    Beside,
    Elsewhere,
    /// Its folder can be read, and what was verified does not lie there.
    Gone,
    /// The server sees neither file nor folder.
    Unseen,
}

impl Lies {
    fn of(backup: &Backup, root: &Path) -> Self {
        let path = Path::new(&backup.path);
        match fs::metadata(path) {
            Ok(file) if !file.is_file() || file.len() != backup.bytes => Self::Gone,
            Ok(file) => match root.metadata().is_ok_and(|root| root.dev() == file.dev()) {
                true => Self::Beside,
                false => Self::Elsewhere,
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // A folder that is not there may be on a disk that is away, but for the server's own.
                let listed = path.parent().is_some_and(|it| fs::read_dir(it).is_ok());
                match listed || path.starts_with(root) {
                    true => Self::Gone,
                    false => Self::Unseen,
                }
            }
            Err(_) => Self::Unseen,
        }
    }
}

/// What is not well about them, and what to do; none: one lies elsewhere.
fn trouble(lies: &[Lies]) -> Option<(String, &'static str)> {
    let count = |which: Lies| lies.iter().filter(|it| **it == which).count();
    let (beside, gone, unseen) = (count(Lies::Beside), count(Lies::Gone), count(Lies::Unseen));
    if lies.is_empty() {
        return Some((
            "no backup was taken yet, and the schedule takes none as long as there is no recipient"
                .to_owned(),
            "strongroom recipient add age1…",
        ));
    }
    if count(Lies::Elsewhere) > 0 {
        return None;
    }
    let mut parts = Vec::new();
    if beside > 0 {
        parts.push(match beside == lies.len() {
            true => "every backup lies on the disk that the store is on".to_owned(),
            false => format!("{beside} backups lie on the disk that the store is on, and none elsewhere that the server sees"),
        });
    }
    if gone > 0 {
        parts.push(format!(
            "the files of {gone} verified backups were deleted, moved or changed, so these do not count"
        ));
    }
    if unseen > 0 {
        parts.push(format!(
            "the server cannot see whether the files of {unseen} verified backups are still there"
        ));
    }
    let next = match (beside, unseen) {
        (0, 0) => "strongroom backup create; or put them back where `strongroom backup list` says",
        (_, 0) => "strongroom backup create --output DIR, on another disk; or copy them elsewhere",
        (_, _) => {
            "let the server's account read their folder (`strongroom backup list` names it), or look there yourself"
        }
    };
    Some((parts.join("; "), next))
}

impl Service {
    /// Tells the board how backups are.
    pub(in crate::service) fn report_backups(&self) {
        if let Some(why) = self.backups.fault().clone() {
            return self.board.red(
                BOARD,
                &format!("the last backup failed: {why}"),
                "mend what it says, and take another: strongroom backup create",
            );
        }
        let Ok(backups) = self.store.backups(false) else {
            return;
        };
        let root = self.seal.folder.root();
        let lies: Vec<Lies> = backups.iter().map(|it| Lies::of(it, root)).collect();
        match trouble(&lies) {
            Some((reason, next)) => self.board.amber(BOARD, &reason, next),
            None => self.board.green(BOARD),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lies::{Beside, Elsewhere, Gone, Unseen};
    use super::*;

    #[test]
    fn only_one_that_is_seen_elsewhere_is_enough() {
        for enough in [&[Elsewhere][..], &[Gone, Unseen, Beside, Elsewhere]] {
            assert_eq!(trouble(enough), None);
        }
        for (lies, says) in [
            (&[][..], &["no backup was taken"][..]),
            (&[Beside, Beside], &["every backup lies on the disk"]),
            (&[Gone, Gone], &["files of 2 verified backups were deleted"]),
            (&[Unseen], &["cannot see whether the files of 1"]),
            (
                &[Beside, Gone, Unseen],
                &[
                    "1 backups lie on",
                    "of 1 verified backups were deleted",
                    "cannot see",
                ],
            ),
        ] {
            let (reason, _) = trouble(lies).unwrap();
            for part in says {
                assert!(reason.contains(part), "{reason}");
            }
        }
    }
}
