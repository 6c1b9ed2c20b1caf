//! What the store must do, written a second time: in memory, without SQL, as plainly as it can be.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use strongroom::clock::Timestamp;
use strongroom::model::client::{Client, ClientState};
use strongroom::model::deposit::{Deposit, DepositName, Encryption, Labels, SetPolicy};
use strongroom::model::id::{ClientId, DepositId, Fingerprint, OrgId};
use strongroom::model::org::{Org, OrgName, Registration};
use strongroom::model::quota::{Quota, QuotaUse, SetQuota, Used};
use strongroom::store::Expected;

/// One domain command; ids and bodies are chosen by whoever asks.
#[derive(Clone, Debug)]
pub enum Command {
    AddOrg(Org),
    SetAuth(OrgName, bool),
    AddClient(OrgId, Client),
    SetState(Fingerprint, &'static [ClientState], ClientState),
    RemoveClient(Fingerprint),
    SetOrgQuota(OrgName, SetQuota),
    SetClientQuota(Fingerprint, SetQuota),
    Put(Box<PutDeposit>),
    Edit(
        DepositId,
        Expected,
        Option<String>,
        Option<Labels>,
        SetPolicy,
    ),
    Retrieve(DepositId),
    Grant(DepositId, u64),
    Remove(DepositId, Expected),
    Undelete(DepositId),
    Purge(DepositId),
}

#[derive(Clone, Debug)]
pub struct PutDeposit {
    pub id: DepositId,
    pub org: OrgId,
    pub name: DepositName,
    pub owner: Option<ClientId>,
    pub expect: Expected,
    pub content_type: Option<String>,
    pub description: Option<String>,
    pub labels: Option<Labels>,
    pub policy: SetPolicy,
    pub body: Vec<u8>,
}

/// An idempotency key and the hash of its request.
pub type Once = (String, [u8; 32]);

/// What came of it: the answer as JSON, or the refusal's code.
pub type Outcome = Result<Value, String>;

#[derive(Clone)]
pub struct Held {
    pub deposit: Deposit,
    pub org: OrgId,
    pub owner: Option<ClientId>,
    pub bodies: Vec<Vec<u8>>,
}

#[derive(Default)]
pub struct Model {
    pub orgs: BTreeMap<OrgId, Org>,
    pub clients: BTreeMap<ClientId, Client>,
    pub deposits: BTreeMap<DepositId, Held>,
    answers: BTreeMap<String, ([u8; 32], Value)>,
    /// How many changes have an event.
    pub events: u64,
}

fn refused<T>(code: &str) -> Result<T, String> {
    Err(code.to_owned())
}

impl Model {
    pub fn apply(&mut self, command: &Command, once: Option<&Once>, now: Timestamp) -> Outcome {
        if let Some((key, hash)) = once
            && let Some((known, answer)) = self.answers.get(key)
        {
            return if known == hash {
                Ok(answer.clone())
            } else {
                refused("key_reused")
            };
        }
        let answer = self.run(command, now)?;
        self.events += 1;
        if let Some((key, hash)) = once {
            self.answers.insert(key.clone(), (*hash, answer.clone()));
        }
        Ok(answer)
    }

    fn run(&mut self, command: &Command, now: Timestamp) -> Outcome {
        match command {
            Command::AddOrg(org) => {
                if self.orgs.values().any(|known| known.name == org.name) {
                    return refused("name_taken");
                }
                self.orgs.insert(org.id, org.clone());
                Ok(json!(org))
            }
            Command::SetAuth(name, code) => {
                let org = self.orgs.values_mut().find(|org| org.name == *name);
                let org = org.ok_or("not_found")?;
                org.registration = if *code {
                    Registration::Code
                } else {
                    Registration::Open
                };
                Ok(json!(org))
            }
            Command::AddClient(org, client) => self.add_client(*org, client),
            Command::SetState(key, from, to) => self.set_state(key, from, *to, now),
            Command::RemoveClient(key) => {
                let client = self.client(key)?.clone();
                if self.deposits.values().any(|it| it.owner == Some(client.id)) {
                    return refused("client_owns_deposits");
                }
                self.forget(&client);
                Ok(Value::Null)
            }
            Command::SetOrgQuota(name, set) => {
                let org = self.orgs.values_mut().find(|org| org.name == *name);
                let org = org.ok_or("not_found")?;
                org.quota = org.quota.set(set);
                Ok(json!(QuotaUse {
                    quota: org.quota,
                    used: org.used()
                }))
            }
            Command::SetClientQuota(key, set) => {
                let client = self.client(key)?;
                client.quota = client.quota.set(set);
                Ok(json!(QuotaUse {
                    quota: client.quota,
                    used: client.used()
                }))
            }
            Command::Put(put) => self.put(put, now),
            Command::Retrieve(id) => self.retrieve(*id, now),
            Command::Grant(id, more) => {
                let held = self.present(*id, Expected::Anything)?;
                let deposit = &mut held.deposit;
                if *more == 0 {
                    return refused("invalid");
                }
                let (Some(most), Some(left)) =
                    (&mut deposit.max_retrievals, &mut deposit.retrievals_left)
                else {
                    return refused("not_limited");
                };
                let more = u32::try_from(*more).unwrap();
                (*most, *left) = (*most + more, *left + more);
                self.shown(*id)
            }
            Command::Edit(id, expect, description, labels, policy) => {
                let held = self.present(*id, *expect)?;
                set(&mut held.deposit, policy, now)?;
                if let Some(description) = description {
                    held.deposit.description.clone_from(description);
                }
                if let Some(labels) = labels {
                    held.deposit.labels.clone_from(labels);
                }
                held.deposit.modified = now;
                self.shown(*id)
            }
            Command::Remove(id, expect) => {
                self.present(*id, *expect)?.deposit.deleted = Some(now);
                self.shown(*id)
            }
            Command::Undelete(id) => {
                self.binned(*id)?.deposit.deleted = None;
                self.shown(*id)
            }
            Command::Purge(id) => {
                self.binned(*id)?;
                let held = self.deposits.remove(id).ok_or("internal")?;
                let bytes: usize = held.bodies.iter().map(Vec::len).sum();
                let org = self.orgs.get_mut(&held.org).ok_or("internal")?;
                (org.deposits, org.bytes) = (org.deposits - 1, org.bytes - bytes as u64);
                if let Some(owner) = held.owner {
                    let owner = self.clients.get_mut(&owner).ok_or("internal")?;
                    (owner.deposits, owner.bytes) =
                        (owner.deposits - 1, owner.bytes - bytes as u64);
                }
                Ok(Value::Null)
            }
        }
    }

