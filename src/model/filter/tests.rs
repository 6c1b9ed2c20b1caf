use super::*;
use crate::model::audit::ChainedEvent;
use crate::model::client::{Client, ClientState};
use crate::model::deposit::{Deposit, Encryption};
use crate::model::id::{ClientId, DepositId, Fingerprint, OrgId, TokenId, UserId};
use crate::model::org::{Org, Registration};
use crate::model::quota::Quota;
use crate::model::role::{Grant, Role};
use crate::model::testing::Random;
use crate::model::token::{Scope, Token};
use crate::model::user::User;

fn now() -> Timestamp {
    "2026-11-22T08:00:00Z".parse().unwrap()
}

fn deposit() -> Deposit {
    Deposit {
        id: DepositId::new(),
        org: "acme".parse().unwrap(),
        name: "db-key".parse().unwrap(),
        owner: Some(Fingerprint([0xab; 32])),
        version: 3,
        size: 2_000,
        encryption: Encryption::Age,
        content_type: "text/plain".to_owned(),
        description: "it's the ΣΑΣ key, Straße 7".to_owned(),
        labels: [
            ("env".parse().unwrap(), "prod".parse().unwrap()),
            ("a.b/c".parse().unwrap(), "".parse().unwrap()),
        ]
        .into(),
        created: "2026-11-20T08:00:00Z".parse().unwrap(),
        modified: "2026-11-22T07:59:59.999999Z".parse().unwrap(),
        deleted: None,
        not_before: Some(now()),
        expires: Some(now().plus(Timestamp::DAY)),
        max_retrievals: Some(3),
        retrievals_left: Some(2),
    }
}

fn org() -> Org {
    Org {
        id: OrgId::new(),
        name: "acme".parse().unwrap(),
        contacts: vec!["a@x".parse().unwrap(), "root@kts01".parse().unwrap()],
        registration: Registration::Code,
        recovery_recipient: Some("age1".to_owned()),
        created: now(),
        expires: Some(Timestamp(1)),
        clients: 1,
        deposits: 2,
        bytes: 3,
        quota: Quota::default(),
    }
}

fn user() -> User {
    User {
        id: UserId::new(),
        name: "ops@example.com".parse().unwrap(),
        grants: vec![
            Grant {
                role: Role::Auditor,
                org: None,
            },
            Grant {
                role: Role::KeyOperator,
                org: Some("acme".parse().unwrap()),
            },
        ],
        created: now(),
        disabled: false,
        second_factor: false,
    }
}

fn parse<T: Filterable>(texts: &[&str]) -> Result<Filter<T>> {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    Filter::parse(&texts, now())
}

fn fits<T: Filterable>(row: &T, text: &str) -> bool {
    parse(&[text]).unwrap().matches(row)
}

fn why(text: &str) -> String {
    let error = parse::<Deposit>(&[text]).unwrap_err();
    assert_eq!(error.field, Some("filter"));
    error.public
}

#[test]
fn every_operator_decides_as_it_says() {
    let row = deposit();
    for yes in [
        "name=db-key",
        "name = 'db-key'",
        "name != DB-KEY",
        "name ~ 'B-K'",
        "name ^ 'db-'",
        "name in (x, db-key)",
        "name not in (x, y)",
        "NOT name = x AND size = 2000",
        "size<2001 and size<=2000 and size>=2000 and size>1999",
        "size in (1, 2000)",
        "version != 2",
        "encryption = AGE",
        "encryption in (none, age)",
        "created < -1d and created >= -2d and created > -1w",
        "modified > -1s and modified < +1m",
        "created = 2026-11-20T09:00:00+01:00",
        "created in ('2026-11-20T08:00:00Z')",
        "label.env = prod",
        "label.env ^ p and label.env ~ RO",
        "label.none != prod",
        "label.a.b/c = ''",
        "label.none = '' and deleted = '' and not owner = ''",
        "description ~ 'it''s'",
        "description ~ 'σας' and description ~ 'ΣΑ' and description ~ strasse or description ~ 'STRAße'",
        "description != ''",
        "name = x or name = db-key and size = 2000",
        "not (name = x or name = y)",
        "not not name = db-key",
    ] {
        assert!(fits(&row, yes), "{yes}");
    }
    for no in [
        "name = DB-KEY",
        "name ^ DB",
        "name ^ b-key",
        "size > 2000",
        "label.env != prod",
        "label.none ~ a",
        "label.none in (a, b)",
        "deleted < +1d",
        "deleted > -9999d",
        "deleted != ''",
        "(name = x or name = db-key) and size = 1",
        "not name = db-key",
        "label.a.b/c != ''",
    ] {
        assert!(!fits(&row, no), "{no}");
    }
}

