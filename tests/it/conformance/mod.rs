//! The same commands, at random but repeatable, run against the real store and against a model in
//! memory: every answer, every refusal and what is there at the end must agree.

mod model;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use strongroom::clock::Timestamp;
use strongroom::crypto::chain::Tagger;
use strongroom::error::Result;
use strongroom::model::audit::{Actor, Event, Object, Outcome as Went};
use strongroom::model::client::{Client, ClientState};
use strongroom::model::deposit::{Encryption, SetPolicy};
use strongroom::model::filter::Filter;
use strongroom::model::id::{ClientId, DepositId, Fingerprint, InstanceId, OrgId, RequestId};
use strongroom::model::org::{Org, Registration};
use strongroom::model::quota::{Quota, SetQuota};
use strongroom::secret::{Arena, Key, Locked, Secret};
use strongroom::store::{self, Body, Change, Expected, Keys, Opened, Start, Store, Which};

use crate::harness::{Dice, Folder, seed};
use model::{Command, Held, Model, Once, Outcome, PutDeposit};

const COMMANDS: u64 = 800;
const BEGIN: i64 = 1_795_000_000 * Timestamp::SECOND;

fn key(byte: u8) -> Key {
    Secret::new([byte; 32])
}

fn locked(byte: u8) -> Locked {
    Arena::default().keep(key(byte))
}

/// Opens the store in a folder, filling it if it is new.
fn open(folder: &Path, create: bool, failed: &Arc<AtomicBool>) -> Store {
    let mut opened = Opened::open(folder, &key(1), create, Timestamp(BEGIN)).unwrap();
    if create {
        let first = store::First {
            instance: InstanceId::new(),
            seal_generation: 1,
            keys: Vec::new(),
            now: Timestamp(BEGIN),
        };
        opened.begin(&first).unwrap();
    }
    assert_eq!(opened.integrity().unwrap(), Vec::<String>::new());
    let keys = Keys {
        changes: Tagger::new(&key(2)),
        access: Tagger::new(&key(2)),
        answers: key(3),
    };
    let failed = Arc::clone(failed);
    let fail = move |_: &str| failed.store(true, Ordering::SeqCst);
    opened.start(keys, fail).unwrap()
}

fn change(once: Option<&Once>, now: Timestamp) -> Change {
    let text = |text: &str| text.to_owned();
    let event = Event {
        time: now,
        request: RequestId::new(),
        actor: Actor {
            kind: text("local"),
            name: text("0"),
            source: text("socket"),
        },
        action: text("test"),
        object: Object {
            kind: text("test"),
            id: String::new(),
            name: String::new(),
        },
        outcome: Went::Done,
        detail: String::new(),
        reason: String::new(),
    };
    let once = once.map(|(key, hash)| store::Once {
        caller: text("test"),
        key: key.clone(),
        request_hash: *hash,
    });
    Change { event, once }
}

fn outcome<T: Serialize>(result: Result<T>) -> Outcome {
    match result {
        Ok(value) => Ok(json!(value)),
        Err(error) => Err(error.code.to_owned()),
    }
}

