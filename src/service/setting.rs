//! Settings: read, change, and take effect at once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use super::access::{Action, Target};
use super::caller::Context;
use super::{Service, object};
use crate::api::setting::{SetSetting, SettingView, Settings};
use crate::backup::rolling::Ladder;
use crate::clock::{self, Timestamp};
use crate::error::{Error, Result};
use crate::model::setting::{self, Setting};

/// Makes a setting hold whose value others keep: its name and value.
pub type Apply = Box<dyn Fn(&str, &str) -> Result<()> + Send + Sync>;

/// The values in force. What requests look at is kept ready to read.
pub struct Live {
    values: RwLock<BTreeMap<&'static str, String>>,
    deposit_max_bytes: AtomicUsize,
    bin_days: AtomicI64,
    audit_strict: AtomicBool,
    audit_keep_days: AtomicI64,
    audit_keep_mib: AtomicU64,
    pending_hours: AtomicI64,
    session_idle: AtomicI64,
    maximum_processes: AtomicUsize,
    apply: Apply,
    /// One change at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Live {
    /// `stored` are the values that differ from their defaults; one that this program does not know
    /// is left alone.
    pub fn new(stored: Vec<(String, String)>, apply: Apply) -> Result<Self> {
        let live = Self {
            values: RwLock::new(BTreeMap::new()),
            deposit_max_bytes: AtomicUsize::new(0),
            bin_days: AtomicI64::new(0),
            audit_strict: AtomicBool::new(false),
            audit_keep_days: AtomicI64::new(0),
            audit_keep_mib: AtomicU64::new(0),
            pending_hours: AtomicI64::new(0),
            session_idle: AtomicI64::new(0),
            maximum_processes: AtomicUsize::new(0),
            apply,
            turn: tokio::sync::Mutex::default(),
        };
        for setting in setting::ALL {
            let value = stored
                .iter()
                .find(|(name, _)| name == setting.name)
                .map_or(setting.default, |(_, value)| value);
            // It was legal when it was set. What no longer is must not keep the server from starting.
            let put = setting
                .check(value)
                .and_then(|value| live.put(setting, value));
            if let Err(error) = put {
                log::warn!(setting = setting.name, error = error.public.as_str(); "a setting cannot take effect; its default holds");
                live.put(setting, setting.default.to_owned())?;
            }
        }
        Ok(live)
    }

    fn put(&self, setting: &'static Setting, value: String) -> Result<()> {
        let number = value.parse::<i64>().unwrap_or(0);
        match setting.name {
            setting::DEPOSIT_MAX_BYTES => self
                .deposit_max_bytes
                .store(usize::try_from(number).unwrap_or(0), Ordering::Relaxed),
            setting::DEPOSIT_BIN_DAYS => self.bin_days.store(number, Ordering::Relaxed),
            setting::AUDIT_STRICT => self.audit_strict.store(value == "true", Ordering::Relaxed),
            setting::AUDIT_KEEP_DAYS => self.audit_keep_days.store(number, Ordering::Relaxed),
            setting::AUDIT_KEEP_MIB => self
                .audit_keep_mib
                .store(number.unsigned_abs(), Ordering::Relaxed),
            setting::CLIENT_PENDING_HOURS => self.pending_hours.store(number, Ordering::Relaxed),
            setting::SESSION_IDLE_MINUTES => self.session_idle.store(number, Ordering::Relaxed),
            setting::BACKEND_MAXIMUM_PROCESSES => self
                .maximum_processes
                .store(usize::try_from(number).unwrap_or(0), Ordering::Relaxed),
            setting::BACKUP_FOLDER if !value.is_empty() && !value.starts_with('/') => {
                return Err(Error::invalid(
                    "value",
                    "backup.folder takes an absolute path, or nothing",
                ));
            }
            setting::BACKUP_FOLDER
            | setting::BACKUP_KEEP_HOURLY
            | setting::BACKUP_KEEP_DAILY
            | setting::BACKUP_KEEP_WEEKLY
            | setting::BACKUP_KEEP_MONTHLY => {}
            _ => (self.apply)(setting.name, &value)?,
        }
        self.values
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(setting.name, value);
        Ok(())
    }

    fn value(&self, name: &str) -> String {
        self.values
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
            .unwrap_or_default()
    }

    pub fn deposit_max_bytes(&self) -> usize {
        self.deposit_max_bytes.load(Ordering::Relaxed)
    }

    /// How long a deposit stays in the bin, in microseconds; none: until someone purges it.
    pub fn bin_time(&self) -> Option<i64> {
        let days = self.bin_days.load(Ordering::Relaxed);
        (days > 0).then_some(days * Timestamp::DAY)
    }

