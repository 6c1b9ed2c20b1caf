//! Secrets in memory: wiped when dropped, never printed, cloned or serialised.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::os;

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

/// Keys that stay as long as the server is open, on pages that the system keeps out of swap.
#[derive(Default)]
pub struct Arena {
    last: Mutex<Option<Arc<Page>>>,
    /// A page could not be locked.
    loose: AtomicBool,
}

/// A key in an arena. Its page is wiped when the last of its keys goes.
#[derive(Clone)]
pub struct Locked {
    page: Arc<Page>,
    at: usize,
}

/// So many fit on a page.
const ON_PAGE: usize = 96;

/// Alone on its page of memory: what is locked is nobody else's.
#[repr(align(4096))]
struct Page {
    keys: [OnceLock<Key>; ON_PAGE],
}

impl Drop for Page {
    fn drop(&mut self) {
        for key in self.keys.iter_mut().filter_map(OnceLock::get_mut) {
            key.0.zeroize();
        }
        let _ = os::unlock_memory(&self.keys);
    }
}

impl Arena {
    /// Takes a key in.
    pub fn keep(&self, key: Key) -> Locked {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(page) = last.as_ref()
            && let Some(at) = page.keys.iter().position(|place| place.get().is_none())
        {
            let _ = page.keys[at].set(key);
            let page = Arc::clone(page);
            return Locked { page, at };
        }
        let page = Arc::new(Page {
            keys: [const { OnceLock::new() }; ON_PAGE],
        });
        // Before there is anything on it.
        if os::lock_memory(&page.keys).is_err() {
            self.loose.store(true, Ordering::Relaxed);
        }
        let _ = page.keys[0].set(key);
        *last = Some(Arc::clone(&page));
        Locked { page, at: 0 }
    }

    /// Whether the system let all of it be locked.
    pub fn is_locked(&self) -> bool {
        !self.loose.load(Ordering::Relaxed)
    }
}

impl Deref for Locked {
    type Target = Key;

    fn deref(&self) -> &Key {
        const NONE: &Key = &Secret([0; 32]);
        // `keep` filled it before there was a handle.
        self.page.keys[self.at].get().unwrap_or(NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_keeps_each_key_and_fills_its_pages() {
        let arena = Arena::default();
        let keys: Vec<Locked> = (0..=ON_PAGE)
            .map(|number| arena.keep(Secret::new([number as u8; 32])))
            .collect();
        for (number, key) in keys.iter().enumerate() {
            assert_eq!(key.expose(), &[number as u8; 32]);
        }
        assert!(Arc::ptr_eq(&keys[0].page, &keys[ON_PAGE - 1].page));
        assert!(!Arc::ptr_eq(&keys[0].page, &keys[ON_PAGE].page));
        assert_eq!(size_of::<Page>(), 4_096);
        assert_eq!(std::ptr::from_ref(&*keys[0].page) as usize % 4_096, 0);
    }
}
