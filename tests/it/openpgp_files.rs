//! What is encrypted to OpenPGP keys, against Debian's GnuPG, both ways.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strongroom::clock::{self, Timestamp};
use strongroom::crypto::openpgp::{self, PublicKey, Ring, Trouble};

use crate::harness::Gnupg;

fn ring(bytes: &[u8]) -> Vec<PublicKey> {
    let ring = Ring::read(bytes).unwrap();
    assert!(ring.left.is_empty(), "{:?}", ring.left);
    ring.keys
}

fn encrypted(keys: &[PublicKey], plain: &[u8]) -> Vec<u8> {
    let mut writer = openpgp::writer(keys, clock::now(), Vec::new()).unwrap();
    for piece in plain.chunks(4_099) {
        writer.write_all(piece).unwrap();
    }
    writer.finish().unwrap()
}

fn trouble(key: &PublicKey, now: Timestamp) -> Option<Trouble> {
    let trouble = key.standing(now).trouble;
    let refused = openpgp::check(std::slice::from_ref(key), now).err();
    assert_eq!(trouble.is_some(), refused.is_some());
    if let Some(refused) = refused {
        assert!(refused.public.contains(&key.fingerprint()), "{refused}");
        assert!(openpgp::writer(std::slice::from_ref(key), now, Vec::new()).is_err());
    }
    trouble
}

/// Not of a kind that compresses, and longer than a partial length or two.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 7_u32;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

#[test]
fn gpg_opens_what_is_encrypted_to_each_kind_of_key() {
    let plain = bytes(1_300_000);
    let mut keys = Vec::new();
    let mut homes = Vec::new();
    for (algorithm, subkey) in [
        ("rsa4096", "rsa4096"),
        ("rsa2048", "rsa2048"),
        ("ed25519", "cv25519"),
        ("nistp256", "nistp256"),
    ] {
        let home = Gnupg::new();
        let fingerprint = home.key("Operator <ops@example.com>", algorithm, "cert", "never");
        home.subkey(&fingerprint, subkey, "1y");
        let key = ring(&home.export(&[])).pop().unwrap();
        assert_eq!(key.fingerprint(), fingerprint);
        let standing = key.standing(clock::now());
        assert_eq!(standing.user_ids, ["Operator <ops@example.com>"]);
        assert_eq!(standing.trouble, None);
        assert!(standing.expires.is_some_and(|end| end > clock::now()));
        for length in [0, 1, 100, plain.len()] {
            let file = encrypted(std::slice::from_ref(&key), &plain[..length]);
            let opened = home.gpg_with(&["--decrypt"], &file);
            assert!(opened.stdout == plain[..length], "{algorithm}, {length}");
        }
        keys.push(key);
        homes.push(home);
    }
    // One file for all of them: each alone opens it.
    let file = encrypted(&keys, &plain);
    for home in &homes {
        let path = home.file("all.gpg", &file);
        let opened = home.gpg(&["--decrypt", path.to_str().unwrap()]);
        assert!(opened.stdout == plain);
    }
}

#[test]
fn what_gpg_writes_to_a_drill_key_opens_and_only_to_that() {
    let home = Gnupg::new();
    let drill = openpgp::generate_drill("Strongroom drill", clock::now()).unwrap();
    let other = openpgp::generate_drill("Strongroom drill", clock::now()).unwrap();
    assert_eq!(trouble(&drill.public, clock::now()), None);
    let fingerprint = drill.public.fingerprint();
    home.gpg_with(&["--import"], drill.public.armored().unwrap().as_bytes());
    home.key("Signer", "ed25519", "sign", "never");
    let plain = b"as gpg writes it\n".repeat(40_000);
    let path = home.file("plain", &plain);
    let path = path.to_str().unwrap();
    let to = ["-o", "-", "-r", &fingerprint, "--encrypt"];
    for further in [
        &["--compress-algo", "none"][..],
        &["--compress-algo", "zip"],
        &["--compress-algo", "zlib"],
        &["--armor"],
        &["--sign"],
    ] {
        let file = home.gpg(&[further, &to, &[path]].concat()).stdout;
        let mut opened = Vec::new();
        let mut reader = openpgp::reader(&drill.secret, io::Cursor::new(file.clone())).unwrap();
        reader.read_to_end(&mut opened).unwrap();
        assert!(opened == plain, "{further:?}");
        let refused = openpgp::reader(&other.secret, io::Cursor::new(file)).err();
        assert_eq!(refused.unwrap().code, "no_identity_matches", "{further:?}");
    }
    // And what is written here opens to the drill key beside another's.
    let file = encrypted(&[other.public, drill.public], &plain);
    let mut opened = Vec::new();
    let mut reader = openpgp::reader(&drill.secret, io::Cursor::new(file)).unwrap();
    reader.read_to_end(&mut opened).unwrap();
    assert!(opened == plain);
}

