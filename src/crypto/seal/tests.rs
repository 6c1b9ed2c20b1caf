use super::format::Bytes;
use super::*;
use crate::crypto::{keygen, random};

const NOW: Timestamp = Timestamp(1_795_000_000_000_000);
const CHEAP: kdf::Cost = kdf::Cost {
    memory_kib: 8,
    passes: 1,
    lanes: 1,
};
/// Made by another implementation from the format's page alone, with a passphrase slot, a key file
/// slot, and one of a kind that this version does not know. A released format stays.
const RELEASED: &[u8] = include_bytes!("../../../tests/data/seal-v1.json");
const RELEASED_KEY_FILE: &[u8] = b"0123456789abcdef0123456789abcdef";

fn passphrase(text: &str) -> SlotSecret {
    SlotSecret::Passphrase(Secret::new(text.as_bytes().to_vec()))
}

fn key_file(bytes: &[u8]) -> SlotSecret {
    SlotSecret::KeyFile(Secret::new(bytes.to_vec()))
}

fn new(secret: &SlotSecret) -> NewSlot {
    let copy = |bytes: &Secret<Vec<u8>>| Secret::new(bytes.expose().clone());
    match secret {
        SlotSecret::Passphrase(bytes) => NewSlot::passphrase(copy(bytes)),
        SlotSecret::KeyFile(bytes) => NewSlot::key_file(copy(bytes)),
        _ => panic!("a recovery slot is made for a recipient"),
    }
}

fn add(file: &mut SealFile, root: &Key, secret: &SlotSecret, label: &str) -> SlotId {
    file.add_slot_at_cost(root, &new(secret), label, CHEAP, NOW)
        .unwrap()
}

/// A file with a passphrase slot and a key file slot.
fn two_slots() -> (SealFile, Key) {
    let (mut file, root) = (SealFile::new(InstanceId::new()), keygen::key());
    add(&mut file, &root, &passphrase("open sesame"), "laptop");
    add(&mut file, &root, &key_file(&[7; 32]), "usb");
    (file, root)
}

fn refusal<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("it was taken"),
        Err(error) => error,
    }
}

/// Makes the checksums right again, as someone does who knows the format and has no secret.
fn with_right_checksums(mut file: SealFile) -> SealFile {
    for slot in &mut file.document.slots {
        slot.mend_checksum();
    }
    SealFile::parse(&file.to_json()).unwrap()
}

#[test]
fn any_slot_opens_the_same_root_key() {
    let (file, root) = two_slots();
    assert_eq!(file.generation(), 2);
    let file = SealFile::parse(&file.to_json()).unwrap();
    let slots = file.slots();
    let (opened, slot) = file.open(&passphrase("open sesame"), None).unwrap();
    assert!(opened.matches(root.expose()));
    assert_eq!(slot, slots[0].id);
    let (opened, slot) = file.open(&key_file(&[7; 32]), Some(slots[1].id)).unwrap();
    assert!(opened.matches(root.expose()));
    assert_eq!(slot, slots[1].id);
}

#[test]
fn a_credential_is_a_key_file_with_a_name() {
    let (mut file, root) = two_slots();
    let bytes = || Secret::new(vec![9; 32]);
    let new = NewSlot::credential("strongroom.slot", bytes()).unwrap();
    let id = file
        .add_slot_at_cost(&root, &new, "tpm", CHEAP, NOW)
        .unwrap();
    let file = SealFile::parse(&file.to_json()).unwrap();
    let info = &file.slots()[2];
    assert_eq!(info.credential(), Some("strongroom.slot"));
    assert!(file.slots()[1].credential().is_none());
    let (opened, slot) = file.open(&key_file(&[9; 32]), None).unwrap();
    assert!(opened.matches(root.expose()) && slot == id);
    for name in ["", ".hidden", "a/b", "a b", "\u{e4}", &"x".repeat(129)] {
        let error = refusal(NewSlot::credential(name, bytes()));
        assert_eq!(error.field, Some("name"), "{name}");
    }
}

