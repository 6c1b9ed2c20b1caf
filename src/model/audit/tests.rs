use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

use super::*;
use crate::model::testing::Random;

const VECTORS: &str = include_str!("../../../tests/data/audit-1/vectors.json");
const EXPORT: &str = include_str!("../../../tests/data/audit-1/export.jsonl");

#[derive(Deserialize)]
struct Vectors {
    audit_key: String,
    public_key: String,
    events: Vec<EventVector>,
    checkpoints: Vec<CheckpointVector>,
}

#[derive(Deserialize)]
struct EventVector {
    event: ChainedEvent,
    canonical: String,
    previous: String,
    hash: String,
    tag: String,
}

#[derive(Deserialize)]
struct CheckpointVector {
    checkpoint: Checkpoint,
    canonical: String,
    signature: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(VECTORS).unwrap()
}

/// Events of both chains, for the tests of other modules.
pub(crate) fn samples() -> Vec<ChainedEvent> {
    vectors()
        .events
        .into_iter()
        .map(|known| known.event)
        .collect()
}

fn hash(previous: &[u8; 32], canonical: &[u8]) -> [u8; 32] {
    let all = [previous, canonical].concat();
    digest(&SHA256, &all).as_ref().try_into().unwrap()
}

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

#[test]
fn known_answers_hold() {
    let vectors = vectors();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes(&vectors.audit_key));
    for known in &vectors.events {
        let canonical = known.event.canonical();
        assert_eq!(hex::encode(&canonical), known.canonical);
        let (chain, number, event) = Event::parse_canonical(&canonical).unwrap();
        assert_eq!(
            (chain, number, &event),
            (known.event.chain, known.event.number, &known.event.event)
        );
        let previous = bytes(&known.previous).try_into().unwrap();
        let hashed = hash(&previous, &canonical);
        assert_eq!(hex::encode(hashed), known.hash);
        assert_eq!(known.event.hash_bytes().unwrap(), hashed);
        assert_eq!(hex::encode(hmac::sign(&key, &hashed)), known.tag);
    }
    let key = UnparsedPublicKey::new(&ED25519, bytes(&vectors.public_key));
    for known in &vectors.checkpoints {
        let canonical = known.checkpoint.canonical();
        assert_eq!(hex::encode(&canonical), known.canonical);
        assert_eq!(
            Checkpoint::parse_canonical(&canonical).unwrap(),
            known.checkpoint
        );
        key.verify(&canonical, &bytes(&known.signature)).unwrap();
    }
}

#[test]
fn every_cut_and_every_byte_more_is_refused() {
    let vectors = vectors();
    for known in &vectors.events {
        let canonical = bytes(&known.canonical);
        for length in 0..canonical.len() {
            assert!(
                Event::parse_canonical(&canonical[..length]).is_err(),
                "{length}"
            );
        }
        assert!(Event::parse_canonical(&[canonical.as_slice(), b"\0"].concat()).is_err());
        assert!(Checkpoint::parse_canonical(&canonical).is_err());
    }
    for known in &vectors.checkpoints {
        let canonical = bytes(&known.canonical);
        for length in 0..canonical.len() {
            assert!(
                Checkpoint::parse_canonical(&canonical[..length]).is_err(),
                "{length}"
            );
        }
        assert!(Checkpoint::parse_canonical(&[canonical.as_slice(), b"\0"].concat()).is_err());
        assert!(Event::parse_canonical(&canonical).is_err());
    }
}

#[test]
fn refusals_name_the_field() {
    let canonical = bytes(&vectors().events[0].canonical);
    let why = |at: usize, byte: u8| {
        let mut changed = canonical.clone();
        changed[at] = byte;
        Event::parse_canonical(&changed).unwrap_err().public
    };
    assert!(why(0, b'X').contains("magic"));
    assert!(why(3, 2).contains("version"));
    assert!(why(8, b'C').contains("chain"));
    assert!(why(18, 9).contains("number has a wrong length"));
    assert!(why(4, 0xff).contains("chain is cut off"));
    let mut two = vectors().checkpoints[1].checkpoint.clone();
    two.heads[1].chain = Chain::Changes;
    assert!(
        Checkpoint::parse_canonical(&two.canonical())
            .unwrap_err()
            .public
            .contains("two of one chain")
    );
}