#[test]
fn a_file_that_is_cut_off_or_changed_anywhere_never_reads_to_its_end() {
    let drill = openpgp::generate_drill("Strongroom drill", clock::now()).unwrap();
    let plain = bytes(300);
    let whole = encrypted(&[drill.public], &plain);
    let read = |file: Vec<u8>| {
        let mut opened = Vec::new();
        let mut reader = openpgp::reader(&drill.secret, io::Cursor::new(file)).ok()?;
        reader.read_to_end(&mut opened).ok().map(|_| opened)
    };
    // In small pieces, too, as someone does who hashes or writes what comes.
    let in_pieces = |file: Vec<u8>| {
        let mut reader = openpgp::reader(&drill.secret, io::Cursor::new(file)).ok()?;
        let (mut opened, mut piece) = (Vec::new(), [0; 7]);
        loop {
            match reader.read(&mut piece).ok()? {
                0 => return Some(opened),
                length => opened.extend(&piece[..length]),
            }
        }
    };
    assert!(read(whole.clone()).unwrap() == plain);
    assert!(in_pieces(whole.clone()).unwrap() == plain);
    for length in 0..whole.len() {
        let cut = whole[..length].to_vec();
        assert_eq!(read(cut.clone()), None, "cut to {length}");
        assert_eq!(in_pieces(cut), None, "cut to {length}");
    }
    // The first packet says by which key the rest opens, in more than one way: if it still does, it
    // is the same rest.
    let first = 2 + usize::from(whole[1]);
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        for same in [read(changed.clone()), in_pieces(changed)]
            .into_iter()
            .flatten()
        {
            assert!(at < first && same == plain, "byte {at}");
        }
    }
    for not in [
        &b""[..],
        b"plain text",
        &[0x80; 100],
        b"-----BEGIN PGP MESSAGE-----\n\n",
    ] {
        assert_eq!(read(not.to_vec()), None);
    }
}

