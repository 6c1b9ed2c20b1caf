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

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost {
        memory_kib: 64,
        passes: 1,
        lanes: 1,
    };

    /// RFC 5869, test case 3, the first 32 of its 42 bytes.
    #[test]
    fn hkdf_is_hkdf() {
        assert_eq!(
            hex::encode(expand(&[0x0b; 22], &[], "").expose()),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
        );
    }

    #[test]
    fn keys_for_two_purposes_differ() {
        let parent = Secret::new([7; 32]);
        assert!(derive(&parent, "kek/v1").matches(derive(&parent, "kek/v1").expose()));
        assert!(!derive(&parent, "kek/v1").matches(derive(&parent, "kek/v2").expose()));
        assert!(
            !derive(&parent, "kek/v1").matches(derive(&Secret::new([8; 32]), "kek/v1").expose())
        );
    }

    #[test]
    fn costs_read_from_outside_are_bounded() {
        Cost::LEAST.check().unwrap();
        Cost::MOST.check().unwrap();
        CHEAP.check().unwrap();
        for wrong in [
            Cost {
                memory_kib: Cost::MOST.memory_kib + 1,
                ..Cost::LEAST
            },
            Cost {
                memory_kib: 7,
                ..Cost::LEAST
            },
            Cost {
                memory_kib: 15,
                lanes: 2,
                ..Cost::LEAST
            },
            Cost {
                passes: 0,
                ..Cost::LEAST
            },
            Cost {
                passes: Cost::MOST.passes + 1,
                ..Cost::LEAST
            },
            Cost {
                lanes: 0,
                ..Cost::LEAST
            },
            Cost {
                lanes: u32::MAX,
                ..Cost::LEAST
            },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
            assert!(argon2id(wrong, b"secret", &[0; 32]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn calibration_aims_at_0_4_seconds_and_stays_within_bounds() {
        let passes = |millis| calibrated(Duration::from_millis(millis)).passes;
        assert_eq!(passes(0), Cost::MOST.passes);
        // 30 ms a pass: 14 passes take 0.42 s.
        assert_eq!(passes(90), 14);
        assert_eq!(passes(10_000), Cost::LEAST.passes);
        assert_eq!(calibrated(Duration::ZERO).memory_kib, 64 * 1024);
    }

    #[test]
    fn a_password_verifies_and_another_does_not() {
        let password = Secret::new(b"correct horse".to_vec());
        let kept = phc(CHEAP, password.expose(), &[9; 16]).unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{kept}");
        assert!(password_verify(&kept, &password).unwrap());
        assert!(!password_verify(&kept, &Secret::new(b"correct horsf".to_vec())).unwrap());
        assert!(!password_verify(&kept, &Secret::new(Vec::new())).unwrap());
    }

    /// From the reference implementation's own tests.
    #[test]
    fn a_password_kept_by_another_implementation_verifies() {
        let kept =
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        let password = Secret::new(b"password".to_vec());
        assert!(password_verify(kept, &password).unwrap());
        assert!(!password_verify(kept, &Secret::new(b"Password".to_vec())).unwrap());
    }

    #[test]
    fn an_unreadable_or_excessive_kept_password_is_an_error_and_not_a_mismatch() {
        let password = Secret::new(b"password".to_vec());
        for kept in [
            "",
            "password",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ",
            "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=16$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=4294967295,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            // A shortened hash would be guessed.
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIP",
        ] {
            let verified = password_verify(kept, &password);
            assert!(!matches!(verified, Ok(true)), "{kept}");
        }
        assert!(password_verify("password", &password).is_err());
    }

    /// The one test that pays the full price.
    #[test]
    fn new_passwords_cost_64_mib_and_3_passes() {
        let kept = password_hash(&Secret::new(b"password".to_vec())).unwrap();
        assert!(
            kept.starts_with("$argon2id$v=19$m=65536,t=3,p=1$"),
            "{kept}"
        );
    }
}