/// One command against the real store.
async fn run(store: &Store, command: &Command, once: Option<&Once>, now: Timestamp) -> Outcome {
    let change = change(once, now);
    match command.clone() {
        Command::AddOrg(org) => {
            let key = store::WrappedKey {
                name: org.id.to_string(),
                version: 1,
                wrapped: vec![7; 60],
            };
            let auth_code = (org.registration == Registration::Code).then(|| vec![1]);
            let new = store::NewOrg {
                org,
                auth_code,
                key,
            };
            outcome(store.add_org(change, new).await)
        }
        Command::SetAuth(name, code) => {
            let code = code.then(|| vec![2]);
            outcome(store.set_org_auth(change, name, code).await)
        }
        Command::AddClient(org, client) => {
            let new = store::NewClient {
                client,
                org,
                certificate: vec![3],
                recipient_proof: None,
            };
            outcome(store.add_client(change, new).await)
        }
        Command::SetState(key, from, to) => outcome(
            store
                .set_client_state(change, key, from, to, None, now)
                .await,
        ),
        Command::RemoveClient(key) => outcome(store.remove_client(change, key).await),
        Command::SetOrgQuota(name, set) => outcome(store.set_org_quota(change, name, set).await),
        Command::SetClientQuota(key, set) => {
            outcome(store.set_client_quota(change, key, set).await)
        }
        Command::Put(put) => outcome(store.put_deposit(change, for_store(*put, now)).await),
        Command::Edit(id, expect, description, labels, policy) => {
            let edit = store::DepositEdit {
                description,
                labels,
                policy,
            };
            outcome(
                store
                    .edit_deposit(change, Which::Id(id), expect, edit, now)
                    .await,
            )
        }
        Command::Retrieve(id) => outcome(store.take_retrieval(change, id, 1, now).await),
        Command::Grant(id, more) => {
            outcome(store.grant_retrievals(change, Which::Id(id), more).await)
        }
        Command::Remove(id, expect) => outcome(
            store
                .remove_deposit(change, Which::Id(id), expect, now)
                .await,
        ),
        Command::Undelete(id) => outcome(store.undelete_deposit(change, Which::Id(id)).await),
        Command::Purge(id) => outcome(store.purge_deposit(change, Which::Id(id)).await),
    }
}

fn for_store(put: PutDeposit, now: Timestamp) -> store::Put {
    store::Put {
        id: put.id,
        org: put.org,
        name: put.name,
        owner: put.owner,
        created_by: "test".to_owned(),
        expect: put.expect,
        encryption: Encryption::None,
        content_type: put.content_type,
        description: put.description,
        labels: put.labels,
        policy: put.policy,
        back: None,
        body: Body {
            bytes: Secret::new(put.body),
            key: locked(4),
            key_version: 1,
        },
        now,
    }
}

fn pick<T: Clone>(dice: &mut Dice, from: impl Iterator<Item = T>) -> Option<T> {
    let all: Vec<T> = from.collect();
    let at = dice.below(all.len().max(1) as u64);
    all.get(usize::try_from(at).unwrap()).cloned()
}

/// A command that makes sense now, or nearly.
fn choose(dice: &mut Dice, model: &Model, now: Timestamp) -> Command {
    let fingerprint = Fingerprint([u8::try_from(dice.below(6)).unwrap(); 32]);
    let org = pick(dice, model.orgs.values());
    let kind = if org.is_none() { 0 } else { dice.below(44) };
    let Some(org) = org.filter(|_| kind > 0) else {
        return Command::AddOrg(new_org(dice, now));
    };
    let known = pick(dice, model.deposits.keys().copied());
    let id = known
        .filter(|_| dice.below(15) > 0)
        .unwrap_or_else(DepositId::new);
    let version = model.deposits.get(&id).map_or(1, |it| it.deposit.version);
    let expect = match dice.below(8) {
        0 => Expected::Absent,
        1 => Expected::Present,
        2 => Expected::Version(version),
        3 => Expected::Version(version + 1),
        _ => Expected::Anything,
    };
    match kind {
        1 => Command::SetAuth(
            format!("org-{}", dice.below(4)).parse().unwrap(),
            dice.below(2) == 0,
        ),
        2..5 => Command::AddClient(org.id, new_client(dice, org, fingerprint, now)),
        5..8 => {
            use ClientState::{Active, Denied, Disabled, Pending};
            let (from, to): (&[ClientState], ClientState) = match dice.below(4) {
                0 => (&[Pending], Active),
                1 => (&[Pending], Denied),
                2 => (&[Active], Disabled),
                _ => (&[Disabled], Active),
            };
            Command::SetState(fingerprint, from, to)
        }
        8 => Command::RemoveClient(fingerprint),
        9..13 => Command::Edit(
            id,
            expect,
            (dice.below(2) == 0).then(|| format!("text {}", dice.below(9))),
            labels(dice),
            policy(dice, now),
        ),
        13..16 => Command::Remove(id, expect),
        16..18 => Command::Undelete(id),
        18 => Command::Purge(id),
        30..36 => Command::Retrieve(id),
        36..38 => Command::Grant(id, dice.below(4)),
        38..41 => Command::SetOrgQuota(
            format!("org-{}", dice.below(4)).parse().unwrap(),
            new_quota(dice),
        ),
        41..44 => Command::SetClientQuota(fingerprint, new_quota(dice)),
        _ => Command::Put(Box::new(new_put(dice, model, org.id, expect, now))),
    }
}

