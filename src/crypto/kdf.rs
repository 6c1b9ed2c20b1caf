//! Keys from keys (HKDF-SHA-256) and from what people remember (Argon2id).

use std::time::{Duration, Instant};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::hkdf;
use zeroize::Zeroize;

use super::random;
use crate::error::{Error, Result};
use crate::secret::{Key, Secret};

/// A key under `parent` for one purpose: `derive(root, "kek/v1")`. Different `info`, independent
/// key; `info` is a constant of ours and ends in its version.
pub fn derive(parent: &Key, info: &str) -> Key {
    expand(parent.expose(), &[], info)
}

/// A key from a secret of any length that nobody can guess, and a salt.
pub(super) fn derive_salted(secret: &[u8], salt: &[u8; 32], info: &str) -> Key {
    expand(secret, salt, info)
}

fn expand(secret: &[u8], salt: &[u8], info: &str) -> Key {
    let mut key = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret)
        .expand(&[info.as_bytes()], hkdf::HKDF_SHA256)
        .and_then(|derived| derived.fill(&mut key))
        .expect("HKDF-SHA-256 gives 32 bytes: its limit is 8,160");
    let made = Secret::new(key);
    key.zeroize();
    made
}

/// How hard Argon2id works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes; more than one costs an attacker nothing extra as we compute them one by one.
    pub lanes: u32,
}

impl Cost {
    /// The least that is used for anything new: 64 MiB, 3 passes.
    pub const LEAST: Cost = Cost {
        memory_kib: 64 * 1024,
        passes: 3,
        lanes: 1,
    };

    /// What parameters read from a file may ask for at most, so that a damaged or hostile file
    /// cannot take all memory or keep us busy for hours.
    const MOST: Cost = Cost {
        memory_kib: 1024 * 1024,
        passes: 64,
        lanes: 16,
    };

    /// Refuses parameters that are not Argon2's or that ask for too much.
    pub fn check(&self) -> Result<()> {
        let Cost {
            memory_kib,
            passes,
            lanes,
        } = *self;
        if !(1..=Self::MOST.lanes).contains(&lanes)
            || !(1..=Self::MOST.passes).contains(&passes)
            || !(8 * lanes..=Self::MOST.memory_kib).contains(&memory_kib)
        {
            return Err(Error::invalid(
                "argon2",
                format!(
                    "Argon2id with {memory_kib} KiB, {passes} passes and {lanes} lanes: allowed are 8 KiB a lane to {} KiB, 1 to {} passes, 1 to {} lanes",
                    Self::MOST.memory_kib,
                    Self::MOST.passes,
                    Self::MOST.lanes
                ),
            ));
        }
        Ok(())
    }
}

/// The cost that takes this machine 0.3 s or a little more. Measures once, for about as long.
pub fn calibrate() -> Result<Cost> {
    #[allow(
        clippy::disallowed_methods,
        reason = "measures a duration, not the time of day"
    )]
    let began = Instant::now();
    argon2id(Cost::LEAST, b"calibration", &[0; 32])?;
    Ok(calibrated(began.elapsed()))
}

/// Scales [`Cost::LEAST`], which took `measured`, to a third more than 0.3 s: the machine may have
/// been busy while it was measured, and 0.3 s is the least.
fn calibrated(measured: Duration) -> Cost {
    const AIM: Duration = Duration::from_millis(400);
    let wanted = AIM.as_micros() * u128::from(Cost::LEAST.passes) / measured.as_micros().max(1);
    let passes = u32::try_from(wanted).unwrap_or(u32::MAX).saturating_add(1);
    Cost {
        passes: passes.clamp(Cost::LEAST.passes, Cost::MOST.passes),
        ..Cost::LEAST
    }
}

/// Argon2id (version 1.3). The memory it worked in is wiped.
pub fn argon2id(cost: Cost, secret: &[u8], salt: &[u8]) -> Result<Key> {
    cost.check()?;
    let refused = |error: argon2::Error| Error::internal(format!("Argon2id: {error}"));
    let parameters =
        Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(refused)?;
    let mut memory = Vec::new();
    memory
        .try_reserve_exact(parameters.block_count())
        .map_err(|_| {
            Error::unavailable(
                "no_memory",
                format!(
                    "Argon2id needs {} MiB of memory that the system does not give",
                    cost.memory_kib / 1024
                ),
            )
        })?;
    memory.resize(parameters.block_count(), Block::new());
    let mut key = [0; 32];
    let hashed = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
        .hash_password_into_with_memory(secret, salt, &mut key, &mut memory);
    memory.iter_mut().for_each(Zeroize::zeroize);
    let made = Secret::new(key);
    key.zeroize();
    hashed.map_err(refused)?;
    Ok(made)
}

/// A log-in password as it is kept: a PHC string, Argon2id with 64 MiB. Takes 64 MiB and about
/// 0.2 s; callers bound how many run at a time.
pub fn password_hash(password: &Secret<Vec<u8>>) -> Result<String> {
    phc(Cost::LEAST, password.expose(), &random::<16>())
}

/// Whether this is the password. An error means that the kept string is unreadable, not that the
/// password is wrong. The kept string's own cost is used, within limits.
pub fn password_verify(phc: &str, password: &Secret<Vec<u8>>) -> Result<bool> {
    let unreadable = || {
        Error::internal("a kept password hash is no Argon2id PHC string that this program reads")
    };
    let kept = PasswordHash::new(phc).map_err(|_| unreadable())?;
    let number = |name: &str| kept.params.get_decimal(name).ok_or_else(unreadable);
    let cost = Cost {
        memory_kib: number("m")?,
        passes: number("t")?,
        lanes: number("p")?,
    };
    if kept.algorithm.as_str() != "argon2id" || kept.version != Some(u32::from(Version::V0x13)) {
        return Err(unreadable());
    }
    let (Some(salt), Some(hash)) = (&kept.salt, &kept.hash) else {
        return Err(unreadable());
    };
    Ok(argon2id(cost, password.expose(), salt)?.matches(hash.as_bytes()))
}

fn phc(cost: Cost, password: &[u8], salt: &[u8; 16]) -> Result<String> {
    let hash = argon2id(cost, password, salt)?;
    let encode = || -> std::result::Result<String, argon2::password_hash::phc::Error> {
        let mut params = ParamsString::new();
        params.add_decimal("m", cost.memory_kib)?;
        params.add_decimal("t", cost.passes)?;
        params.add_decimal("p", cost.lanes)?;
        Ok(PasswordHash {
            algorithm: argon2::password_hash::phc::Ident::new("argon2id")?,
            version: Some(Version::V0x13.into()),
            params,
            salt: Some(Salt::new(salt)?),
            hash: Some(Output::new(hash.expose())?),
        }
        .to_string())
    };
    encode()
        .map_err(|error| Error::internal(format!("a password hash could not be written: {error}")))
}