#[test]
fn long_texts_are_clipped_to_what_is_read_back() {
    let mut event = vectors().events.remove(0).event.event;
    event.reason = "a".repeat(MAX_EVENT_TEXT);
    event.detail = format!("a{}", "ä".repeat(MAX_EVENT_TEXT));
    assert!(Event::parse_canonical(&event.canonical(Chain::Changes, 1)).is_err());
    let clipped = event.clone().clipped();
    assert_eq!(clipped.reason, event.reason);
    assert!(clipped.detail.ends_with("ä…") && clipped.detail.len() <= MAX_EVENT_TEXT);
    let canonical = clipped.canonical(Chain::Changes, 1);
    assert_eq!(Event::parse_canonical(&canonical).unwrap().2, clipped);
    for text in [
        &mut event.actor.kind,
        &mut event.actor.name,
        &mut event.actor.source,
        &mut event.action,
        &mut event.object.kind,
        &mut event.object.id,
        &mut event.object.name,
    ] {
        *text = "𝄞".repeat(MAX_EVENT_TEXT);
    }
    let canonical = event.clipped().canonical(Chain::Access, u64::MAX);
    assert!(canonical.len() <= MAX_CANONICAL && Event::parse_canonical(&canonical).is_ok());
}

#[test]
fn no_canonical_form_panics_and_each_is_the_only_one() {
    let vectors = vectors();
    let mut random = Random::new(0xa0d1_7000);
    let mut legal = 0;
    for round in 0..20_000 {
        let event = &vectors.events[random.below(vectors.events.len())];
        let checkpoint = &vectors.checkpoints[random.below(vectors.checkpoints.len())];
        let input = match round % 4 {
            0 => [b"SRE\x01", random.bytes(200).as_slice()].concat(),
            1 => [b"SRC\x01", random.bytes(200).as_slice()].concat(),
            2 => random.mutated(&bytes(&event.canonical)),
            _ => random.mutated(&bytes(&checkpoint.canonical)),
        };
        if let Ok((chain, number, event)) = Event::parse_canonical(&input) {
            legal += 1;
            assert_eq!(event.canonical(chain, number), input);
        }
        if let Ok(checkpoint) = Checkpoint::parse_canonical(&input) {
            legal += 1;
            assert_eq!(checkpoint.canonical(), input);
        }
    }
    assert!(legal > 500, "only {legal} forms were legal");
}

#[test]
fn the_export_kept_as_a_sample_verifies_and_writes_back_byte_for_byte() {
    let lines: Vec<ExportLine> = EXPORT
        .lines()
        .map(|line| ExportLine::parse(line).unwrap())
        .collect();
    for (line, text) in lines.iter().zip(EXPORT.lines()) {
        assert_eq!(line.write().unwrap(), text);
    }
    let ExportLine::Header(header) = &lines[0] else {
        panic!("no header")
    };
    assert_eq!(
        *header,
        ExportHeader::new(header.instance, &header.key().unwrap())
    );
    let key = UnparsedPublicKey::new(&ED25519, header.key().unwrap());
    for (chain, last) in [(Chain::Changes, 4), (Chain::Access, 2)] {
        let mut walk = ChainWalk::new(chain, hash);
        for line in &lines {
            if let ExportLine::Checkpoint(signed) = line {
                key.verify(
                    &signed.checkpoint.canonical(),
                    &signed.signature_bytes().unwrap(),
                )
                .unwrap();
                for head in signed
                    .checkpoint
                    .heads
                    .iter()
                    .filter(|head| head.chain == chain)
                {
                    walk.expect(head.number, head.hash);
                }
            }
        }
        for line in &lines {
            if let ExportLine::Event(event) = line
                && event.chain == chain
            {
                walk.step(
                    event.number,
                    &event.canonical(),
                    &event.hash_bytes().unwrap(),
                )
                .unwrap();
            }
        }
        let walked = walk.finish().unwrap();
        assert_eq!(
            (walked.events, walked.number, walked.proven_to),
            (last, last, last)
        );
    }
}