fn new_org(dice: &mut Dice, now: Timestamp) -> Org {
    Org {
        id: OrgId::new(),
        name: format!("org-{}", dice.below(4)).parse().unwrap(),
        contacts: vec!["ops@example.com".parse().unwrap()],
        registration: Registration::Code,
        recovery_recipient: None,
        created: now,
        expires: None,
        clients: 0,
        deposits: 0,
        bytes: 0,
        quota: Quota::default(),
    }
}

/// Tight enough to be met, and mostly taken away again.
fn new_quota(dice: &mut Dice) -> SetQuota {
    let mut limit = |most: u64| match dice.below(4) {
        0 => Some(Some(dice.below(most))),
        1 => None,
        _ => Some(None),
    };
    SetQuota {
        objects: limit(8),
        bytes: limit(900_000),
        requests: limit(9).map(|it| it.map(|it| u32::try_from(it).unwrap() + 1)),
    }
}

fn new_client(dice: &mut Dice, org: &Org, fingerprint: Fingerprint, now: Timestamp) -> Client {
    let pending = dice.below(2) == 0;
    Client {
        id: ClientId::new(),
        org: org.name.clone(),
        fingerprint,
        state: if pending {
            ClientState::Pending
        } else {
            ClientState::Active
        },
        description: "a machine".to_owned(),
        age_recipient: None,
        created: now,
        pending_until: pending.then(|| now.plus(i64::try_from(dice.below(40)).unwrap() * 1_000)),
        registered_from: "127.0.0.1".to_owned(),
        reason: None,
        deposits: 0,
        bytes: 0,
        quota: Quota::default(),
    }
}

fn new_put(
    dice: &mut Dice,
    model: &Model,
    org: OrgId,
    expect: Expected,
    now: Timestamp,
) -> PutDeposit {
    let length = match dice.below(12) {
        0 => 262_144 + dice.below(3),
        1 => 600_000,
        _ => dice.below(300),
    };
    // A client owns deposits of its own organization alone.
    let clients = model.clients.values();
    let own = clients.filter(|client| client.org == model.orgs[&org].name);
    let owner = pick(dice, own.map(|client| client.id));
    PutDeposit {
        id: DepositId::new(),
        org,
        name: format!("d.{}", dice.below(12)).parse().unwrap(),
        owner: owner.filter(|_| dice.below(3) > 0),
        expect,
        content_type: (dice.below(3) == 0).then(|| "text/plain".to_owned()),
        description: (dice.below(3) == 0).then(|| format!("put {}", dice.below(9))),
        labels: labels(dice),
        policy: policy(dice, now),
        body: dice.bytes(usize::try_from(length).unwrap()),
    }
}

/// Mostly none; times not far from now, and numbers that may be out of range.
fn policy(dice: &mut Dice, now: Timestamp) -> SetPolicy {
    let time = |dice: &mut Dice| match dice.below(9) {
        0 => Some(None),
        1 => Some(Some(
            now.plus((i64::try_from(dice.below(30)).unwrap() - 6) * 1_000),
        )),
        _ => None,
    };
    SetPolicy {
        not_before: time(dice),
        expires: time(dice),
        max_retrievals: match dice.below(6) {
            0 => Some(None),
            1 => Some(Some(dice.below(4))),
            _ => None,
        },
    }
}

