//! The tags on the pages of our encrypted database files (SQLCipher 4 with a raw key and
//! HMAC-SHA-256), checked without opening the file: so a page of another database is told apart
//! before anything takes it over.

use std::num::NonZeroU32;

use aws_lc_rs::{hmac, pbkdf2};
use zeroize::Zeroizing;

use crate::secret::Key;

pub const PAGE: usize = 4_096;
/// What the first page begins with, in place of a page's content.
pub const SALT: usize = 16;
const TAG: usize = 32;
const SALT_MASK: u8 = 0x3a;
const ITERATIONS: NonZeroU32 = NonZeroU32::new(2).expect("two is not zero");

pub struct PageTags(hmac::Key);

impl PageTags {
    /// `salt` is what the file begins with.
    pub fn new(key: &Key, salt: [u8; SALT]) -> Self {
        let salt = salt.map(|byte| byte ^ SALT_MASK);
        let mut derived = Zeroizing::new([0; TAG]);
        let sha256 = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(sha256, ITERATIONS, &salt, key.expose(), derived.as_mut());
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// Whether this is page `number` of the database with this key and salt.
    pub fn holds(&self, number: u32, page: &[u8; PAGE]) -> bool {
        let (tagged, tag) = page.split_at(PAGE - TAG);
        let start = if number == 1 { SALT } else { 0 };
        let message = [&tagged[start..], &number.to_le_bytes()].concat();
        hmac::verify(&self.0, &message, tag).is_ok()
    }
}