#[test]
fn export_lines_that_no_hash_vouches_for_are_refused() {
    let lines: Vec<&str> = EXPORT.lines().collect();
    for bad in [
        lines[1].replacen('{', r#"{"note":"approved","#, 1),
        lines[1].replace(r#""name":"0""#, r#""name":"0","role":"root""#),
        lines[1].replace("08:00:00Z", "09:00:00+01:00"),
        lines[1].replace(r#""reason":"","#, ""),
        lines[0].replace("audit/1", "audit/2"),
        lines[0].replacen('{', r#"{"x":1,"#, 1),
        lines[7].replacen('{', r#"{"x":1,"#, 1),
        lines[7].replace("\"epoch\":1", "\"epoch\":-1"),
        lines[7].replace("d070c1", "D070C1"),
        "[]".to_owned(),
        "null".to_owned(),
        String::new(),
        lines[1][..40].to_owned(),
        format!("{}{}", lines[1], " ".repeat(MAX_LINE)),
    ] {
        assert_eq!(
            ExportLine::parse(&bad).unwrap_err().field,
            Some("export"),
            "{bad}"
        );
    }
    assert!(SignedCheckpoint::parse(&format!("{}\n", lines[7])).is_ok());
    assert!(
        SignedCheckpoint::parse(lines[1])
            .unwrap_err()
            .public
            .contains("signed checkpoint")
    );
    let mut random = Random::new(0xe4_9047);
    for _ in 0..3_000 {
        let line = lines[random.below(lines.len())];
        let mutated = random.mutated(line.as_bytes());
        let _ = ExportLine::parse(&String::from_utf8_lossy(&mutated));
    }
}

/// A stored row: number, event, hash.
type Row = (u64, Event, [u8; 32]);

fn row(number: u64, previous: &[u8; 32]) -> Row {
    let mut event = vectors().events[0].event.event.clone();
    event.detail = format!("the {number}th");
    let hashed = hash(previous, &event.canonical(Chain::Changes, number));
    (number, event, hashed)
}

/// Twelve sound events.
fn chain() -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for number in 1..=12 {
        let previous = rows.last().map_or(FIRST_PREVIOUS, |row| row.2);
        rows.push(row(number, &previous));
    }
    rows
}

fn walk(rows: &[Row], heads: &[(u64, [u8; 32])]) -> Result<Walked, Fault> {
    let mut walk = ChainWalk::new(Chain::Changes, hash);
    for (number, hash) in heads {
        walk.expect(*number, *hash);
    }
    for (number, event, stored) in rows {
        walk.step(*number, &event.canonical(Chain::Changes, *number), stored)?;
    }
    walk.finish()
}

fn fault(rows: &[Row]) -> (u64, FaultKind) {
    let fault = walk(rows, &[]).unwrap_err();
    assert_eq!(fault.chain, Chain::Changes);
    (fault.number, fault.kind)
}

fn renumber(rows: &mut [Row]) {
    for (row, number) in rows.iter_mut().zip(1..) {
        row.0 = number;
    }
}

#[test]
fn a_sound_chain_walks_to_its_end() {
    let rows = chain();
    let walked = walk(&rows, &[(5, rows[4].2), (9, rows[8].2), (9, rows[8].2)]).unwrap();
    assert_eq!(
        walked,
        Walked {
            events: 12,
            number: 12,
            hash: rows[11].2,
            proven_to: 9
        }
    );
    let empty = walk(&[], &[(0, FIRST_PREVIOUS)]).unwrap();
    assert_eq!(
        empty,
        Walked {
            events: 0,
            number: 0,
            hash: FIRST_PREVIOUS,
            proven_to: 0
        }
    );
}

#[test]
fn a_changed_event_is_named() {
    for at in 0..12 {
        let mut rows = chain();
        rows[at].1.outcome = Outcome::Refused;
        assert_eq!(fault(&rows), (rows[at].0, FaultKind::Changed));
        let mut rows = chain();
        rows[at].2[7] ^= 1;
        assert_eq!(fault(&rows), (rows[at].0, FaultKind::Changed));
    }
    // With its own hash made anew, it shows at the one after.
    let mut rows = chain();
    rows[3].1.detail.push('!');
    rows[3].2 = hash(&rows[2].2, &rows[3].1.canonical(Chain::Changes, 4));
    assert_eq!(fault(&rows), (5, FaultKind::Changed));
}

#[test]
fn a_removed_event_is_named_even_if_the_rest_is_numbered_anew() {
    for at in 0..11 {
        for count in 1..=3.min(11 - at) {
            let mut rows = chain();
            rows.drain(at..at + count);
            let due = at as u64 + 1;
            assert_eq!(fault(&rows), (due, FaultKind::Removed), "{at} {count}");
            renumber(&mut rows);
            if rows.len() > at + 1 {
                assert_eq!(
                    fault(&rows),
                    (due, FaultKind::Removed),
                    "{at} {count}, numbered anew"
                );
            } else {
                assert!(walk(&rows, &[]).is_err());
            }
        }
    }
}

#[test]
fn an_inserted_event_is_named() {
    for at in 0..12 {
        let previous = |rows: &[Row]| {
            if at == 0 {
                FIRST_PREVIOUS
            } else {
                rows[at - 1].2
            }
        };
        // The same number twice.
        let mut rows = chain();
        rows.insert(at + 1, rows[at].clone());
        assert_eq!(fault(&rows), (at as u64 + 1, FaultKind::Inserted));
        // Numbered anew, with a hash of its own that follows, and with one that does not.
        for fits in [true, false] {
            let mut rows = chain();
            let mut forged = row(at as u64 + 1, &previous(&rows));
            forged.1.action = "key.forge".to_owned();
            if fits {
                forged.2 = hash(
                    &previous(&rows),
                    &forged.1.canonical(Chain::Changes, forged.0),
                );
            }
            rows.insert(at, forged);
            renumber(&mut rows);
            assert_eq!(
                fault(&rows),
                (at as u64 + 1, FaultKind::Inserted),
                "{at} {fits}"
            );
        }
    }
    // Three at once, with hashes that follow.
    let mut rows = chain();
    for number in 5..8 {
        let mut forged = row(number, &rows[number as usize - 2].2);
        forged.1.action = "key.forge".to_owned();
        forged.2 = hash(
            &rows[number as usize - 2].2,
            &forged.1.canonical(Chain::Changes, number),
        );
        rows.insert(number as usize - 1, forged);
    }
    renumber(&mut rows);
    assert_eq!(fault(&rows), (5, FaultKind::Inserted));
}

#[test]
fn reordered_events_are_named() {
    for at in 0..11 {
        let mut rows = chain();
        rows.swap(at, at + 1);
        assert_eq!(fault(&rows), (at as u64 + 1, FaultKind::Reordered), "{at}");
        renumber(&mut rows);
        assert_eq!(
            fault(&rows),
            (at as u64 + 1, FaultKind::Reordered),
            "{at}, numbered anew"
        );
    }
}

#[test]
fn a_canonical_form_under_another_number_or_chain_does_not_pass() {
    let rows = chain();
    let (_, event, _) = &rows[0];
    for (chain, number) in [(Chain::Changes, 2), (Chain::Access, 1)] {
        let canonical = event.canonical(chain, number);
        let mut walk = ChainWalk::new(Chain::Changes, hash);
        walk.step(1, &canonical, &hash(&FIRST_PREVIOUS, &canonical))
            .unwrap();
        assert_eq!(walk.finish().unwrap_err().kind, FaultKind::Changed);
    }
}

#[test]
fn a_chain_that_was_cut_off_or_rewritten_disagrees_with_its_checkpoint() {
    let rows = chain();
    let head = |at: usize| (rows[at].0, rows[at].2);
    let heads = [head(4), head(11)];
    for length in 5..12 {
        let cut = walk(&rows[..length], &heads).unwrap_err();
        assert_eq!(cut.number, length as u64 + 1);
        assert_eq!(cut.kind, FaultKind::CutOff { known: 12 });
        assert!(walk(&rows[..length], &heads[..1]).is_ok());
    }
    assert_eq!(walk(&[], &heads).unwrap_err().number, 1);

    let mut forged = rows.clone();
    forged[7].1.action = "key.forge".to_owned();
    for at in 7..12 {
        forged[at].2 = hash(
            &forged[at - 1].2,
            &forged[at].1.canonical(Chain::Changes, at as u64 + 1),
        );
    }
    assert!(walk(&forged, &heads[..1]).is_ok());
    let found = walk(&forged, &heads).unwrap_err();
    assert_eq!(
        (found.number, found.kind),
        (6, FaultKind::Rewritten { known: 12 })
    );
}

#[test]
fn a_walk_can_begin_where_earlier_events_have_left() {
    let rows = chain();
    let mut walk = ChainWalk::after(Chain::Changes, hash, 6, rows[5].2);
    walk.expect(3, [9; 32]);
    walk.expect(6, rows[5].2);
    walk.expect(8, rows[7].2);
    for (number, event, stored) in &rows[6..] {
        walk.step(*number, &event.canonical(Chain::Changes, *number), stored)
            .unwrap();
    }
    let walked = walk.finish().unwrap();
    assert_eq!((walked.events, walked.number, walked.proven_to), (6, 12, 8));

    let mut walk = ChainWalk::after(Chain::Changes, hash, 6, [1; 32]);
    walk.expect(6, rows[5].2);
    assert_eq!(
        walk.finish().unwrap_err().kind,
        FaultKind::Rewritten { known: 6 }
    );
}

#[test]
fn the_first_fault_stays_and_reads_well() {
    let mut rows = chain();
    rows[2].1.detail.clear();
    rows[6].1.detail.clear();
    let mut walk = ChainWalk::new(Chain::Changes, hash);
    let mut faults = Vec::new();
    for (number, event, stored) in &rows {
        faults.extend(
            walk.step(*number, &event.canonical(Chain::Changes, *number), stored)
                .err(),
        );
    }
    faults.extend(walk.finish().err());
    assert_eq!(faults.len(), 10);
    assert!(
        faults
            .iter()
            .all(|fault| fault.to_string() == "event 3 of changes was changed")
    );
}
