//! Secrets in memory: wiped when dropped, never printed, cloned or serialised.

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// A value that is wiped when it goes. No `Debug`, `Clone` or `Serialize`: whoever needs the value
/// says `expose`.
pub struct Secret<T: Zeroize>(T);

/// 32 bytes of key.
pub type Key = Secret<[u8; 32]>;

impl<T: Zeroize> Secret<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }

    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl Secret<[u8; 32]> {
    /// A key from bytes that must be 32 long.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl<T: Zeroize + AsRef<[u8]>> Secret<T> {
    /// Compares without telling by its time where the two differ.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.as_ref().ct_eq(other).into()
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