#[test]
fn a_recovery_slot_opens_with_its_identity_alone() {
    let (mut file, root) = two_slots();
    let (identity, recipient) = agefile::generate_identity();
    let (other, _) = agefile::generate_identity();
    let bytes = |text: &Secret<String>| Secret::new(text.expose().clone().into_bytes());
    let new = NewSlot::recovery(&recipient).unwrap();
    let id = file
        .add_slot_at_cost(&root, &new, "safe", CHEAP, NOW)
        .unwrap();
    let file = SealFile::parse(&file.to_json()).unwrap();
    let slots = file.slots();
    let as_secret = |text: &Secret<String>| SlotSecret::Identity(bytes(text));
    let (opened, slot) = file.open(&as_secret(&identity), None).unwrap();
    assert!(opened.matches(root.expose()) && slot == id);
    let found = recover("recovery", &slots[2].parameters, &bytes(&identity));
    let (opened, _) = file.open(&found.unwrap().unwrap(), Some(id)).unwrap();
    assert!(opened.matches(root.expose()));
    let error = refusal(file.open(&as_secret(&other), None));
    assert_eq!((error.kind, error.code), (Kind::Denied, "wrong_identity"));
    let error = refusal(file.open(&as_secret(&identity), Some(slots[1].id)));
    assert_eq!(error.code, "wrong_identity");
    let none = SlotSecret::Identity(Secret::new(b"no identity".to_vec()));
    assert_eq!(refusal(file.open(&none, None)).field, Some("identity"));
    assert_eq!(refusal(NewSlot::recovery("age1")).field, Some("recipient"));
    let wrong = SlotSecret::Recovered(Secret::new(vec![0; 32]));
    assert_eq!(refusal(file.open(&wrong, None)).code, "wrong_identity");
}

#[test]
fn parameters_that_are_not_the_kinds_own_are_damage() {
    let (mut file, root) = two_slots();
    let new = NewSlot::credential("name", Secret::new(vec![9; 32])).unwrap();
    file.add_slot_at_cost(&root, &new, "tpm", CHEAP, NOW)
        .unwrap();
    for (at, parameters) in [
        (1, serde_json::json!({"name": "x"})),
        (2, serde_json::json!({})),
        (2, serde_json::json!({"name": "a/b"})),
        (2, serde_json::json!({"name": "a", "more": "b"})),
    ] {
        let mut changed = file.clone();
        changed.document.slots[at].parameters = parameters.as_object().unwrap().clone();
        changed.document.slots[at].mend_checksum();
        let error = refusal(SealFile::parse(&changed.to_json()));
        assert_eq!(error.code, "seal_damaged", "{parameters}");
    }
}

#[test]
fn a_wrong_secret_names_the_slots_tried() {
    let (file, _) = two_slots();
    let error = refusal(file.open(&passphrase("open says me"), None));
    assert_eq!((error.kind, error.code), (Kind::Denied, "wrong_passphrase"));
    assert_eq!(
        error.public,
        "passphrase does not open slot 1 (\"laptop\", created 2026-11-18T11:06:40Z); try another slot with --slot, or restore"
    );
    let error = refusal(file.open(&key_file(&[8; 32]), None));
    assert_eq!((error.kind, error.code), (Kind::Denied, "wrong_key_file"));
    assert!(error.public.contains("slot 2 (\"usb\""), "{error}");
    let error = refusal(file.open(&passphrase(""), None));
    assert!(error.public.contains("it is empty"), "{error}");
}

