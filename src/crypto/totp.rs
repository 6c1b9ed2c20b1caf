//! One-time passwords by time (RFC 6238), as authenticator apps have them: HMAC-SHA-1, six digits,
//! thirty seconds. SHA-1 here is what those apps speak; nothing rests on its collisions.

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq as _;

use crate::clock::Timestamp;
use crate::secret::Secret;

const STEP: i64 = 30 * Timestamp::SECOND;
const DIGITS: usize = 6;
/// How many steps a clock may be off, either way.
const SLACK: u64 = 1;
/// 160 bits, as RFC 4226 recommends: four groups of eight base32 digits.
const SECRET_BYTES: usize = 20;
/// 80 bits: no list of guesses reaches it, whatever the hash costs.
const RECOVERY_BYTES: usize = 10;

pub fn secret() -> Secret<Vec<u8>> {
    Secret::new(super::random::<SECRET_BYTES>().to_vec())
}

/// The step whose code was given, if it is one of now, a little earlier or later, and is after
/// `spent`: no code is taken twice, and none before it.
pub fn verify(secret: &Secret<Vec<u8>>, given: &str, spent: u64, now: Timestamp) -> Option<u64> {
    let current = u64::try_from(now.0.div_euclid(STEP)).ok()?;
    let mut found = None;
    for step in current.saturating_sub(SLACK)..=current.saturating_add(SLACK) {
        // Each is compared, so that the time does not tell which one fits.
        let fits = bool::from(
            code(secret.expose(), step)
                .as_bytes()
                .ct_eq(given.as_bytes()),
        );
        if fits && step > spent && found.is_none() {
            found = Some(step);
        }
    }
    found
}

/// RFC 4226, 5.3.
fn code(secret: &[u8], step: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[tag.len() - 1] & 0x0f);
    let number = u32::from_be_bytes([tag[at] & 0x7f, tag[at + 1], tag[at + 2], tag[at + 3]]);
    format!("{:0DIGITS$}", number % 1_000_000)
}

/// Whether a text has a code's form; anything else may be a recovery code.
pub fn is_code(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_digit())
}

/// What an authenticator app reads from a picture.
pub fn uri(secret: &Secret<Vec<u8>>, server: &str, user: &str) -> Secret<String> {
    let plain = |text: &str| -> String {
        text.bytes()
            .map(|b| match b {
                b if b.is_ascii_alphanumeric() || b"-._".contains(&b) => char::from(b).to_string(),
                b => format!("%{b:02X}"),
            })
            .collect()
    };
    let (issuer, user) = (plain(&format!("Strongroom {server}")), plain(user));
    Secret::new(format!(
        "otpauth://totp/{issuer}:{user}?secret={}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period=30",
        base32(secret.expose())
    ))
}

/// What stands for a code once: `ABCD-EFGH-IJKL-MNOP`.
pub fn recovery_code() -> Secret<String> {
    let digits = base32(&super::random::<RECOVERY_BYTES>());
    let groups: Vec<&str> = (0..digits.len() / 4)
        .map(|at| &digits[4 * at..4 * at + 4])
        .collect();
    Secret::new(groups.join("-"))
}

/// How a recovery code is kept and found; as typed, with or without its hyphens, in any case.
pub fn recovery_hash(code: &str) -> [u8; 32] {
    let mut bytes = Vec::new();
    super::push_field(&mut bytes, b"recovery-code/v1");
    let plain: String = code
        .chars()
        .filter(|c| !matches!(c, '-' | ' '))
        .map(|c| c.to_ascii_uppercase())
        .collect();
    super::push_field(&mut bytes, plain.as_bytes());
    super::sha256(&bytes)
}

/// RFC 4648, without padding.
pub fn base32(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let (mut out, mut held, mut bits) = (String::new(), 0_u32, 0);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(DIGITS[(held >> bits & 31) as usize]));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(char::from(DIGITS[(held << (5 - bits) & 31) as usize]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rfc() -> Secret<Vec<u8>> {
        Secret::new(b"12345678901234567890".to_vec())
    }

    /// RFC 6238, appendix B; six digits are the last six of its eight.
    const VECTORS: [(i64, &str); 6] = [
        (59, "287082"),
        (1_111_111_109, "081804"),
        (1_111_111_111, "050471"),
        (1_234_567_890, "005924"),
        (2_000_000_000, "279037"),
        (20_000_000_000, "353130"),
    ];

    #[test]
    fn codes_are_those_of_the_rfc() {
        for (second, expected) in VECTORS {
            let now = Timestamp(second * Timestamp::SECOND);
            let step = u64::try_from(second / 30).unwrap();
            assert_eq!(code(rfc().expose(), step), expected);
            assert_eq!(verify(&rfc(), expected, 0, now), Some(step));
        }
    }

    #[test]
    fn a_code_counts_one_step_early_or_late_and_once() {
        let at = |second: i64| Timestamp(second * Timestamp::SECOND);
        for (second, taken) in [
            (0, false),
            (29, false),
            (30, true),
            (59, true),
            (89, true),
            (119, true),
            (120, false),
        ] {
            // The code of the step from 60 to 90.
            let found = verify(&rfc(), &code(rfc().expose(), 2), 0, at(second));
            assert_eq!(found, taken.then_some(2), "{second}");
        }
        assert_eq!(
            verify(&rfc(), &code(rfc().expose(), 2), 2, at(60)),
            None,
            "spent"
        );
        assert_eq!(
            verify(&rfc(), &code(rfc().expose(), 1), 2, at(60)),
            None,
            "before it"
        );
        assert_eq!(verify(&rfc(), &code(rfc().expose(), 3), 2, at(60)), Some(3));
        for odd in ["", "28708", "2870822", "28708a", "ÄÖÜ"] {
            assert_eq!(verify(&rfc(), odd, 0, at(59)), None);
        }
    }

    #[test]
    fn base32_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
        let uri = uri(&rfc(), "kts01.example.com", "a@b");
        assert_eq!(
            uri.expose(),
            "otpauth://totp/Strongroom%20kts01.example.com:a%40b?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Strongroom%20kts01.example.com&algorithm=SHA1&digits=6&period=30"
        );
    }

    #[test]
    fn a_recovery_code_is_found_as_it_is_typed() {
        let code = recovery_code();
        assert_eq!(code.expose().len(), 19);
        let typed = code.expose().to_lowercase().replace('-', " ");
        assert_eq!(recovery_hash(&typed), recovery_hash(code.expose()));
        assert!(!is_code(code.expose()) && is_code("012345"));
        assert_ne!(
            recovery_hash(recovery_code().expose()),
            recovery_hash(code.expose())
        );
    }
}
