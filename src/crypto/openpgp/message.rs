//! Encrypted messages, streamed either way: what GnuPG 2.2 opens (SEIPD version 1 with its checksum,
//! AES-256, literal binary data in partial lengths, nothing compressed), for one or several keys.

use std::fmt;
use std::io::{self, BufReader, PipeReader, PipeWriter, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use pgp::composed::{
    DecryptionOptions, Deserializable, Message, MessageBuilder, SignedSecretKey, TheRing,
};
use pgp::crypto::sym::SymmetricKeyAlgorithm;
use pgp::types::{Password, Seipdv1ReadMode};
use rand::rngs::OsRng;

use super::super::headed::headed;
use super::public_key::PublicKey;
use super::standing::Part;
use super::unusable;
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// Of one message; its header has up to half a kilobyte for each.
const MOST_RECIPIENTS: usize = 256;
/// All that lies before the body: for whom it is, and what a reader takes beyond it.
const LONGEST_HEADER: usize = 1 << 20;
/// How deep compressed and signed parts may lie within each other.
const DEEPEST: usize = 4;

/// Encrypts what it is given; the file is whole only once [`finish`](Writer::finish) has ended, and
/// never becomes whole without it.
pub struct Writer<W> {
    to: Option<PipeWriter>,
    meant: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<W>>>,
}

/// Encrypts for every one of `keys`; each of them alone opens it.
///
/// # Errors
/// A key cannot be encrypted to at `now`: the error names it, and why.
pub fn writer<W: Write + Send + 'static>(
    keys: &[PublicKey],
    now: Timestamp,
    to: W,
) -> Result<Writer<W>> {
    // Before there is anything to take back.
    check(keys, now)?;
    let (reader, pipe) = io::pipe().map_err(|error| Error::internal(error.to_string()))?;
    let meant = Arc::new(AtomicBool::new(false));
    let from = Whole {
        pipe: reader,
        meant: Arc::clone(&meant),
    };
    let keys = keys.to_vec();
    let thread = std::thread::Builder::new()
        .name("openpgp-write".to_owned())
        .spawn(move || {
            let mut to = to;
            encrypt(&keys, now, from, &mut to)?;
            Ok(to)
        })
        .map_err(|error| Error::internal(error.to_string()))?;
    Ok(Writer {
        to: Some(pipe),
        meant,
        thread: Some(thread),
    })
}

impl<W> Writer<W> {
    /// Ends the message, and gives back what it was written to; that is not flushed.
    ///
    /// # Errors
    /// The first that writing met.
    pub fn finish(mut self) -> io::Result<W> {
        self.meant.store(true, Ordering::Release);
        self.end()
    }

    fn end(&mut self) -> io::Result<W> {
        self.to = None;
        let ended = self.thread.take().map(JoinHandle::join);
        ended
            .and_then(std::result::Result::ok)
            .unwrap_or_else(|| Err(io::Error::other("the encrypting thread is gone")))
    }
}

impl<W> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(to) = &mut self.to else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        match to.write(bytes) {
            // The thread ended early: why is its own to say.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                Err(self.end().err().unwrap_or(error))
            }
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W> Drop for Writer<W> {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.end();
        }
    }
}

/// An end that nobody meant is no end: half a file must not look like a whole one.
struct Whole {
    pipe: PipeReader,
    meant: Arc<AtomicBool>,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.pipe.read(buffer)?;
        if read == 0 && !buffer.is_empty() && !self.meant.load(Ordering::Acquire) {
            return Err(io::Error::other("what was to be encrypted broke off"));
        }
        Ok(read)
    }
}

/// The same for what can be read, in this thread, to its end.
///
/// # Errors
/// Those of reading and writing; a key that cannot be encrypted to is one too (see [`check`]).
pub fn encrypt(
    keys: &[PublicKey],
    now: Timestamp,
    from: impl Read,
    to: impl Write,
) -> io::Result<()> {
    let mut message =
        MessageBuilder::from_reader("", from).seipd_v1(OsRng, SymmetricKeyAlgorithm::AES256);
    for key in keys {
        let added = match key.part(now).map_err(|why| unfit(key, &why))? {
            Part::Primary => message.encrypt_to_key(OsRng, &key.0.primary_key),
            Part::Sub(sub) => message.encrypt_to_key(OsRng, sub),
        };
        added.map_err(failed)?;
    }
    message.to_writer(OsRng, to).map_err(failed)
}

/// Whether every one of `keys` can be encrypted to.
///
/// # Errors
/// The first that cannot, and why.
pub fn check(keys: &[PublicKey], now: Timestamp) -> Result<()> {
    if keys.is_empty() || keys.len() > MOST_RECIPIENTS {
        return Err(Error::invalid(
            "recipient",
            format!(
                "{} keys; an OpenPGP file has 1 to {MOST_RECIPIENTS}",
                keys.len()
            ),
        ));
    }
    for key in keys {
        if let Err(why) = key.part(now) {
            return Err(Error::invalid("recipient", unfit(key, &why).to_string()));
        }
    }
    Ok(())
}

fn unfit(key: &PublicKey, why: &super::Trouble) -> io::Error {
    io::Error::other(format!("the OpenPGP key {} {why}", key.fingerprint()))
}

