use super::testing::{KeyKind, TestCertificate};
use super::*;
use crate::clock::Timestamp;
use crate::crypto::agefile;
use crate::model::id::{Fingerprint, InstanceId};
use crate::secret::Secret;

const NOW: Timestamp = Timestamp(1_795_000_000_000_000);
/// Version 1, RSA, expired in 2001; made by `openssl ca`, as is the signature by its key.
const V1_PEM: &[u8] = include_bytes!("../../../tests/data/x509/v1-rsa-expired.pem");
const V1_SIGNATURE: &str = include_str!("../../../tests/data/x509/v1-rsa-expired.sig.hex");

fn v1() -> Vec<u8> {
    parse_certificate_pem(V1_PEM).unwrap().remove(0)
}

#[test]
fn a_version_1_certificate_reads_as_openssl_reads_it() {
    let info = inspect(&v1()).unwrap();
    assert_eq!(
        info.fingerprint.to_string(),
        "c03159492772d3e1b74150fbe67841b5d812b5b0fe76167a0ef815c60ec3a7a1"
    );
    assert_eq!(spki_fingerprint(&v1()).unwrap(), info.fingerprint);
    assert_eq!(
        hex::encode(info.sha256),
        "b36ac7995bd0bcb7baf532320be67d7ddea35e2a7208fca4ec8f0ae2a60fb981"
    );
    assert_eq!(info.subject, "CN=old.example");
    assert_eq!(info.not_before.to_string(), "2000-01-01T00:00:00Z");
    assert_eq!(info.not_after.to_string(), "2001-01-01T00:00:00Z");
}

#[test]
fn cut_off_or_longer_it_is_no_certificate() {
    let der = v1();
    for length in 0..der.len() {
        let error = spki_fingerprint(&der[..length]).unwrap_err();
        assert_eq!(error.field, Some("certificate"), "{length} bytes");
    }
    assert!(spki_fingerprint(&[&der[..], &[0]].concat()).is_err());
    assert!(spki_fingerprint(&vec![0x30; 100_000]).is_err());
}

#[test]
fn a_pem_file_gives_its_chain_in_order_or_says_what_is_wrong() {
    let (one, two) = (
        client_certificate("one").unwrap(),
        client_certificate("two").unwrap(),
    );
    let both = format!("a comment\n{}\n{}", one.cert_pem, two.cert_pem);
    let chain = parse_certificate_pem(both.as_bytes()).unwrap();
    let prints = chain.iter().map(|der| spki_fingerprint(der).unwrap());
    assert_eq!(
        prints.collect::<Vec<_>>(),
        [one.fingerprint, two.fingerprint]
    );
    let key = one.key_pem.expose().as_bytes();
    let broken = one.cert_pem.replace("MII", "M!I");
    let cut = &one.cert_pem.as_bytes()[..200];
    let too_many = one.cert_pem.repeat(17);
    for wrong in [
        b"".as_slice(),
        b"nothing",
        key,
        broken.as_bytes(),
        cut,
        too_many.as_bytes(),
        &vec![b'\n'; 300_000],
    ] {
        let error = parse_certificate_pem(wrong).unwrap_err();
        assert_eq!(error.field, Some("certificate"));
    }
}

#[test]
fn an_identity_loads_again_and_not_with_another_key() {
    let instance = InstanceId::new();
    let identity = InstanceIdentity::create(instance, NOW).unwrap();
    let info = inspect(identity.ca_der()).unwrap();
    assert_eq!(info.subject, format!("CN=Strongroom instance {instance}"));
    assert_eq!(info.fingerprint, identity.fingerprint());
    assert_eq!(info.not_before.to_string(), "2020-01-01T00:00:00Z");
    assert_eq!(info.not_after.to_string(), "2126-01-01T00:00:00Z");

    let pkcs8 = Secret::new(identity.pkcs8().expose().clone());
    let again = InstanceIdentity::load(pkcs8, identity.ca_der()).unwrap();
    assert_eq!(again.fingerprint(), identity.fingerprint());
    assert_eq!(again.ca_pem(), identity.ca_pem());

    let other = InstanceIdentity::create(instance, NOW).unwrap();
    assert_ne!(other.fingerprint(), identity.fingerprint());
    let pkcs8 = Secret::new(other.pkcs8().expose().clone());
    assert!(InstanceIdentity::load(pkcs8, identity.ca_der()).is_err());
}

