//! Where every part registers how it is. Cheap to read, never blocks.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::{self, Timestamp};
use crate::model::health::{Health, Light, ServerState, Subsystem};

pub struct Board {
    inner: Mutex<Inner>,
}

struct Inner {
    server: ServerState,
    subsystems: BTreeMap<&'static str, Entry>,
}

struct Entry {
    state: Light,
    since: Timestamp,
    reason: String,
    next_step: String,
}

impl Board {
    #[allow(
        clippy::new_without_default,
        reason = "a board starts, it has no default"
    )]
    pub fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                server: ServerState::Starting,
                subsystems: BTreeMap::new(),
            }),
        }
    }

    pub fn server(&self, state: ServerState) {
        self.lock().server = state;
    }

    pub fn green(&self, name: &'static str) {
        self.set(name, Light::Green, "", "");
    }

    pub fn amber(&self, name: &'static str, reason: &str, next_step: &str) {
        self.set(name, Light::Amber, reason, next_step);
    }

    pub fn red(&self, name: &'static str, reason: &str, next_step: &str) {
        self.set(name, Light::Red, reason, next_step);
    }

    /// `since` moves only when the state changes.
    fn set(&self, name: &'static str, state: Light, reason: &str, next_step: &str) {
        let mut inner = self.lock();
        let since = match inner.subsystems.get(name) {
            Some(entry) if entry.state == state => entry.since,
            _ => clock::now(),
        };
        inner.subsystems.insert(
            name,
            Entry {
                state,
                since,
                reason: reason.to_owned(),
                next_step: next_step.to_owned(),
            },
        );
    }

    pub fn health(&self) -> Health {
        let inner = self.lock();
        let subsystems: Vec<Subsystem> = inner
            .subsystems
            .iter()
            .map(|(name, entry)| Subsystem {
                name: (*name).to_owned(),
                state: entry.state,
                since: entry.since,
                reason: entry.reason.clone(),
                next_step: entry.next_step.clone(),
            })
            .collect();
        let state = subsystems
            .iter()
            .map(|subsystem| subsystem.state)
            .max()
            .unwrap_or(Light::Green);
        Health {
            server: inner.server,
            state,
            subsystems,
        }
    }

    /// A panic elsewhere must not hide the state it left.
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