    fn client(&mut self, key: &Fingerprint) -> Result<&mut Client, String> {
        let mut clients = self.clients.values_mut();
        clients
            .find(|client| client.fingerprint == *key)
            .ok_or_else(|| "not_found".to_owned())
    }

    fn forget(&mut self, client: &Client) {
        self.clients.remove(&client.id);
        for org in self.orgs.values_mut() {
            org.clients -= u64::from(org.name == client.org);
        }
    }

    fn add_client(&mut self, org: OrgId, client: &Client) -> Outcome {
        if let Ok(known) = self.client(&client.fingerprint) {
            let known = known.clone();
            let over = known.state == ClientState::Pending
                && known
                    .pending_until
                    .is_some_and(|until| until <= client.created);
            if !over {
                return refused("already_registered");
            }
            self.forget(&known);
        }
        // Whoever waits for an approval takes the place of those whose time is over.
        if client.state == ClientState::Pending {
            let over = |it: &&Client| it.org == client.org && it.is_over(client.created);
            let over: Vec<Client> = self.clients.values().filter(over).cloned().collect();
            over.iter().for_each(|it| self.forget(it));
        }
        self.orgs.get_mut(&org).ok_or("internal")?.clients += 1;
        self.clients.insert(client.id, client.clone());
        Ok(json!(client))
    }

    fn set_state(
        &mut self,
        key: &Fingerprint,
        from: &[ClientState],
        to: ClientState,
        now: Timestamp,
    ) -> Outcome {
        let client = self.client(key)?;
        let over = client.state == ClientState::Pending
            && client.pending_until.is_some_and(|until| until <= now);
        if over && to == ClientState::Active {
            return refused("registration_over");
        }
        if !from.contains(&client.state) {
            return refused("wrong_state");
        }
        (client.state, client.pending_until, client.reason) = (to, None, None);
        Ok(json!(client))
    }