fn labels(dice: &mut Dice) -> Option<strongroom::model::deposit::Labels> {
    (dice.below(2) == 0).then(|| {
        (0..dice.below(3))
            .map(|_| {
                let label = format!("k{}", dice.below(3)).parse().unwrap();
                (label, format!("v{}", dice.below(2)).parse().unwrap())
            })
            .collect()
    })
}

/// Some commands carry an idempotency key, and some of those are repeated, with the same request or
/// with another one.
fn once(dice: &mut Dice, number: u64) -> Option<Once> {
    (dice.below(2) == 0).then(|| (format!("key-{number}"), [0; 32]))
}

#[test]
fn the_store_does_what_the_model_does() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for round in 0..2 {
        runtime.block_on(compare(seed().wrapping_add(round)));
    }
}

async fn compare(seed: u64) {
    let folder = Folder::new();
    let failed = Arc::new(AtomicBool::new(false));
    let mut store = open(folder.path(), true, &failed);
    let mut model = Model::default();
    let mut dice = Dice::new(seed);
    let (mut refused, mut repeated, mut full) = (0, 0, 0);
    let mut keyed: Vec<(Command, Once)> = Vec::new();
    for number in 0..COMMANDS {
        let now = Timestamp(BEGIN + i64::try_from(number).unwrap() * 1_000);
        let (command, once) = match pick(&mut dice, keyed.iter().cloned()) {
            Some((command, once)) if dice.below(8) == 0 => {
                repeated += 1;
                let hash = [u8::from(dice.below(4) == 0); 32];
                (command, Some((once.0, hash)))
            }
            _ => {
                let command = choose(&mut dice, &model, now);
                let once = once(&mut dice, number);
                keyed.extend(once.clone().map(|once| (command.clone(), once)));
                (command, once)
            }
        };
        let expected = model.apply(&command, once.as_ref(), now);
        let found = run(&store, &command, once.as_ref(), now).await;
        refused += u32::from(expected.is_err());
        full += u32::from(expected.as_ref().is_err_and(|it| it.starts_with("quota_")));
        assert_eq!(
            found, expected,
            "seed {seed}, command {number}: {command:?} {once:?}"
        );
        if number % 100 == 99 {
            same(&store, &model, now).await;
        }
        if number == COMMANDS / 2 {
            drop(store);
            store = open(folder.path(), false, &failed);
        }
    }
    println!(
        "seed {seed}: {refused} refused, {full} by a quota, {repeated} repeated, {} events",
        model.events
    );
    assert!(refused > 50 && full > 0 && repeated > 20 && model.deposits.len() > 5);
    assert!(!failed.load(Ordering::SeqCst));
    drop(store);
    same(
        &open(folder.path(), false, &failed),
        &model,
        Timestamp(BEGIN),
    )
    .await;
}

/// All that can be listed and read agrees.
async fn same(store: &Store, model: &Model, now: Timestamp) {
    assert_eq!(store.changes_head().unwrap().number, model.events);
    let orgs = store.orgs(Start::Beginning, Filter::parse(&[], now).unwrap(), 99);
    let mut expected: Vec<&Org> = model.orgs.values().collect();
    expected.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    assert_eq!(json!(orgs.await.unwrap().items), json!(expected));
    let clients = store.clients(None, Start::Beginning, Filter::parse(&[], now).unwrap(), 99);
    let expected: Vec<&Client> = model.clients.values().collect();
    assert_eq!(json!(clients.await.unwrap().items), json!(expected));

    let all = store.deposits_by_id(Start::Beginning, Filter::parse(&[], now).unwrap(), 999);
    let expected: Vec<Value> = model
        .deposits
        .values()
        .map(|held| json!(model.deposit(held)))
        .collect();
    assert_eq!(json!(all.await.unwrap().items), json!(expected));
    for org in model.orgs.keys() {
        for filter in [
            "",
            "name = d.3",
            "label.k1 = v0",
            "label.k1 = v1 and version > 1",
        ] {
            named(store, model, *org, filter, now).await;
        }
    }
    for held in model.deposits.values() {
        bodies(store, held);
    }
}

