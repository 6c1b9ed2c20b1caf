//! Files that people open with their own tools: the age format (age-encryption.org/v1), readable by
//! `age` 1.0 and later, in binary or armoured. Recipients are age's own (`age1…`) and SSH keys
//! (`ssh-ed25519`, `ssh-rsa`); or a file has a passphrase, and then nothing else.

use std::io::{BufReader, Read, Write};

use age::armor::ArmoredReader;
use age::secrecy::{ExposeSecret, SecretString};
use age::stream::{StreamReader, StreamWriter};
use age::{DecryptError, Decryptor, Encryptor, Identity, IdentityFile, Recipient};
use zeroize::Zeroizing;

use super::headed::{Headed, headed};
use crate::error::{Error, Kind, Result};
use crate::model::id::shown;
use crate::secret::Secret;

/// An `ssh-rsa` recipient of 16,384 bits has 2,800 characters.
const LONGEST_RECIPIENT: usize = 4_096;
/// Identity files are a few lines long.
const LONGEST_IDENTITY: usize = 1 << 20;
/// Of as many recipients, each an SSH key of 4,096 bits; and what a reader takes beyond it.
const LONGEST_HEADER: usize = 256 << 10;
/// scrypt with N = 2^18, as `age -p` writes it: 256 MiB, about a second.
const SCRYPT_WRITTEN: u8 = 18;
/// 1 GiB, as the most that any file may make us take.
const SCRYPT_READ: u8 = 20;
const LONGEST_PASSPHRASE: usize = 1_024;
/// A header of so many native recipients has 26 KB.
const MOST_RECIPIENTS: usize = 256;

pub use age::stream::StreamWriter as Writer;
/// What `reader` reads through.
pub type Reader<R> = StreamReader<BufReader<Headed<R>>>;

const MAGIC: &[u8] = b"age-encryption.org/";
const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";

/// A new identity: the text of its file, which is secret, and the recipient, which is not.
pub fn generate_identity() -> (Secret<String>, String) {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let text = format!(
        "# public key: {recipient}\n{}\n",
        identity.to_string().expose_secret()
    );
    (Secret::new(text), recipient)
}

/// Refuses what nobody could encrypt to.
pub fn check_recipient(text: &str) -> Result<()> {
    recipient(text).map(|_| ())
}

/// Whether a text that was given for a recipient holds a secret key, of age or in PEM.
pub fn is_secret(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    text.contains("AGE-SECRET-KEY-") || text.contains("PRIVATE KEY")
}

/// An SSH key without its comment, and the comment.
pub fn ssh_parts(line: &str) -> (String, String) {
    let mut words = line.split_whitespace();
    let key: Vec<&str> = words.by_ref().take(2).collect();
    (key.join(" "), words.collect::<Vec<_>>().join(" "))
}

/// Refuses a file that holds no identity.
pub fn check_identity(identity_file_text: &Secret<Vec<u8>>) -> Result<()> {
    identities(identity_file_text.expose()).map(|_| ())
}

/// Encrypts for every one of `recipients`; each of them alone opens it.
pub fn encrypt(recipients: &[String], plaintext: &[u8]) -> Result<Vec<u8>> {
    let file = Vec::with_capacity(plaintext.len() + 512 * recipients.len());
    let mut writer = writer(recipients, file)?;
    writer
        .write_all(plaintext)
        .and_then(|()| writer.finish())
        .map_err(|why| not_encrypted(why.to_string()))
}

/// The same for what comes piece by piece; it is whole only once `finish` has ended.
pub fn writer<W: Write>(recipients: &[String], to: W) -> Result<StreamWriter<W>> {
    if recipients.is_empty() || recipients.len() > MOST_RECIPIENTS {
        return Err(Error::invalid(
            "recipient",
            format!(
                "{} recipients; an age file has 1 to {MOST_RECIPIENTS}",
                recipients.len()
            ),
        ));
    }
    let recipients = recipients
        .iter()
        .map(|text| recipient(text))
        .collect::<Result<Vec<_>>>()?;
    begin(recipients.iter().map(|it| it.as_ref()), to)
}

/// Encrypts under a passphrase alone, as `age -p` does: the format has nobody else beside it.
///
/// # Errors
/// The passphrase is empty, or longer than 1,024 bytes.
pub fn passphrase_writer<W: Write>(passphrase: &Secret<String>, to: W) -> Result<StreamWriter<W>> {
    let mut recipient = age::scrypt::Recipient::new(taken(passphrase)?);
    recipient.set_work_factor(SCRYPT_WRITTEN);
    begin([&recipient as &dyn Recipient].into_iter(), to)
}