#[test]
fn a_field_with_several_texts_fits_if_one_does() {
    let row = org();
    assert!(fits(&row, "contacts = a@x and contacts = root@kts01"));
    assert!(fits(&row, "contacts ^ root and contacts ~ KTS"));
    assert!(!fits(&row, "contacts != a@x"));
    assert!(!fits(&row, "contacts = ''"));
    assert!(fits(
        &user(),
        "role = auditor and org = acme and disabled = No"
    ));
    assert!(!fits(&user(), "role = superuser"));
    let mut bare = user();
    bare.grants.clear();
    assert!(fits(
        &bare,
        "role != auditor and org = '' and disabled != TRUE"
    ));
}

#[test]
fn several_filters_must_all_hold_and_none_is_everything() {
    let row = deposit();
    assert!(parse(&[]).unwrap().matches(&row));
    assert!(parse::<Deposit>(&[]).unwrap().is_empty());
    assert!(
        !parse(&["name = x or size = 2000", "version = 4"])
            .unwrap()
            .matches(&row)
    );
    assert!(
        parse(&["name = x or size = 2000", "version = 3"])
            .unwrap()
            .matches(&row)
    );
    assert!(why("").contains("blank"));
    assert!(why(" \t").contains("blank"));
}

#[test]
fn errors_name_the_place_the_field_and_the_rule() {
    for (text, parts) in [
        (
            "nmae = x",
            &[
                "character 1",
                "`nmae`",
                "id, org, name",
                "label.KEY",
                "deleted",
            ][..],
        ),
        ("name = x and label = y", &["character 14", "label.KEY"]),
        ("label. = y", &["label.KEY"]),
        ("name.x = y", &["no field `name.x`"]),
        (
            "size ~ 3",
            &["character 6", "`~`", "`size`", "whole number"],
        ),
        (
            "size = big",
            &["character 8", "`big`", "`size`", "whole number"],
        ),
        ("size = ''", &["`size`", "whole number"]),
        ("size = 9223372036854775808", &["`size`"]),
        ("name < x", &["`name`", "= != ~ ^ or in"]),
        ("created ~ 2026", &["`created`", "-7d"]),
        ("created > yesterday", &["`yesterday`", "`created`"]),
        ("created > -7y", &["`created`"]),
        ("created > -d", &["`created`"]),
        ("created > -99999999999999d", &["`created`"]),
        ("created > 7d", &["`created`"]),
        ("created > ''", &["`created`", "''"]),
        ("name ~ ''", &["`name`", "''"]),
        ("encryption = gpg", &["`gpg`", "none, age"]),
        ("encryption ^ a", &["none, age"]),
        ("name", &["operator", "the end"]),
        ("name x", &["operator", "`x`"]),
        ("name =", &["a value of `name`", "the end"]),
        ("name = and", &["quotes"]),
        ("name = x size = 1", &["`and`, `or` or the end", "`size`"]),
        ("(name = x", &["`)`"]),
        ("name = x)", &["found `)`"]),
        ("name in x", &["`(`"]),
        ("name in ()", &["a value of `name`"]),
        ("name in (x", &["`,` or `)`"]),
        ("name not x", &["`in` after `not`"]),
        ("name = 'x", &["character 8", "never closed"]),
        ("name = \"x\"", &["single quotes"]),
        ("name == x", &["write `=`"]),
        ("name <> x", &["write `!=`"]),
        ("!name", &["`not`"]),
        ("name = x\u{1}", &["U+0001"]),
        ("'name' = x", &["a field"]),
        ("or", &["a field"]),
    ] {
        let why = why(text);
        for part in parts {
            assert!(why.contains(part), "{text}: {why} lacks {part}");
        }
    }
    let error = parse::<User>(&["name = a", "nmae = b"]).unwrap_err().public;
    assert!(error.starts_with("in filter 2: "), "{error}");
    let error = parse::<User>(&["disabled = maybe"]).unwrap_err().public;
    assert!(
        error.contains("`disabled`") && error.contains("true or false"),
        "{error}"
    );
    let error = parse::<User>(&["disabled in (true)"]).unwrap_err().public;
    assert!(
        error.contains("`disabled`") && error.contains("= or !="),
        "{error}"
    );
    assert!(parse::<User>(&["disabled < true"]).is_err());
}