#[test]
fn a_slot_of_another_kind_or_none_is_said_so() {
    let (file, _) = two_slots();
    let usb = file.slots()[1].id;
    let error = refusal(file.open(&passphrase("open sesame"), Some(usb)));
    assert_eq!(error.code, "wrong_passphrase");
    assert!(error.public.contains("no passphrase opens"), "{error}");
    let error = refusal(file.open(&passphrase("open sesame"), Some(SlotId::new())));
    assert_eq!(error.kind, Kind::NotFound);
    let mut only_usb = SealFile::new(InstanceId::new());
    add(&mut only_usb, &keygen::key(), &key_file(&[7; 32]), "usb");
    let error = refusal(only_usb.open(&passphrase("open sesame"), None));
    assert_eq!(error.code, "wrong_passphrase");
    assert!(error.public.contains("it has slot 1 (\"usb\""), "{error}");
}

#[test]
fn secrets_have_a_least_and_a_greatest_length() {
    let (mut file, root) = (SealFile::new(InstanceId::new()), keygen::key());
    let mut refused = |secret: &SlotSecret| {
        refusal(file.add_slot_at_cost(&root, &new(secret), "", CHEAP, NOW)).code
    };
    assert_eq!(refused(&passphrase("")), "invalid");
    assert_eq!(refused(&key_file(&[7; MIN_KEY_FILE - 1])), "invalid");
    let long = vec![b'x'; MAX_SECRET + 1];
    assert_eq!(refused(&key_file(&long)), "secret_too_large");
    let long_passphrase = SlotSecret::Passphrase(Secret::new(long));
    assert_eq!(refused(&long_passphrase), "secret_too_large");
    assert_eq!(
        refusal(file.open(&long_passphrase, None)).code,
        "secret_too_large"
    );

    let longest = SlotSecret::Passphrase(Secret::new(vec![b'x'; MAX_SECRET]));
    add(&mut file, &root, &longest, "longest passphrase");
    add(&mut file, &root, &key_file(&[7; MIN_KEY_FILE]), "shortest");
    add(&mut file, &root, &key_file(&[8; MAX_SECRET]), "longest");
    assert!(file.open(&longest, None).is_ok());
    assert!(file.open(&key_file(&[8; MAX_SECRET]), None).is_ok());
}

#[test]
fn one_line_end_of_a_passphrase_file_is_the_editors() {
    let read = |text: &str| {
        SlotSecret::passphrase_from_file(text.as_bytes().to_vec())
            .bytes()
            .to_vec()
    };
    assert_eq!(read("open sesame\n"), b"open sesame");
    assert_eq!(read("open sesame\r\n"), b"open sesame");
    assert_eq!(read("open sesame"), b"open sesame");
    assert_eq!(read("open sesame\n\n"), b"open sesame\n");
    assert_eq!(read(" open\nsesame \n"), b" open\nsesame ");
    assert_eq!(read("open sesame\r"), b"open sesame\r");
    assert_eq!(read("\n"), b"");
}

#[test]
fn another_instances_file_names_both() {
    let (file, _) = two_slots();
    file.check_instance(file.instance()).unwrap();
    let here = InstanceId::new();
    let error = refusal(file.check_instance(here));
    assert_eq!(error.code, "seal_foreign");
    for id in [here, file.instance()] {
        assert!(error.public.contains(&id.to_string()), "{error}");
    }
}

#[test]
fn a_newer_format_names_both() {
    let (file, _) = two_slots();
    let text = String::from_utf8(file.to_json()).unwrap();
    let newer = text.replace(FORMAT, "strongroom-seal/2");
    let error = refusal(SealFile::parse(newer.as_bytes()));
    assert_eq!(error.code, "seal_newer");
    assert!(error.public.contains(FORMAT), "{error}");
    assert!(error.public.contains("strongroom-seal/2"), "{error}");
    // A newer one may look different everywhere else.
    let strange = refusal(SealFile::parse(
        br#"{"slots":3,"format":"strongroom-seal/17"}"#,
    ));
    assert_eq!(strange.code, "seal_newer");
    for other in ["strongroom-seal/0", "strongroom-seal/", "luks", ""] {
        let error = refusal(SealFile::parse(text.replace(FORMAT, other).as_bytes()));
        assert_eq!(error.code, "seal_damaged", "{other}");
    }
}