/// What lies beneath, where it was a reader's or a writer's own.
fn failed(error: pgp::errors::Error) -> io::Error {
    match error {
        pgp::errors::Error::IO { source, .. } => source,
        other => io::Error::other(other.to_string()),
    }
}

/// What a message holds, piece by piece. What was read is worth nothing before the end is reached
/// without an error: only there is the message's checksum looked at.
pub struct Reader(Message<'static>);

/// Decrypts with a transferable secret key that has no password.
///
/// # Errors
/// `no_identity_matches`, `openpgp_damaged`; later ones come as read errors.
pub fn reader(secret: &Secret<Vec<u8>>, from: impl Read + Send + 'static) -> Result<Reader> {
    let key = SignedSecretKey::from_bytes(secret.expose().as_slice()).map_err(unusable)?;
    let (from, limit) = headed(from, LONGEST_HEADER);
    let (message, _) =
        Message::from_reader(BufReader::new(Silent(from))).map_err(|why| damaged(&why))?;
    if !message.is_encrypted() {
        return Err(Error::invalid(
            "ciphertext",
            "this is no encrypted OpenPGP file",
        ));
    }
    let password = Password::empty();
    let ring = TheRing {
        secret_keys: vec![&key],
        key_passwords: vec![&password],
        // The length is not bounded, so what is read is not held back until its checksum is known.
        decrypt_options: DecryptionOptions::new().set_seipdv1_read_mode(Seipdv1ReadMode::Streaming),
        ..TheRing::default()
    };
    let (mut message, _) = message
        .decrypt_the_ring(ring, true)
        .map_err(|why| match why {
            pgp::errors::Error::MissingKey => Error::denied(
                "no_identity_matches",
                "this key does not open this OpenPGP file; it was encrypted to others",
            ),
            why => damaged(&why),
        })?;
    for _ in 0..DEEPEST {
        if message.is_compressed() {
            message = message.decompress().map_err(|why| damaged(&why))?;
        }
    }
    match message.is_compressed() || message.is_encrypted() {
        true => Err(damaged(&"parts within parts")),
        false => {
            limit.lift();
            Ok(Reader(message))
        }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

fn damaged(why: &dyn fmt::Display) -> Error {
    Error::new(
        Kind::Invalid,
        "openpgp_damaged",
        "this OpenPGP file is damaged or cut off; fetch it again, or take an earlier version",
    )
    .because(why.to_string())
}

/// The crate wants to be able to print what it reads from; nobody does.
struct Silent<R>(R);

impl<R> fmt::Debug for Silent<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Silent")
    }
}

impl<R: Read> Read for Silent<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use pgp::composed::{EncryptionCaps, KeyType, SecretKeyParamsBuilder, SubkeyParamsBuilder};
    use pgp::ser::Serialize as _;
    use pgp::types::KeyVersion;

    use super::super::Trouble;
    use super::*;
    use crate::clock;

    /// A key of a kind that GnuPG 2.2 does not make.
    fn made(version: KeyVersion) -> (Secret<Vec<u8>>, PublicKey) {
        let mut encrypting = SubkeyParamsBuilder::default();
        encrypting
            .version(version)
            .key_type(KeyType::X25519)
            .can_encrypt(EncryptionCaps::All);
        let mut key = SecretKeyParamsBuilder::default();
        key.version(version)
            .key_type(KeyType::Ed25519)
            .can_certify(true)
            .primary_user_id("Someone".to_owned())
            .subkey(encrypting.build().unwrap());
        let key = key.build().unwrap().generate(OsRng).unwrap();
        let secret = Secret::new(key.to_bytes().unwrap());
        (secret, PublicKey(key.to_public_key()))
    }

    #[test]
    fn a_key_on_x25519_is_encrypted_to_and_one_of_version_6_is_refused_by_name() {
        let (secret, public) = made(KeyVersion::V4);
        let mut file = Vec::new();
        encrypt(&[public], clock::now(), &b"plain"[..], &mut file).unwrap();
        let mut plain = Vec::new();
        let mut opened = reader(&secret, io::Cursor::new(file)).unwrap();
        opened.read_to_end(&mut plain).unwrap();
        assert_eq!(plain, b"plain");
        let (_, newer) = made(KeyVersion::V6);
        let trouble = newer.standing(clock::now()).trouble;
        assert_eq!(
            trouble,
            Some(Trouble::Algorithm("version 6 of OpenPGP keys".to_owned()))
        );
    }

    #[test]
    fn a_header_that_does_not_end_is_left_before_it_takes_the_memory() {
        struct Endless(usize, Vec<u8>);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                assert!(self.0 < 2 * LONGEST_HEADER, "it read on");
                let mut from = self.1.iter().cycle().skip(self.0 % self.1.len());
                buffer.fill_with(|| from.next().copied().unwrap_or(0));
                self.0 += buffer.len();
                Ok(buffer.len())
            }
        }
        let (secret, public) = made(KeyVersion::V4);
        let mut file = Vec::new();
        encrypt(&[public], clock::now(), &b""[..], &mut file).unwrap();
        // The packet that says for whom it is, over and over.
        let first = file[..2 + usize::from(file[1])].to_vec();
        let refused = reader(&secret, Endless(0, first)).err();
        assert_eq!(refused.unwrap().code, "openpgp_damaged");
    }
}