#[test]
fn caps_hold_at_their_edges() {
    let fill = |length: usize| format!("name = {}", "x".repeat(length - 7));
    assert!(parse::<Deposit>(&[&fill(MAX_TEXT)]).is_ok());
    assert!(why(&fill(MAX_TEXT + 1)).contains("4097 bytes"));
    let half = fill(MAX_TEXT / 2);
    assert!(parse::<Deposit>(&[&half, &half]).is_ok());
    assert!(parse::<Deposit>(&[&half, &half, "size=1"]).is_err());

    let nested = |depth| format!("{}size=1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(parse::<Deposit>(&[&nested(MAX_NESTING)]).is_ok());
    assert!(why(&nested(MAX_NESTING + 1)).contains("within each other"));
    assert!(
        why(&format!("{}size=1", "not ".repeat(MAX_NESTING + 1))).contains("within each other")
    );
    assert!(why(&"(".repeat(MAX_TEXT)).contains("within each other"));
    let beside = ["(size=1)"; 40].join(" and ");
    assert!(parse::<Deposit>(&[&beside]).is_ok());

    let list = |count: usize| format!("size in ({})", vec!["1"; count].join(","));
    assert!(parse::<Deposit>(&[&list(MAX_TERMS)]).is_ok());
    assert!(why(&list(MAX_TERMS + 1)).contains("256"));
    assert!(parse::<Deposit>(&[&list(MAX_TERMS - 1), "size=1"]).is_ok());
    assert!(parse::<Deposit>(&[&list(MAX_TERMS), "size=1"]).is_err());
}

#[test]
fn indexes_get_what_every_match_fulfils() {
    let filter = parse::<Deposit>(&[
        "(name ^ 'db-' and label.env = prod)",
        "encryption = AGE and created > 2026-11-20T00:00:00Z and created >= -7d and created <= -1d and created < +1d",
    ])
    .unwrap();
    assert_eq!(filter.prefix("name"), Some("db-"));
    assert_eq!(filter.equals("name"), None);
    assert_eq!(filter.equals("encryption"), Some("age"));
    assert_eq!(filter.label_equals(), Some(("env", "prod")));
    let after = filter.after("created").unwrap().to_string();
    assert_eq!(after, "2026-11-20T00:00:00.000001Z");
    assert_eq!(filter.before("created"), Some(now().plus(-Timestamp::DAY)));
    assert_eq!(filter.after("modified"), None);
    let open = parse::<Deposit>(&["created < -1d and modified > -1d"]).unwrap();
    assert_eq!(
        open.before("created"),
        Some(now().plus(-Timestamp::DAY - 1))
    );
    assert_eq!(
        (open.after("created"), open.before("modified")),
        (None, None)
    );
    assert!(filter.is_only_indexed(&["name", "label", "encryption", "created"]));
    assert!(!filter.is_only_indexed(&["name", "label", "created"]));

    let exact = parse::<Deposit>(&["name in (a) and created = -1d"]).unwrap();
    assert_eq!(exact.equals("name"), Some("a"));
    assert_eq!(exact.after("created"), exact.before("created"));
    assert!(exact.is_only_indexed(&["name", "created"]));
    assert!(parse::<Deposit>(&[]).unwrap().is_only_indexed(&[]));
}

#[test]
fn indexes_get_nothing_that_a_match_may_lack() {
    for text in [
        "name = a or name = b",
        "not name = a",
        "name != a",
        "name ~ a",
        "name in (a, b)",
        "name = ''",
        "not (name = a and size = 1)",
    ] {
        let filter = parse::<Deposit>(&[text]).unwrap();
        assert_eq!(filter.equals("name"), None, "{text}");
        assert_eq!(filter.prefix("name"), None, "{text}");
        assert!(!filter.is_only_indexed(&["name", "size"]), "{text}");
    }
    for twice in [
        "name = a and name = b",
        "name ^ a and name = ab",
        "label.a = 1 and label.b = 2",
        "created = -1d or created = -2d",
        "created in (-1d, -2d)",
        "created = ''",
        "created != -1d",
        "size = 1",
    ] {
        let filter = parse::<Deposit>(&[twice]).unwrap();
        assert!(
            !filter.is_only_indexed(&["name", "label", "created", "size"]),
            "{twice}"
        );
        assert_eq!(filter.after("created"), None, "{twice}");
    }
}

/// Every field answers for a row that holds everything, and every word of a type is a field's word.
#[test]
fn every_field_of_every_noun_answers() {
    fn all_answer<T: Filterable>(row: &T) {
        for field in T::FIELDS {
            let key = (field.kind == FieldKind::Map).then_some("env");
            let value = row.value(field.name, key);
            let right = match field.kind {
                FieldKind::Text | FieldKind::Map => {
                    matches!(value, Value::Text(_) | Value::Texts(_))
                }
                FieldKind::Number => matches!(value, Value::Number(_)),
                FieldKind::Time => matches!(value, Value::Time(_)),
                FieldKind::Bool => matches!(value, Value::Bool(_)),
                FieldKind::Word(words) => match &value {
                    Value::Text(text) => words.contains(&text.as_ref()),
                    Value::Texts(texts) => texts.iter().all(|text| words.contains(&text.as_ref())),
                    _ => false,
                },
            };
            assert!(right, "{}: {value:?}", field.name);
            let names = T::FIELDS.iter().filter(|other| other.name == field.name);
            assert_eq!(names.count(), 1, "{}", field.name);
        }
        assert_eq!(row.value("no such field", None), Value::Absent);
    }
    let mut row = deposit();
    row.deleted = Some(now());
    all_answer(&row);
    row.encryption = Encryption::None;
    all_answer(&row);
    let mut row = org();
    all_answer(&row);
    row.registration = Registration::Open;
    all_answer(&row);
    for state in ClientState::ALL {
        all_answer(&Client {
            id: ClientId::new(),
            org: "acme".parse().unwrap(),
            fingerprint: Fingerprint([1; 32]),
            state,
            description: String::new(),
            age_recipient: Some("age1".to_owned()),
            created: now(),
            pending_until: Some(now()),
            registered_from: "::1".to_owned(),
            reason: Some("no".to_owned()),
            deposits: 2,
            bytes: 3,
            quota: Quota::default(),
        });
    }
    let mut row = user();
    row.grants = Role::ALL
        .map(|role| Grant { role, org: None })
        .into_iter()
        .collect();
    all_answer(&row);
    all_answer(&Token {
        id: TokenId::new(),
        user: "ops".parse().unwrap(),
        label: "ci".to_owned(),
        scopes: Scope::ALL.into(),
        created: now(),
        expires: Some(now()),
    });
    for event in crate::model::audit::tests::samples() {
        all_answer::<ChainedEvent>(&event);
        assert!(fits(&event, "number > 0 and outcome in (done, refused)"));
    }
}

const VALID: &[&str] = &[
    "name ^ 'db-' and label.env = prod",
    "(size > 65536 or encryption = none) and deleted = ''",
    "not (name in (a, 'b c', 'it''s') or created < -7d) and owner not in ('', x)",
    "not not description ~ 'ÄÖ ß' or modified >= 2026-11-22T08:00:00.123456+01:00 and version != 3",
    "((name = a or name = b) and (name = c or (name = d and name = e)))",
    "label.a.b/c != '' and size <= -5 and encryption not in (AGE, none)",
];

#[test]
fn a_printed_filter_parses_to_the_same() {
    for texts in VALID.windows(2).chain(VALID.chunks(1)) {
        let filter = parse::<Deposit>(texts).unwrap();
        let printed = filter.to_string();
        assert_eq!(parse::<Deposit>(&[&printed]).unwrap(), filter, "{printed}");
    }
}

/// Random texts, and legal ones with random changes: an error or a filter that prints and parses to
/// the same, never a panic.
#[test]
fn no_text_panics() {
    const PARTS: &[&str] = &[
        "name",
        "size",
        "created",
        "label.x",
        "label",
        "encryption",
        "deleted",
        "and",
        "or",
        "not",
        "in",
        "(",
        ")",
        ",",
        "=",
        "!=",
        "~",
        "^",
        "<",
        ">=",
        "'",
        "''",
        "'a'",
        "-7d",
        "+1w",
        "-",
        "7",
        "age",
        " ",
        "é",
        "𝄞",
        "\0",
        "\"",
        "2026-11-22T08:00:00Z",
        "0000-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "İ",
        "!",
    ];
    let mut random = Random::new(0x5eed_f117);
    let mut legal = 0;
    for round in 0..20_000 {
        let text = match round % 3 {
            0 => String::from_utf8_lossy(&random.bytes(60)).into_owned(),
            1 => (0..random.below(14))
                .map(|_| format!("{} ", PARTS[random.below(PARTS.len())]))
                .collect(),
            _ => {
                let valid = VALID[random.below(VALID.len())].as_bytes();
                String::from_utf8_lossy(&random.mutated(valid)).into_owned()
            }
        };
        if let Ok(filter) = parse::<Deposit>(&[&text]) {
            legal += 1;
            filter.matches(&deposit());
            let printed = filter.to_string();
            assert_eq!(
                parse::<Deposit>(&[&printed]).unwrap(),
                filter,
                "{text:?} {printed:?}"
            );
        }
    }
    assert!(legal > 200, "only {legal} texts were legal");
}