#[test]
fn the_last_slot_that_opens_stays() {
    let (mut file, root) = two_slots();
    let [laptop, usb] = [file.slots()[0].id, file.slots()[1].id];
    file.remove_slot(&root, laptop).unwrap();
    assert_eq!(file.generation(), 3);
    assert_eq!(refusal(file.remove_slot(&root, usb)).code, "last_slot");
    assert_eq!(refusal(file.remove_slot(&root, laptop)).code, "not_found");
    assert_eq!(
        refusal(file.open(&passphrase("open sesame"), None)).code,
        "wrong_passphrase"
    );
    assert!(file.open(&key_file(&[7; 32]), None).is_ok());

    // A slot that only a newer version opens does not count.
    let mut released = SealFile::parse(RELEASED).unwrap();
    let (root, _) = released.open(&key_file(RELEASED_KEY_FILE), None).unwrap();
    let [laptop, usb, safe] = [0, 1, 2].map(|at| released.slots()[at].id);
    released.remove_slot(&root, laptop).unwrap();
    assert_eq!(refusal(released.remove_slot(&root, usb)).code, "last_slot");
    released.remove_slot(&root, safe).unwrap();
}

#[test]
fn only_the_files_own_root_key_changes_it() {
    let (mut file, _) = two_slots();
    let before = file.clone();
    let other = keygen::key();
    let secret = passphrase("mine");
    let error = refusal(file.add_slot_at_cost(&other, &new(&secret), "", CHEAP, NOW));
    assert_eq!(error.code, "seal_damaged");
    let id = file.slots()[0].id;
    assert_eq!(refusal(file.remove_slot(&other, id)).code, "seal_damaged");
    assert!(file == before);
}

#[test]
fn slots_and_labels_are_bounded() {
    let (mut file, root) = (SealFile::new(InstanceId::new()), keygen::key());
    let mut labelled = |label: &str| {
        file.add_slot_at_cost(&root, &new(&key_file(&[7; 32])), label, CHEAP, NOW)
            .map_err(|error| error.code)
    };
    assert_eq!(labelled("two\nlines"), Err("invalid"));
    assert_eq!(labelled(&"x".repeat(MAX_LABEL + 1)), Err("invalid"));
    for number in 0..MAX_SLOTS {
        assert!(labelled(&number.to_string()).is_ok());
    }
    assert_eq!(labelled("one more"), Err("slots_full"));
    assert!(SealFile::parse(&file.to_json()).is_ok());
}

#[test]
fn the_released_format_reads_opens_and_writes() {
    let file = SealFile::parse(RELEASED).unwrap();
    assert_eq!(file.generation(), 5);
    let root: [u8; 32] = std::array::from_fn(|at| 0x80 + at as u8);
    for secret in [
        passphrase("correct horse — battery"),
        key_file(RELEASED_KEY_FILE),
    ] {
        assert!(file.open(&secret, None).unwrap().0.matches(&root));
    }
    let safe = file.slots().pop().unwrap();
    assert_eq!((safe.kind.as_str(), safe.known), ("hsm", false));
    assert_eq!(safe.parameters["recipient"], "age1example");
    let error = refusal(file.open(&key_file(RELEASED_KEY_FILE), Some(safe.id)));
    assert!(error.public.contains("`hsm`"), "{error}");
    assert!(error.public.contains("newer Strongroom"), "{error}");
}

#[test]
fn slots_of_unknown_kinds_survive_a_change() {
    let mut file = SealFile::parse(RELEASED).unwrap();
    let before = file.document.slots[2].clone();
    let (root, _) = file.open(&key_file(RELEASED_KEY_FILE), None).unwrap();
    add(&mut file, &root, &passphrase("another"), "new");
    let file = SealFile::parse(&file.to_json()).unwrap();
    assert!(file.document.slots[2] == before);
    assert_eq!(file.generation(), 6);
    assert!(file.open(&passphrase("another"), None).is_ok());
    assert!(file.open(&key_file(RELEASED_KEY_FILE), None).is_ok());
}