    pub fn audit_strict(&self) -> bool {
        self.audit_strict.load(Ordering::Relaxed)
    }

    /// How long events stay in the store, in microseconds.
    pub fn audit_time(&self) -> i64 {
        self.audit_keep_days.load(Ordering::Relaxed) * Timestamp::DAY
    }

    /// How much disk they may take there.
    pub fn audit_bytes(&self) -> u64 {
        self.audit_keep_mib.load(Ordering::Relaxed) << 20
    }

    /// In microseconds.
    pub fn pending(&self) -> i64 {
        self.pending_hours.load(Ordering::Relaxed) * Timestamp::HOUR
    }

    /// Where scheduled backups go; none: into the data folder.
    pub fn backup_folder(&self) -> Option<PathBuf> {
        let folder = self.value(setting::BACKUP_FOLDER);
        (!folder.is_empty()).then(|| folder.into())
    }

    /// Which of them stay.
    pub fn backup_ladder(&self) -> Ladder {
        let number = |name| self.value(name).parse().unwrap_or(0);
        Ladder {
            hourly: number(setting::BACKUP_KEEP_HOURLY),
            daily: number(setting::BACKUP_KEEP_DAILY),
            weekly: number(setting::BACKUP_KEEP_WEEKLY),
            monthly: number(setting::BACKUP_KEEP_MONTHLY),
        }
    }

    /// Jobs on hosts and keys at once; 0 holds them.
    pub fn maximum_processes(&self) -> usize {
        self.maximum_processes.load(Ordering::Relaxed)
    }

    /// In microseconds.
    pub fn session_idle(&self) -> i64 {
        self.session_idle.load(Ordering::Relaxed) * 60 * Timestamp::SECOND
    }

    fn view(&self, setting: &Setting) -> SettingView {
        SettingView {
            name: setting.name.to_owned(),
            value: self.value(setting.name),
            default: setting.default.to_owned(),
            takes: setting.takes(),
            description: setting.description.to_owned(),
        }
    }
}

impl Service {
    pub async fn setting_list(&self, ctx: &Context) -> Result<Settings> {
        self.allow(
            ctx,
            Action::SettingRead,
            &Target::Server,
            "setting.list",
            object("setting", "", ""),
        )?;
        Ok(Settings {
            settings: setting::ALL
                .iter()
                .map(|setting| self.settings.view(setting))
                .collect(),
        })
    }

    pub async fn setting_show(&self, ctx: &Context, name: &str) -> Result<SettingView> {
        self.allow(
            ctx,
            Action::SettingRead,
            &Target::Server,
            "setting.show",
            object("setting", name, name),
        )?;
        Ok(self.settings.view(Setting::find(name)?))
    }

    pub async fn setting_set(
        &self,
        ctx: &Context,
        name: &str,
        request: SetSetting,
    ) -> Result<SettingView> {
        self.allow(
            ctx,
            Action::SettingChange,
            &Target::Server,
            "setting.set",
            object("setting", name, name),
        )?;
        let setting = Setting::find(name)?;
        // What the listeners show takes more than a setting does; and one thing changes it at a time.
        let of_tls = setting.name.starts_with("tls.");
        if of_tls {
            let which = object("setting", name, name);
            self.allow(
                ctx,
                Action::TlsChange,
                &Target::Server,
                "setting.set",
                which,
            )?;
        }
        let _tls = match of_tls {
            true => Some(self.tls_turn.lock().await),
            false => None,
        };
        let value = setting.check(&request.value)?;
        let _turn = self.settings.turn.lock().await;
        let before = self.settings.value(setting.name);
        // What cannot take effect is refused before it is kept.
        (self.settings.apply)(setting.name, &value)?;
        let mut change = self.change(
            ctx,
            "setting.set",
            object("setting", name, name),
            clock::now(),
        );
        change.event.detail = format!("{} to {value}", self.settings.value(setting.name));
        let kept = self.store.set_setting(change, setting.name, value).await;
        // In force is what is kept: a retry of an older change is answered and changes nothing.
        let now = match &kept {
            Ok(()) => self.store.setting(setting.name)?,
            Err(_) => Some(before),
        };
        let now = now.unwrap_or_else(|| setting.default.to_owned());
        (self.settings.apply)(setting.name, &now)?;
        self.settings.put(setting, now)?;
        kept?;
        if [setting::AUDIT_KEEP_DAYS, setting::AUDIT_KEEP_MIB].contains(&setting.name) {
            self.segments_asked.notify_one();
        }
        if setting.name == setting::BACKEND_MAXIMUM_PROCESSES {
            self.jobs_asked.notify_one();
        }
        Ok(self.settings.view(setting))
    }
}