#[test]
fn a_writer_that_is_dropped_leaves_no_whole_file() {
    #[derive(Clone, Default)]
    struct Shared(Arc<std::sync::Mutex<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let drill = openpgp::generate_drill("Strongroom drill", clock::now()).unwrap();
    let keys = [drill.public.clone()];
    let sink = Shared::default();
    let mut writer = openpgp::writer(&keys, clock::now(), sink.clone()).unwrap();
    writer.write_all(&bytes(1_200_000)).unwrap();
    drop(writer);
    let left = sink.0.lock().unwrap().clone();
    assert!(!left.is_empty());
    let opened = openpgp::reader(&drill.secret, io::Cursor::new(left));
    assert!(opened.is_ok_and(|mut it| it.read_to_end(&mut Vec::new()).is_err()));
    // What stands in the way of writing is told, by a later piece or at the end.
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut writer = openpgp::writer(&keys, clock::now(), Full).unwrap();
    let told = writer
        .write_all(&bytes(4 << 20))
        .and_then(|()| writer.finish().map(drop));
    assert_eq!(told.unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn nothing_grows_with_the_length_of_what_is_encrypted() {
    const LENGTH: u64 = 48 << 20;
    const HELD_BACK: u64 = 4 << 20;
    /// Counts what comes, and hands it on.
    struct Counted(Arc<AtomicU64>, io::PipeWriter);
    impl Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let written = self.1.write(bytes)?;
            self.0.fetch_add(written as u64, Ordering::SeqCst);
            Ok(written)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let drill = openpgp::generate_drill("Strongroom drill", clock::now()).unwrap();
    let (from, to) = io::pipe().unwrap();
    let out = Arc::new(AtomicU64::new(0));
    let keys = [drill.public];
    let mut writer = openpgp::writer(&keys, clock::now(), Counted(Arc::clone(&out), to)).unwrap();
    let given = Arc::new(AtomicU64::new(0));
    let writing = std::thread::spawn({
        let (out, given) = (Arc::clone(&out), Arc::clone(&given));
        move || {
            let piece = [7; 64 << 10];
            for _ in 0..LENGTH / piece.len() as u64 {
                writer.write_all(&piece).unwrap();
                let given = given.fetch_add(piece.len() as u64, Ordering::SeqCst);
                let held = given.saturating_sub(out.load(Ordering::SeqCst));
                assert!(held <= HELD_BACK, "{held} bytes are held back");
            }
            drop(writer.finish().unwrap());
        }
    });
    let mut reader = openpgp::reader(&drill.secret, from).unwrap();
    let (mut read, mut piece) = (0, vec![0; 64 << 10]);
    loop {
        let length = reader.read(&mut piece).unwrap();
        if length == 0 {
            break;
        }
        assert!(piece[..length].iter().all(|byte| *byte == 7));
        read += length as u64;
        let held = given.load(Ordering::SeqCst).saturating_sub(read);
        assert!(held <= 2 * HELD_BACK, "{held} bytes are held back");
    }
    assert_eq!(read, LENGTH);
    writing.join().unwrap();
}

#[test]
fn keys_that_cannot_be_encrypted_to_say_why() {
    let home = Gnupg::new();
    let now = clock::now();
    let day = |days: i64| now.plus(days * Timestamp::DAY);
    let key = |home: &Gnupg, fingerprint: &str| ring(&home.export(&[fingerprint])).pop().unwrap();

    let signs = home.key("Signs only", "ed25519", "sign", "never");
    assert_eq!(trouble(&key(&home, &signs), now), Some(Trouble::SignOnly));

    let ends = home.key("Ends soon", "ed25519", "cert", "2d");
    home.subkey(&ends, "cv25519", "2d");
    let read = key(&home, &ends);
    assert_eq!(trouble(&read, now), None);
    let end = read.standing(now).expires.unwrap();
    assert!(end > day(1) && end < day(3));
    assert_eq!(trouble(&read, day(3)), Some(Trouble::Expired(end)));
    assert_eq!(read.standing(day(3)).expires, Some(end));
    assert!(matches!(trouble(&read, day(-1)), Some(Trouble::NotYet(_))));

    // Its owner gives it more time: both to the key and to its part, or it does not count.
    home.gpg(&["--quick-set-expire", &ends, "30d"]);
    let told = trouble(&key(&home, &ends), day(3));
    assert!(matches!(told, Some(Trouble::Expired(_))), "{told:?}");
    home.gpg(&["--quick-set-expire", &ends, "30d", "*"]);
    assert_eq!(trouble(&key(&home, &ends), day(3)), None);

    // Of two parts the newest that still stands is taken.
    let two = home.key("Two parts", "ed25519", "cert", "never");
    home.subkey(&two, "cv25519", "2d");
    home.subkey(&two, "rsa2048", "9d");
    let read = key(&home, &two);
    assert_eq!(trouble(&read, day(5)), None);
    assert!(matches!(trouble(&read, day(10)), Some(Trouble::Expired(_))));
    assert_eq!(read.standing(now).subkeys.len(), 2);

    let brainpool = home.key("Other curve", "ed25519", "cert", "never");
    home.subkey(&brainpool, "brainpoolP256r1", "never");
    let told = trouble(&key(&home, &brainpool), now).unwrap().to_string();
    assert!(told.contains("rainpool"), "{told}");

    let small = home.key("Small", "rsa1024", "cert", "never");
    home.subkey(&small, "rsa1024", "never");
    let told = trouble(&key(&home, &small), now).unwrap().to_string();
    assert!(told.contains("RSA of 1024 bits"), "{told}");

    // Who else may revoke it is signed at the key itself, and says nothing of its use and its end.
    let parameters = format!(
        "%no-protection\nKey-Type: RSA\nKey-Length: 2048\nKey-Usage: cert\nName-Real: With revoker\nExpire-Date: 2d\nRevoker: 1:{two}\n%commit\n"
    );
    home.gpg_with(&["--generate-key"], parameters.as_bytes());
    let revoker = home.fingerprint("=With revoker");
    assert_eq!(
        trouble(&key(&home, &revoker), clock::now()),
        Some(Trouble::SignOnly)
    );
    assert!(matches!(
        trouble(&key(&home, &revoker), day(3)),
        Some(Trouble::Expired(_))
    ));

    home.revoke(&two);
    assert_eq!(trouble(&key(&home, &two), now), Some(Trouble::Revoked));
}

#[test]
fn rings_are_read_binary_and_armored_without_secrets_and_without_what_others_signed() {
    let home = Gnupg::new();
    let one = home.key("One <one@example.com>", "ed25519", "default", "never");
    let two = home.key("Two <two@example.com>", "ed25519", "default", "never");
    home.gpg(&["-u", &two, "--quick-sign-key", &one]);
    let fingerprints = |bytes: &[u8]| -> Vec<String> {
        let mut found: Vec<String> = ring(bytes).iter().map(PublicKey::fingerprint).collect();
        found.sort();
        found
    };
    let mut both = [one.clone(), two.clone()];
    both.sort();
    let binary = home.export(&[]);
    assert_eq!(fingerprints(&binary), both);
    let armored = home.gpg(&["--armor", "--export"]).stdout;
    assert_eq!(fingerprints(&armored), both);
    // One block behind another, with words between, as mails have them; one of them twice.
    let mut blocks = b"Hello\n".to_vec();
    for name in [&one, &two, &one] {
        blocks.extend(home.gpg(&["--armor", "--export", name]).stdout);
        blocks.extend(b"\nand\n");
    }
    assert_eq!(fingerprints(&blocks), both);
    // What others signed goes, and the key is the same key.
    let signed = home.export(&[&one]);
    let read = ring(&signed).pop().unwrap();
    let minimal = home.gpg(&["--export-options", "export-minimal", "--export", &one]);
    assert_eq!(ring(&minimal.stdout).pop().unwrap(), read);
    assert!(minimal.stdout.len() < signed.len());
    assert_eq!(PublicKey::parse(&read.armored().unwrap()).unwrap(), read);

    for secret in [
        home.gpg(&["--export-secret-keys", &one]).stdout,
        home.gpg(&["--armor", "--export-secret-keys", &one]).stdout,
        home.gpg(&["--export-secret-subkeys", &one]).stdout,
        [binary.clone(), home.gpg(&["--export-secret-keys"]).stdout].concat(),
    ] {
        let error = Ring::read(&secret).err().unwrap();
        assert!(error.public.contains("secret"), "{error}");
    }
    for nothing in [&b""[..], b"age1x\n", &[0; 40], &[0xff; 40]] {
        let read = Ring::read(nothing);
        assert!(read.is_err() || read.is_ok_and(|it| it.keys.is_empty()));
    }
    for length in 0..binary.len() {
        // Whatever is left of it is a key of its own, and never one that it was not.
        if let Ok(cut) = Ring::read(&binary[..length]) {
            assert!(cut.keys.iter().all(|it| both.contains(&it.fingerprint())));
        }
    }
    let error = PublicKey::parse(&String::from_utf8(armored).unwrap());
    assert!(error.unwrap_err().public.contains("several"));
}