#[test]
fn cut_off_anywhere_it_is_damaged() {
    for length in 0..RELEASED.len() {
        let cut = &RELEASED[..length];
        // The line end at the end carries nothing.
        if cut.trim_ascii_end() == RELEASED.trim_ascii_end() {
            assert!(SealFile::parse(cut).is_ok());
            continue;
        }
        let error = refusal(SealFile::parse(cut));
        assert_eq!(error.code, "seal_damaged", "{length} bytes");
    }
    let long = [RELEASED, &vec![b' '; MAX_BYTES]].concat();
    assert_eq!(refusal(SealFile::parse(&long)).code, "seal_damaged");
}

/// Each bit of the file, flipped: damage is never taken for a wrong secret, and never goes unseen,
/// but for the few bits that change no meaning (`a` and `A` in hex).
#[test]
fn any_bit_flipped_is_seen_and_is_not_a_wrong_secret() {
    let secret = key_file(RELEASED_KEY_FILE);
    let original = SealFile::parse(RELEASED).unwrap();
    let (mut seen, mut unseen) = (0, 0);
    for at in 0..RELEASED.len() {
        for bit in 0..8 {
            let mut flipped = RELEASED.to_vec();
            flipped[at] ^= 1 << bit;
            let result = SealFile::parse(&flipped).and_then(|file| {
                file.check_instance(original.instance())?;
                file.open(&secret, None)?;
                Ok(file)
            });
            match result {
                Ok(file) => {
                    assert!(file == original, "byte {at} bit {bit} changed the meaning");
                    assert!(RELEASED[at].is_ascii_alphabetic(), "byte {at} bit {bit}");
                    unseen += 1;
                }
                Err(error) => {
                    assert!(
                        ["seal_damaged", "seal_foreign", "seal_newer"].contains(&error.code),
                        "byte {at} bit {bit}: {error:?}"
                    );
                    seen += 1;
                }
            }
        }
    }
    assert!(unseen * 20 < seen, "{unseen} unseen, {seen} seen");
}

/// Someone without any secret, who knows the format and mends the checksums.
#[test]
fn a_file_put_together_from_others_is_damaged() {
    let secret = key_file(&[7; 32]);
    let (file, root) = two_slots();
    let mut same_root = file.clone();
    add(&mut same_root, &root, &key_file(&[9; 32]), "third");
    let (other_instance, _) = two_slots();
    let mut same_instance = SealFile::new(file.instance());
    add(&mut same_instance, &keygen::key(), &secret, "older root");

    type Change<'a> = (&'a str, &'a str, Box<dyn Fn(&mut SealFile) + 'a>);
    let change = |change: fn(&mut SealFile)| -> Box<dyn Fn(&mut SealFile)> { Box::new(change) };
    let changes: Vec<Change> = vec![
        (
            "generation",
            "the tag",
            change(|it| it.document.generation += 1),
        ),
        (
            "generation back",
            "the tag",
            change(|it| it.document.generation = 1),
        ),
        (
            "a slot removed",
            "the tag",
            change(|it| drop(it.document.slots.remove(0))),
        ),
        (
            "slots in another order",
            "the tag",
            change(|it| it.document.slots.reverse()),
        ),
        (
            "label",
            "the tag",
            change(|it| it.document.slots[1].label = "mine".to_owned()),
        ),
        (
            "created",
            "the tag",
            change(|it| it.document.slots[1].created = Timestamp(0)),
        ),
        (
            "id",
            "does not unwrap",
            change(|it| it.document.slots[1].id = SlotId::new()),
        ),
        (
            "instance",
            "does not unwrap",
            change(|it| it.document.instance = InstanceId::new()),
        ),
        (
            "tag",
            "the tag",
            change(|it| it.document.tag = Bytes(vec![0; 32])),
        ),
        (
            "another instance's slot",
            "does not unwrap",
            Box::new(|it| it.document.slots[1] = other_instance.document.slots[1].clone()),
        ),
        (
            "a slot of a later generation",
            "the tag",
            Box::new(|it| it.document.slots.push(same_root.document.slots[2].clone())),
        ),
        (
            "a slot of another root key",
            "the tag",
            Box::new(|it| it.document.slots[1] = same_instance.document.slots[0].clone()),
        ),
        (
            "a wrapped key of another slot",
            "does not unwrap",
            change(|it| {
                let (first, second) = it.document.slots.split_at_mut(1);
                first[0].swap_wrapped(&mut second[0]);
            }),
        ),
    ];
    assert!(file.open(&secret, None).is_ok());
    for (what, expected, change) in changes {
        let mut changed = file.clone();
        change(&mut changed);
        let error = refusal(with_right_checksums(changed).open(&secret, None));
        assert_eq!(error.code, "seal_damaged", "{what}");
        assert!(error.public.contains(expected), "{what}: {error}");
    }
}