/// Page by page, by name, with a filter.
async fn named(store: &Store, model: &Model, org: OrgId, filter: &str, now: Timestamp) {
    let texts: Vec<String> = (!filter.is_empty())
        .then(|| filter.to_owned())
        .into_iter()
        .collect();
    let filter = || Filter::parse(&texts, now).unwrap();
    let mut held: Vec<&Held> = model.deposits.values().filter(|it| it.org == org).collect();
    held.sort_by(|a, b| a.deposit.name.as_str().cmp(b.deposit.name.as_str()));
    let expected: Vec<Value> = held
        .into_iter()
        .map(|it| model.deposit(it))
        .filter(|deposit| filter().matches(deposit))
        .map(|deposit| json!(deposit))
        .collect();
    let (mut found, mut start) = (Vec::new(), Start::Beginning);
    loop {
        let rows = store
            .deposits_by_name(org, None, start, filter(), 3)
            .await
            .unwrap();
        found.extend(rows.items.iter().map(|deposit| json!(deposit)));
        match rows.more {
            Some(last) => start = Start::After(last.name.to_string()),
            None => break,
        }
    }
    assert_eq!(found, expected, "{texts:?}");
}

fn bodies(store: &Store, held: &Held) {
    let id = held.deposit.id;
    let versions = store.deposit_versions(id).unwrap();
    assert_eq!(versions.len(), held.bodies.len());
    for (number, body) in (1..).zip(&held.bodies) {
        let sealed = store.sealed_deposit(&Which::Id(id), Some(number)).unwrap();
        let opened = store.open_deposit(&sealed, |_| Ok(locked(4))).unwrap();
        assert!(opened.as_ref() == body, "version {number} of {id}");
    }
}

#[test]
fn a_put_that_is_given_up_leaves_no_parts() {
    let folder = Folder::new();
    let failed = Arc::new(AtomicBool::new(false));
    let store = open(folder.path(), true, &failed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let org = new_org(&mut Dice::new(1), Timestamp(BEGIN));
    let put = |body: usize| PutDeposit {
        id: DepositId::new(),
        org: org.id,
        name: "a".parse().unwrap(),
        owner: None,
        expect: Expected::Anything,
        content_type: None,
        description: None,
        labels: None,
        policy: SetPolicy::default(),
        body: vec![1; body],
    };
    let now = Timestamp(BEGIN);
    runtime.block_on(async {
        run(&store, &Command::AddOrg(org.clone()), None, now)
            .await
            .unwrap();
        let mut swept = 0;
        for patience in 0..20 {
            let given_up = store.put_deposit(change(None, now), for_store(put(6 << 20), now));
            let _ = tokio::time::timeout(Duration::from_millis(patience), given_up).await;
            swept += store.drop_loose_parts().await.unwrap();
        }
        assert!(swept > 0, "every put ended before it could be given up");
        // One that a sweep meets while it is at work is left alone.
        let command = Command::Put(Box::new(put(4 << 20)));
        let (stored, _) = tokio::join!(run(&store, &command, None, now), async {
            for _ in 0..50 {
                store.drop_loose_parts().await.unwrap();
            }
        });
        stored.unwrap();
        let sealed = store
            .sealed_deposit(&Which::Name(org.id, "a".parse().unwrap()), None)
            .unwrap();
        let body = store.open_deposit(&sealed, |_| Ok(locked(4))).unwrap();
        assert_eq!(body.as_ref().len(), 4 << 20);
        assert_eq!(store.drop_loose_parts().await.unwrap(), 0);
    });
    drop(store);
    // `open` looks at every part, too.
    open(folder.path(), false, &failed);
    assert!(!failed.load(Ordering::SeqCst));
}