    fn retrieve(&mut self, id: DepositId, now: Timestamp) -> Outcome {
        let deposit = &mut self.present(id, Expected::Anything)?.deposit;
        if deposit.not_before.is_some_and(|begin| now < begin) {
            return refused("not_yet");
        }
        if deposit.expires.is_some_and(|end| now >= end) {
            return refused("expired");
        }
        match &mut deposit.retrievals_left {
            Some(0) => return refused("retrievals_used"),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(json!(deposit.retrievals_left))
    }

    fn put(&mut self, put: &PutDeposit, now: Timestamp) -> Outcome {
        let owner = put.owner.map(|owner| self.clients.get(&owner));
        if owner.is_some_and(|it| it.is_none_or(|it| it.state != ClientState::Active)) {
            return refused("client_disabled");
        }
        let there = self
            .deposits
            .values_mut()
            .find(|it| it.org == put.org && it.deposit.name == put.name);
        if let Some(held) = &there {
            if put.owner.is_some() && held.owner != put.owner {
                return refused("name_taken");
            }
            if held.deposit.deleted.is_some() {
                return refused("in_bin");
            }
        }
        expected(put.expect, there.as_ref().map(|held| held.deposit.version))?;
        let created = there.is_none();
        let owner = put.owner.or(there.as_ref().and_then(|held| held.owner));
        let more = Used {
            objects: u64::from(created),
            bytes: put.body.len() as u64,
        };
        let org = self.orgs.get(&put.org).ok_or("internal")?;
        if let Some(owner) = owner {
            let owner = self.clients.get(&owner).ok_or("internal")?;
            fits(owner.quota, owner.used(), more)?;
        }
        fits(org.quota, org.used(), more)?;
        let id = match there {
            Some(held) => {
                let deposit = &mut held.deposit;
                set(deposit, &put.policy, now)?;
                deposit.version += 1;
                deposit.modified = now;
                deposit.size = put.body.len() as u64;
                if let Some(content_type) = &put.content_type {
                    deposit.content_type.clone_from(content_type);
                }
                if let Some(description) = &put.description {
                    deposit.description.clone_from(description);
                }
                if let Some(labels) = &put.labels {
                    deposit.labels.clone_from(labels);
                }
                held.bodies.push(put.body.clone());
                deposit.id
            }
            None => {
                self.create(put, now)?;
                put.id
            }
        };
        let org = self.orgs.get_mut(&put.org).ok_or("internal")?;
        (org.deposits, org.bytes) = (org.deposits + more.objects, org.bytes + more.bytes);
        if let Some(owner) = owner {
            let owner = self.clients.get_mut(&owner).ok_or("internal")?;
            owner.deposits += more.objects;
            owner.bytes += more.bytes;
        }
        Ok(json!({ "deposit": self.shown(id)?, "created": created }))
    }

    fn create(&mut self, put: &PutDeposit, now: Timestamp) -> Result<(), String> {
        let org = self.orgs.get(&put.org).ok_or("internal")?;
        let content_type = put.content_type.clone();
        let mut deposit = Deposit {
            id: put.id,
            org: org.name.clone(),
            name: put.name.clone(),
            owner: None,
            version: 1,
            size: put.body.len() as u64,
            encryption: Encryption::None,
            content_type: content_type.unwrap_or_else(|| "application/octet-stream".to_owned()),
            description: put.description.clone().unwrap_or_default(),
            labels: put.labels.clone().unwrap_or_default(),
            created: now,
            modified: now,
            deleted: None,
            not_before: None,
            expires: None,
            max_retrievals: None,
            retrievals_left: None,
        };
        set(&mut deposit, &put.policy, now)?;
        let held = Held {
            deposit,
            org: put.org,
            owner: put.owner,
            bodies: vec![put.body.clone()],
        };
        self.deposits.insert(put.id, held);
        Ok(())
    }

    fn held(&mut self, id: DepositId) -> Result<&mut Held, String> {
        self.deposits
            .get_mut(&id)
            .ok_or_else(|| "not_found".to_owned())
    }

    fn present(&mut self, id: DepositId, expect: Expected) -> Result<&mut Held, String> {
        let held = self.held(id)?;
        if held.deposit.deleted.is_some() {
            return refused("in_bin");
        }
        expected(expect, Some(held.deposit.version))?;
        Ok(held)
    }

    fn binned(&mut self, id: DepositId) -> Result<&mut Held, String> {
        let held = self.held(id)?;
        if held.deposit.deleted.is_none() {
            return refused("not_in_bin");
        }
        Ok(held)
    }

    /// The owner's key is its client's: it goes when the client does.
    pub fn deposit(&self, held: &Held) -> Deposit {
        let owner = held.owner.and_then(|owner| self.clients.get(&owner));
        Deposit {
            owner: owner.map(|client| client.fingerprint),
            ..held.deposit.clone()
        }
    }

    fn shown(&self, id: DepositId) -> Outcome {
        let held = self.deposits.get(&id).ok_or("not_found")?;
        Ok(json!(self.deposit(held)))
    }
}

/// Whether there is room for more. What is full takes nothing, not even an empty version.
fn fits(quota: Quota, used: Used, more: Used) -> Result<(), String> {
    let most = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    if more.objects > 0 && used.objects + more.objects > most(quota.objects) {
        return refused("quota_objects");
    }
    if used.bytes + more.bytes > most(quota.bytes) || used.bytes >= most(quota.bytes) {
        return refused("quota_bytes");
    }
    Ok(())
}

/// All of it, or nothing.
fn set(deposit: &mut Deposit, policy: &SetPolicy, now: Timestamp) -> Result<(), String> {
    let begin = policy.not_before.unwrap_or(deposit.not_before);
    let end = policy.expires.unwrap_or(deposit.expires);
    let past = matches!(policy.expires, Some(Some(end)) if end <= now);
    let backwards = begin.zip(end).is_some_and(|(begin, end)| begin >= end);
    if past || backwards || policy.max_retrievals == Some(Some(0)) {
        return refused("invalid");
    }
    (deposit.not_before, deposit.expires) = (begin, end);
    if let Some(limit) = policy.max_retrievals {
        let limit = limit.map(|limit| u32::try_from(limit).unwrap());
        (deposit.max_retrievals, deposit.retrievals_left) = (limit, limit);
    }
    Ok(())
}

fn expected(expect: Expected, there: Option<u32>) -> Result<(), String> {
    let holds = match expect {
        Expected::Anything => true,
        Expected::Absent => there.is_none(),
        Expected::Present => there.is_some(),
        Expected::Version(version) => there == Some(version),
    };
    if holds {
        Ok(())
    } else {
        refused("precondition_failed")
    }
}