#[test]
fn a_weaker_cost_is_not_taken_for_the_written_one() {
    let (mut file, _) = two_slots();
    let slot = &mut file.document.slots[0];
    slot.parameters.insert("passes".to_owned(), 2.into());
    let error = refusal(with_right_checksums(file).open(&passphrase("open sesame"), None));
    // Another cost is another key: nothing tells it from a wrong passphrase.
    assert_eq!(error.code, "wrong_passphrase");
}

#[test]
fn parameters_that_ask_too_much_are_refused_before_any_work() {
    for (name, value) in [
        ("memory_kib", Value::from(2_000_000)),
        ("memory_kib", Value::from(-1)),
        ("memory_kib", Value::from(1.5)),
        ("passes", Value::from(1_000_000)),
        ("lanes", Value::from(0)),
        ("kdf", Value::from("scrypt")),
        ("more", Value::from(1)),
    ] {
        let (mut file, _) = two_slots();
        let slot = &mut file.document.slots[0];
        slot.parameters.insert(name.to_owned(), value.clone());
        slot.mend_checksum();
        let error = refusal(SealFile::parse(&file.to_json()));
        assert_eq!(error.code, "seal_damaged", "{name} = {value}");
        assert!(error.public.contains("slot 1 (\"laptop\""), "{error}");
    }
}

#[test]
fn two_slots_with_one_id_are_damage() {
    let (mut file, _) = two_slots();
    file.document.slots[1].id = file.document.slots[0].id;
    file.document.slots[1].mend_checksum();
    let error = refusal(SealFile::parse(&file.to_json()));
    assert!(error.public.contains("id"), "{error}");
}

#[test]
fn arbitrary_bytes_are_never_more_than_damage() {
    for length in [0, 1, 2, 100, 10_000] {
        let bytes = random::<10_000>();
        assert_eq!(
            refusal(SealFile::parse(&bytes[..length])).code,
            "seal_damaged"
        );
    }
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    assert_eq!(refusal(SealFile::parse(&deep)).code, "seal_damaged");
    for text in ["{}", "[]", "null", r#"{"format":1}"#] {
        assert_eq!(
            refusal(SealFile::parse(text.as_bytes())).code,
            "seal_damaged"
        );
    }
}

/// The one test that pays the full price.
#[test]
fn new_passphrase_slots_are_calibrated() {
    let (mut file, root) = (SealFile::new(InstanceId::new()), keygen::key());
    let secret = passphrase("open sesame");
    file.add_slot(&root, &new(&secret), "laptop", NOW).unwrap();
    let parameters = file.slots().remove(0).parameters;
    assert_eq!(parameters["memory_kib"], 64 * 1024);
    assert!(parameters["passes"].as_u64().unwrap() >= 3);
    assert!(file.open(&secret, None).is_ok());
}