fn begin<'a, W: Write>(
    recipients: impl Iterator<Item = &'a dyn Recipient>,
    to: W,
) -> Result<StreamWriter<W>> {
    Encryptor::with_recipients(recipients)
        .map_err(|why| not_encrypted(format!("{why:?}")))?
        .wrap_output(to)
        .map_err(|why| not_encrypted(why.to_string()))
}

fn taken(passphrase: &Secret<String>) -> Result<SecretString> {
    match passphrase.expose().len() {
        1..=LONGEST_PASSPHRASE => Ok(SecretString::from(passphrase.expose().as_str())),
        _ => Err(Error::invalid(
            "passphrase",
            format!("a passphrase has 1 to {LONGEST_PASSPHRASE} bytes, without its line end"),
        )),
    }
}

fn not_encrypted(why: String) -> Error {
    Error::internal(format!("age did not encrypt: {why}"))
}

/// Decrypts with an identity file: age's own (`AGE-SECRET-KEY-1…`, one or more) or an unencrypted
/// SSH private key.
pub fn decrypt(identity_file_text: &Secret<Vec<u8>>, ciphertext: &[u8]) -> Result<Secret<Vec<u8>>> {
    let identities = identities(identity_file_text.expose())?;
    if !ciphertext.starts_with(MAGIC) && !ciphertext.trim_ascii_start().starts_with(ARMOR) {
        return Err(Error::invalid(
            "ciphertext",
            "this is not an age file; if it was stored without encryption, fetch it with --raw",
        ));
    }
    let decryptor = header(ArmoredReader::new(ciphertext))?;
    for_a_key(&decryptor)?;
    let mut reader = decryptor
        .decrypt(identities.iter().map(|it| it.as_ref()))
        .map_err(refused)?;
    // The plaintext is shorter than the file, so that the vector never moves and leaves a copy.
    let mut plaintext = Zeroizing::new(Vec::with_capacity(ciphertext.len()));
    reader
        .read_to_end(&mut plaintext)
        .map_err(|why| damaged(why.to_string()))?;
    Ok(Secret::new(std::mem::take(&mut *plaintext)))
}

/// The recipient of an identity that `generate_identity` made.
pub fn recipient_of(identity_file_text: &Secret<Vec<u8>>) -> Result<String> {
    let text = std::str::from_utf8(identity_file_text.expose()).unwrap_or_default();
    let identity = text
        .lines()
        .find_map(|line| line.parse::<age::x25519::Identity>().ok());
    identity
        .map(|identity| identity.to_public().to_string())
        .ok_or_else(|| Error::internal("an identity of the server's own is none of age"))
}

/// What a binary file of any length holds, piece by piece; a piece is whole, the file only at its end.
///
/// # Errors
/// As `decrypt`; later ones come as read errors.
pub fn reader<R: Read>(identity_file_text: &Secret<Vec<u8>>, from: R) -> Result<Reader<R>> {
    let identities = identities(identity_file_text.expose())?;
    let decryptor = header(from)?;
    for_a_key(&decryptor)?;
    decryptor
        .decrypt(identities.iter().map(|it| it.as_ref()))
        .map_err(refused)
}

/// The same for a file that has a passphrase. Takes a second of a processor, and up to 1 GiB.
///
/// # Errors
/// `wrong_passphrase`; `needs_identity` where the file is encrypted to keys; and those of `decrypt`.
pub fn passphrase_reader<R: Read>(passphrase: &Secret<String>, from: R) -> Result<Reader<R>> {
    let mut identity = age::scrypt::Identity::new(taken(passphrase)?);
    identity.set_max_work_factor(SCRYPT_READ);
    let decryptor = header(from)?;
    if !decryptor.is_scrypt() {
        return Err(Error::denied(
            "needs_identity",
            "this age file is encrypted to keys and not with a passphrase; give the identity file of one of them",
        ));
    }
    decryptor
        .decrypt([&identity as &dyn Identity].into_iter())
        .map_err(|why| match why {
            DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => Error::denied(
                "wrong_passphrase",
                "the passphrase does not open this age file; the last line end of a passphrase file does not count, blanks do",
            ),
            why => refused(why),
        })
}

/// Its header, however long that says it is.
fn header<R: Read>(from: R) -> Result<Decryptor<BufReader<Headed<R>>>> {
    let (from, limit) = headed(from, LONGEST_HEADER);
    let decryptor = Decryptor::new_buffered(BufReader::new(from)).map_err(refused)?;
    limit.lift();
    Ok(decryptor)
}