#[test]
fn a_leaf_begins_an_hour_ago_and_carries_its_names() {
    let identity = InstanceIdentity::create(InstanceId::new(), NOW).unwrap();
    let extra = ["10.0.0.7", "*.example", "LOCALHOST", "strongroom.example"].map(str::to_owned);
    let leaf = identity
        .issue_leaf("strongroom.example", &extra, LEAF_DAYS, NOW)
        .unwrap();
    let chain = parse_certificate_pem(leaf.cert_pem.as_bytes()).unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[1], identity.ca_der());
    check_key_matches(&chain[0], &leaf.key_pem).unwrap();
    let info = inspect(&chain[0]).unwrap();
    assert_eq!(info.not_before, Timestamp(NOW.0 - Timestamp::HOUR));
    assert_eq!(
        info.not_after,
        info.not_before.plus(397 * Timestamp::DAY),
        "397 days in all, the most that browsers take"
    );
    assert_eq!(leaf.not_after, info.not_after);

    let (_, parsed) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    let names: Vec<String> = names
        .value
        .general_names
        .iter()
        .map(|name| match name {
            x509_parser::extensions::GeneralName::DNSName(name) => (*name).to_owned(),
            x509_parser::extensions::GeneralName::IPAddress(bytes) => hex::encode(bytes),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        names,
        [
            "strongroom.example",
            "0a000007",
            "*.example",
            "localhost",
            "7f000001",
            "00000000000000000000000000000001",
        ]
    );
}

#[test]
fn names_that_are_none_are_refused() {
    let identity = InstanceIdentity::create(InstanceId::new(), NOW).unwrap();
    for wrong in [
        "",
        "two words",
        "ünïcode.example",
        "a..b",
        "*",
        "*.*.example",
        "host:443",
        "a\0b",
    ] {
        let issued = identity.issue_leaf("strongroom.example", &[wrong.to_owned()], 1, NOW);
        let error = issued
            .err()
            .unwrap_or_else(|| panic!("`{wrong}` was taken"));
        assert_eq!(error.field, Some("names"), "{wrong}");
    }
    let long = format!("{}.{}.example", "a".repeat(60), "b".repeat(60));
    identity.issue_leaf(&long, &[], 1, NOW).unwrap();
    identity.issue_leaf("10.0.0.7", &[], 1, NOW).unwrap();
    assert!(
        identity
            .issue_leaf("strongroom.example", &vec!["a".to_owned(); 200], 1, NOW)
            .is_err()
    );
}

#[test]
fn a_signature_by_any_kind_of_key_verifies_with_its_certificate_alone() {
    let all = KeyKind::ALL.map(|kind| TestCertificate::key(kind).expired(1));
    for (at, mine) in all.iter().enumerate() {
        let signature = sign_with_key_pem(&mine.key_pem, b"message").unwrap();
        for (other_at, other) in all.iter().enumerate() {
            let verified = verify_by_certificate(&other.der, b"message", &signature);
            assert_eq!(verified.is_ok(), at == other_at, "{at} by {other_at}");
        }
        assert!(verify_by_certificate(&mine.der, b"massage", &signature).is_err());
        assert!(verify_by_certificate(&mine.der, b"message", b"").is_err());
    }
}

#[test]
fn a_signature_by_openssl_verifies() {
    let signature = hex::decode(V1_SIGNATURE.trim()).unwrap();
    verify_by_certificate(&v1(), b"a message signed by openssl", &signature).unwrap();
    let error = verify_by_certificate(&v1(), b"another message", &signature).unwrap_err();
    assert_eq!(error.code, "signature_wrong");
}

#[test]
fn a_key_is_the_certificates_or_both_are_named() {
    for kind in KeyKind::ALL {
        let (mine, other) = (TestCertificate::key(kind), TestCertificate::key(kind));
        let mine = mine.expired(3);
        check_key_matches(&mine.der, &mine.key_pem).unwrap();
        let error = check_key_matches(&mine.der, &other.key_pem).unwrap_err();
        for print in [mine.fingerprint(), other.fingerprint()] {
            assert!(error.public.contains(&print.to_string()), "{error}");
        }
    }
}

#[test]
fn a_key_file_without_a_usable_key_is_refused_without_showing_it() {
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\naHVudGVyMg==\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let broken = "-----BEGIN PRIVATE KEY-----\nhunter2!\n-----END PRIVATE KEY-----\n";
    for (pem, expected) in [
        ("", "no private key"),
        ("hunter2", "no private key"),
        (encrypted, "encrypted"),
        (broken, "no private key"),
        (
            "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n",
            "damaged",
        ),
    ] {
        let error = sign_with_key_pem(&Secret::new(pem.to_owned()), b"").unwrap_err();
        assert!(error.public.contains(expected), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[test]
fn a_recipient_statement_is_bound_to_client_and_recipient() {
    let (_, recipient) = agefile::generate_identity();
    let mine = client_certificate("laptop").unwrap();
    let statement = recipient_statement(mine.fingerprint, &recipient);
    let signature = sign_with_key_pem(&mine.key_pem, &statement).unwrap();
    let der = parse_certificate_pem(mine.cert_pem.as_bytes())
        .unwrap()
        .remove(0);
    verify_by_certificate(&der, &statement, &signature).unwrap();
    let others = [
        recipient_statement(mine.fingerprint, &agefile::generate_identity().1),
        recipient_statement(Fingerprint([0; 32]), &recipient),
    ];
    for other in others {
        assert!(verify_by_certificate(&der, &other, &signature).is_err());
    }
    assert_eq!(
        recipient_statement(Fingerprint([0xab; 32]), "age1x"),
        format!(
            "strongroom-recipient/v1\nclient {}\nrecipient age1x\n",
            "ab".repeat(32)
        )
        .as_bytes()
    );
}