/// # Errors
/// `needs_passphrase`: no key opens it, whichever is tried.
fn for_a_key<R>(decryptor: &Decryptor<R>) -> Result<()> {
    match decryptor.is_scrypt() {
        true => Err(Error::denied(
            "needs_passphrase",
            "this age file is encrypted with a passphrase and not to a key; open it with that (age -d asks for it)",
        )),
        false => Ok(()),
    }
}

fn recipient(text: &str) -> Result<Box<dyn Recipient>> {
    let wrong = |why: &str| {
        Err(Error::invalid(
            "recipient",
            format!("`{}` {why}", shown(text)),
        ))
    };
    if is_secret(text) {
        // Not echoed.
        return Err(Error::invalid(
            "recipient",
            "this is a secret key, not a recipient; what is encrypted to is its public half (age-keygen -y, or the .pub file beside it). Treat the secret as exposed if it was shown to others",
        ));
    }
    if text.len() > LONGEST_RECIPIENT {
        return wrong("is too long for a recipient");
    }
    if text.chars().any(char::is_control) || text.trim() != text {
        return wrong("has a line end or other spaces around it; a recipient is one line");
    }
    if let Ok(native) = text.parse::<age::x25519::Recipient>() {
        return Ok(Box::new(native));
    }
    match text.parse::<age::ssh::Recipient>() {
        Ok(ssh) => Ok(Box::new(ssh)),
        Err(age::ssh::ParseRecipientKeyError::RsaModulusTooSmall) => {
            wrong("is an RSA key of fewer than 2,048 bits")
        }
        Err(age::ssh::ParseRecipientKeyError::RsaModulusTooLarge) => {
            wrong("is an RSA key too large to encrypt to")
        }
        Err(_) => wrong("is not a recipient: `age1…`, `ssh-ed25519 …` or `ssh-rsa …`"),
    }
}

fn identities(file: &[u8]) -> Result<Vec<Box<dyn Identity>>> {
    let unreadable = |why: String| {
        Err(Error::invalid(
            "identity",
            "the identity file holds no key that opens age files: lines of AGE-SECRET-KEY-1…, or an SSH private key without a passphrase",
        )
        .because(why))
    };
    if file.len() > LONGEST_IDENTITY {
        return unreadable(format!("{} bytes", file.len()));
    }
    if file.trim_ascii_start().starts_with(b"-----BEGIN") {
        return match age::ssh::Identity::from_buffer(file.trim_ascii_start(), None) {
            Ok(identity @ age::ssh::Identity::Unencrypted(_)) => Ok(vec![Box::new(identity)]),
            Ok(age::ssh::Identity::Encrypted(_)) => unreadable("an encrypted SSH key".to_owned()),
            Ok(age::ssh::Identity::Unsupported(kind)) => unreadable(format!("{kind:?}")),
            Err(why) => unreadable(why.to_string()),
        };
    }
    match IdentityFile::from_buffer(file).map(IdentityFile::into_identities) {
        Ok(Ok(identities)) if !identities.is_empty() => Ok(identities),
        Ok(Ok(_)) => unreadable("no line with a key".to_owned()),
        Ok(Err(why)) => unreadable(format!("{why:?}")),
        Err(why) => unreadable(why.to_string()),
    }
}

/// The three things that an operator can act on.
fn refused(why: DecryptError) -> Error {
    match why {
        DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed => Error::denied(
            "no_identity_matches",
            "none of the keys in this identity file opens this age file; it was encrypted to others",
        ),
        DecryptError::UnknownFormat => Error::invalid(
            "ciphertext",
            "this age file is of a version that this program does not read",
        ),
        DecryptError::ExcessiveWork { required, .. } => Error::invalid(
            "ciphertext",
            format!(
                "this age file's passphrase takes a work of 2^{required}, and 2^{SCRYPT_READ} (1 GiB of memory) is the most that is done here; open it with age itself"
            ),
        ),
        DecryptError::DecryptionFailed
        | DecryptError::InvalidHeader
        | DecryptError::InvalidMac
        | DecryptError::Io(_) => damaged(format!("{why:?}")),
    }
}

fn damaged(why: String) -> Error {
    Error::new(
        Kind::Invalid,
        "age_damaged",
        "this age file is damaged or cut off; fetch it again, or take an earlier version",
    )
    .because(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: &[u8] = include_bytes!("../../tests/data/age/identity.txt");
    const SSH_IDENTITY: &[u8] = include_bytes!("../../tests/data/age/ssh_ed25519");
    const SSH_RECIPIENT: &str = include_str!("../../tests/data/age/ssh_ed25519.pub");

    fn secret(bytes: &[u8]) -> Secret<Vec<u8>> {
        Secret::new(bytes.to_vec())
    }

    fn code<T>(result: Result<T>) -> &'static str {
        result.err().map_or("opened", |error| error.code)
    }

    #[test]
    fn each_recipient_opens_it_and_nobody_else() {
        let (identity, recipient) = generate_identity();
        let recipients = [recipient, SSH_RECIPIENT.trim().to_owned()];
        let file = encrypt(&recipients, b"secret").unwrap();
        for identity in [identity.expose().as_bytes(), SSH_IDENTITY] {
            assert_eq!(
                decrypt(&secret(identity), &file).unwrap().expose(),
                b"secret"
            );
        }
        assert_eq!(
            code(decrypt(&secret(IDENTITY), &file)),
            "no_identity_matches"
        );
    }

    #[test]
    fn every_identity_of_a_file_is_tried() {
        let (one, _) = generate_identity();
        let (two, recipient) = generate_identity();
        let both = format!("{}\n# the other\n{}", one.expose(), two.expose());
        let file = encrypt(&[recipient], b"").unwrap();
        assert_eq!(
            decrypt(&secret(both.as_bytes()), &file).unwrap().expose(),
            b""
        );
    }

    /// Made with Debian's age 1.1.1.
    #[test]
    fn files_of_the_age_command_open() {
        let files: [(&[u8], &[u8]); 3] = [
            (IDENTITY, include_bytes!("../../tests/data/age/x25519.age")),
            (IDENTITY, include_bytes!("../../tests/data/age/armored.age")),
            (SSH_IDENTITY, include_bytes!("../../tests/data/age/ssh.age")),
        ];
        for (identity, file) in files {
            let opened = decrypt(&secret(identity), file).unwrap();
            assert_eq!(opened.expose(), b"opened by age 1.1.1\n");
        }
    }

    fn passphrase(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn read(reader: Result<Reader<&[u8]>>) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        reader?
            .read_to_end(&mut plain)
            .map_err(|why| damaged(why.to_string()))?;
        Ok(plain)
    }

    #[test]
    fn a_passphrase_opens_what_it_was_written_with_and_what_age_wrote() {
        let file = include_bytes!("../../tests/data/age/passphrase.age");
        let right = passphrase("correct horse battery");
        assert_eq!(
            read(passphrase_reader(&right, &file[..])).unwrap(),
            b"opened by age 1.1.1\n"
        );
        for wrong in ["correct horse batterx", "correct horse battery\n", " "] {
            let refused = passphrase_reader(&passphrase(wrong), &file[..]);
            assert_eq!(code(refused), "wrong_passphrase");
        }
        let long = vec![7; 200_000];
        let mut writer = passphrase_writer(&right, Vec::new()).unwrap();
        writer.write_all(&long).unwrap();
        let ours = writer.finish().unwrap();
        assert!(ours.starts_with(b"age-encryption.org/v1\n-> scrypt "));
        assert!(read(passphrase_reader(&right, &ours[..])).unwrap() == long);
        let cut = read(passphrase_reader(&right, &ours[..ours.len() - 1]));
        assert_eq!(code(cut), "age_damaged");
        for text in [String::new(), "x".repeat(LONGEST_PASSPHRASE + 1)] {
            let text = Secret::new(text);
            assert_eq!(
                passphrase_writer(&text, Vec::new()).err().unwrap().field,
                Some("passphrase")
            );
            assert_eq!(
                passphrase_reader(&text, &ours[..]).err().unwrap().field,
                Some("passphrase")
            );
        }
    }

    #[test]
    fn a_passphrase_and_keys_are_told_apart() {
        let of_passphrase = include_bytes!("../../tests/data/age/passphrase.age");
        let of_key = include_bytes!("../../tests/data/age/x25519.age");
        assert_eq!(
            code(decrypt(&secret(IDENTITY), of_passphrase)),
            "needs_passphrase"
        );
        assert_eq!(
            code(reader(&secret(IDENTITY), &of_passphrase[..])),
            "needs_passphrase"
        );
        let (other, _) = generate_identity();
        let other = secret(other.expose().as_bytes());
        assert_eq!(code(reader(&other, &of_key[..])), "no_identity_matches");
        assert_eq!(
            code(passphrase_reader(&passphrase("x"), &of_key[..])),
            "needs_identity"
        );
    }

    #[test]
    fn a_file_that_wants_more_work_than_there_is_memory_for_is_refused_at_once() {
        let file = include_bytes!("../../tests/data/age/passphrase.age");
        let work = b" 18\n";
        let at = file.windows(work.len()).position(|it| it == work).unwrap();
        for dear in ["21", "22", "30", "63", "64", "99"] {
            let mut changed = file.to_vec();
            changed[at + 1..at + 3].copy_from_slice(dear.as_bytes());
            let error = passphrase_reader(&passphrase("x"), &changed[..])
                .err()
                .unwrap();
            assert!(error.public.contains(&format!("2^{dear}")), "{error}");
        }
    }

    #[test]
    fn a_header_that_does_not_end_is_left_before_it_takes_the_memory() {
        /// As much of it as anyone wants.
        struct Endless(usize);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                assert!(self.0 < 2 * LONGEST_HEADER, "it read on");
                let line = [b"-> ", &[b'x'; 996][..], b"\n"].concat();
                let mut from = b"age-encryption.org/v1\n"
                    .iter()
                    .chain(line.iter().cycle())
                    .skip(self.0);
                buffer.fill_with(|| from.next().copied().unwrap_or(0));
                self.0 += buffer.len();
                Ok(buffer.len())
            }
        }
        assert_eq!(code(reader(&secret(IDENTITY), Endless(0))), "age_damaged");
        assert_eq!(
            code(passphrase_reader(&passphrase("x"), Endless(0))),
            "age_damaged"
        );
        // Nothing that we write comes near it.
        let rsa = include_str!("../../tests/data/age/ssh_ed25519.pub").trim();
        let many = vec![rsa.to_owned(); MOST_RECIPIENTS];
        let file = encrypt(&many, &[7; 300_000]).unwrap();
        let mut plain = Vec::new();
        reader(&secret(SSH_IDENTITY), &file[..])
            .unwrap()
            .read_to_end(&mut plain)
            .unwrap();
        assert!(plain == [7; 300_000]);
    }

    #[test]
    fn what_is_no_age_file_is_told_from_a_damaged_one() {
        for other in [b"".as_slice(), b"secret", &[0; 300], b"age-encryption.or"] {
            let error = decrypt(&secret(IDENTITY), other).err().unwrap();
            assert!(error.public.contains("not an age file"), "{error}");
        }
        let file = include_bytes!("../../tests/data/age/x25519.age");
        for length in MAGIC.len()..file.len() {
            let result = decrypt(&secret(IDENTITY), &file[..length]);
            assert!(
                matches!(code(result), "age_damaged" | "invalid"),
                "{length} bytes"
            );
        }
        let mut flipped = file.to_vec();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        assert_eq!(code(decrypt(&secret(IDENTITY), &flipped)), "age_damaged");
    }

    #[test]
    fn an_identity_file_without_a_key_is_refused_without_showing_it() {
        for file in [
            "",
            "# nothing\n",
            "AGE-SECRET-KEY-1QQQQ\n",
            "hunter2\n",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n",
        ] {
            let error = decrypt(&secret(file.as_bytes()), MAGIC).err().unwrap();
            assert_eq!(error.field, Some("identity"), "{file}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn recipients_are_checked_and_a_secret_key_is_never_echoed() {
        check_recipient(&generate_identity().1).unwrap();
        check_recipient(SSH_RECIPIENT.trim()).unwrap();
        for wrong in [
            "",
            "age1",
            "someone@example.org",
            "ssh-dss AAAAB3NzaC1kc3MAAACBAO",
            "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA",
            SSH_RECIPIENT,
            &format!(" {}", generate_identity().1),
            &format!("age1{}", "q".repeat(LONGEST_RECIPIENT)),
        ] {
            assert_eq!(
                check_recipient(wrong).unwrap_err().field,
                Some("recipient"),
                "{wrong}"
            );
        }
        let (identity, _) = generate_identity();
        let line = identity.expose().lines().last().unwrap().to_owned();
        for text in [line.clone(), line.to_lowercase(), format!(" {line}\n")] {
            let error = check_recipient(&text).unwrap_err();
            let shown = error.public.to_uppercase();
            assert!(!shown.contains(&line[20..30]), "{error}");
        }
        assert!(encrypt(&[], b"secret").is_err());
    }
}
