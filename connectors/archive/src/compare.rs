//! Where the facts of two folders differ, kind by kind.
//!
//! Facts are compared by what they say: kind, key, event time, `known_at`, revision and body. Numbers that shift when anything before
//! them changes (`fact_seq`, `kind_seq`, `causes`, `supersedes`) and names given from outside (epoch, session) are left out, so that one
//! more sample at the start of a session does not make every fact after it look different.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pitwall_engine::facts::Kind;
use pitwall_engine::hash::Digest;
use pitwall_schemas::shared::FactHeader;
use serde::Serialize;
use serde_json::Value;

use crate::facts::{FactReader, FactsError};

/// How the facts of one kind compare.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KindComparison {
    /// The kind.
    pub kind: String,
    /// Facts of A.
    pub in_a: u64,
    /// Facts of B.
    pub in_b: u64,
    /// Facts that say the same at the same time.
    pub equal: u64,
    /// Facts about the same thing in the same place of its history that say something else.
    pub changed: u64,
    /// Facts that say the same, but known at or happened at another time.
    pub retimed: u64,
    /// Facts without a counterpart in B.
    pub only_in_a: u64,
    /// Facts without a counterpart in A.
    pub only_in_b: u64,
    /// The first differences, by A's `fact_seq`.
    pub first: Vec<Difference>,
}

impl KindComparison {
    /// Whether both runs have the same facts of this kind.
    #[must_use]
    pub const fn is_equal(&self) -> bool {
        self.changed == 0 && self.retimed == 0 && self.only_in_a == 0 && self.only_in_b == 0
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// `changed`, `retimed`, `only in A` or `only in B`.
    pub what: &'static str,
    /// The fact of A.
    pub a: Option<Told>,
    /// The fact of B.
    pub b: Option<Told>,
}

/// A fact as a comparison shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Told {
    /// `{session}-{epoch}-{fact_seq}`.
    pub fact_id: String,
    /// Its fields.
    pub fact: Value,
}

/// One fact, reduced to what is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Digested {
    fact_seq: i64,
    body: [u8; 16],
    times: (i64, i64, i32),
}

impl Digested {
    fn same(&self, other: &Self) -> bool {
        self.body == other.body && self.times == other.times
    }
}

type Histories = BTreeMap<Vec<u8>, Vec<Digested>>;

/// Compares the facts of one kind in two folders of fact files, telling the first `first` differences.
///
/// # Errors
/// When a fact file cannot be read. A folder without a file of that kind has no such facts.
pub fn compare_kind(a: &Path, b: &Path, kind: Kind, first: usize) -> Result<KindComparison, FactsError> {
    let (histories_a, in_a) = histories(a, kind)?;
    let (histories_b, in_b) = histories(b, kind)?;
    let mut comparison = KindComparison {
        kind: kind.name.to_owned(),
        in_a,
        in_b,
        equal: 0,
        changed: 0,
        retimed: 0,
        only_in_a: 0,
        only_in_b: 0,
        first: Vec::new(),
    };
    let mut pairs = Vec::new();
    let keys: BTreeSet<&Vec<u8>> = histories_a.keys().chain(histories_b.keys()).collect();
    for key in keys {
        let of = |histories: &'_ Histories| histories.get(key).cloned().unwrap_or_default();
        align(&of(&histories_a), &of(&histories_b), &mut comparison, &mut pairs);
    }
    pairs.sort_by_key(|pair| pair.iter().flatten().map(|fact| fact.fact_seq).min());
    pairs.truncate(first);
    tell(a, b, kind, &pairs, &mut comparison)?;
    Ok(comparison)
}

fn histories(folder: &Path, kind: Kind) -> Result<(Histories, u64), FactsError> {
    let (mut histories, mut count) = (Histories::new(), 0);
    let Some(mut facts) = FactReader::find(folder, kind)? else { return Ok((histories, count)) };
    let mut key = Vec::new();
    while let Some(fact) = facts.next() {
        let (encoded, header, body) = fact?;
        key.clear();
        body.encode_key(&mut key);
        let said = encoded.header().map_or(encoded.bytes, |(_, body)| body.rest());
        let mut digest = [0; 16];
        digest.copy_from_slice(&Digest::of(said).0[..16]);
        let times = (header.known_at.0, header.event_time.0, header.revision);
        let digested = Digested { fact_seq: header.fact_seq, body: digest, times };
        match histories.get_mut(&key) {
            Some(history) => history.push(digested),
            None => drop(histories.insert(key.clone(), vec![digested])),
        }
        count += 1;
    }
    Ok((histories, count))
}

/// Aligns two histories of one key: equal beginnings and ends first, then facts in the middle that are equal in order, then those that
/// say the same at another time; what is left is paired in order as changed.
fn align(a: &[Digested], b: &[Digested], comparison: &mut KindComparison, pairs: &mut Vec<[Option<Digested>; 2]>) {
    let head = a.iter().zip(b).take_while(|(a, b)| a.same(b)).count();
    let (a, b) = (&a[head..], &b[head..]);
    let tail = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a.same(b)).count();
    let (mut a, mut b) = (a[..a.len() - tail].to_vec(), b[..b.len() - tail].to_vec());
    comparison.equal += (head + tail) as u64;
    comparison.equal += take_matches(&mut a, &mut b, |fact| (fact.body, Some(fact.times))).len() as u64;
    let retimed = take_matches(&mut a, &mut b, |fact| fact.body);
    comparison.retimed += retimed.len() as u64;
    pairs.extend(retimed);
    let paired = a.len().min(b.len());
    comparison.changed += paired as u64;
    comparison.only_in_a += (a.len() - paired) as u64;
    comparison.only_in_b += (b.len() - paired) as u64;
    for index in 0..a.len().max(b.len()) {
        pairs.push([a.get(index).copied(), b.get(index).copied()]);
    }
}

/// Takes facts with the same mark out of both histories, first with first.
fn take_matches<M: Ord>(a: &mut Vec<Digested>, b: &mut Vec<Digested>, mark: impl Fn(&Digested) -> M) -> Vec<[Option<Digested>; 2]> {
    let mut by_mark: BTreeMap<M, std::collections::VecDeque<usize>> = BTreeMap::new();
    for (index, fact) in b.iter().enumerate() {
        by_mark.entry(mark(fact)).or_default().push_back(index);
    }
    let (mut matched, mut taken) = (Vec::new(), BTreeSet::new());
    a.retain(|fact| match by_mark.get_mut(&mark(fact)).and_then(std::collections::VecDeque::pop_front) {
        None => true,
        Some(index) => {
            matched.push([Some(*fact), Some(b[index])]);
            taken.insert(index);
            false
        }
    });
    let mut index = 0;
    b.retain(|_| {
        index += 1;
        !taken.contains(&(index - 1))
    });
    matched
}

fn tell(a: &Path, b: &Path, kind: Kind, pairs: &[[Option<Digested>; 2]], comparison: &mut KindComparison) -> Result<(), FactsError> {
    let told_a = told(a, kind, pairs.iter().filter_map(|pair| pair[0]))?;
    let told_b = told(b, kind, pairs.iter().filter_map(|pair| pair[1]))?;
    for pair in pairs {
        let what = match pair {
            [Some(a), Some(b)] if a.body == b.body => "retimed",
            [Some(_), Some(_)] => "changed",
            [Some(_), None] => "only in A",
            [None, _] => "only in B",
        };
        let find = |told: &BTreeMap<i64, Told>, fact: Option<Digested>| fact.and_then(|fact| told.get(&fact.fact_seq).cloned());
        comparison.first.push(Difference { what, a: find(&told_a, pair[0]), b: find(&told_b, pair[1]) });
    }
    Ok(())
}

fn told(folder: &Path, kind: Kind, wanted: impl Iterator<Item = Digested>) -> Result<BTreeMap<i64, Told>, FactsError> {
    let wanted: BTreeSet<i64> = wanted.map(|fact| fact.fact_seq).collect();
    let mut told = BTreeMap::new();
    if wanted.is_empty() {
        return Ok(told);
    }
    let Some(mut facts) = FactReader::find(folder, kind)? else { return Ok(told) };
    while told.len() < wanted.len()
        && let Some(fact) = facts.next()
    {
        let (_, header, body) = fact?;
        if wanted.contains(&header.fact_seq) {
            let mut fact = serde_json::to_value(&body).expect("facts are plain data");
            if let Value::Object(fields) = &mut fact {
                fields.insert("known_at".to_owned(), header.known_at.to_string().into());
                fields.insert("event_time".to_owned(), header.event_time.to_string().into());
                fields.insert("revision".to_owned(), header.revision.into());
            }
            told.insert(header.fact_seq, Told { fact_id: fact_id(&header), fact });
        }
    }
    Ok(told)
}

/// A fact's name: `{session}-{epoch}-{fact_seq}`.
#[must_use]
pub fn fact_id(header: &FactHeader) -> String {
    format!("{}-{}-{}", header.session_key, header.epoch, header.fact_seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(fact_seq: i64, says: u8, at: i64) -> Digested {
        Digested { fact_seq, body: [says; 16], times: (at, at, 0) }
    }

    fn compared(a: &[Digested], b: &[Digested]) -> (u64, u64, u64, u64, u64) {
        let mut comparison = KindComparison {
            kind: String::new(),
            in_a: 0,
            in_b: 0,
            equal: 0,
            changed: 0,
            retimed: 0,
            only_in_a: 0,
            only_in_b: 0,
            first: Vec::new(),
        };
        align(a, b, &mut comparison, &mut Vec::new());
        (comparison.equal, comparison.changed, comparison.retimed, comparison.only_in_a, comparison.only_in_b)
    }

    #[test]
    fn numbering_alone_is_no_difference() {
        assert_eq!(compared(&[fact(1, 1, 10), fact(2, 2, 20)], &[fact(5, 1, 10), fact(9, 2, 20)]), (2, 0, 0, 0, 0));
    }

    #[test]
    fn one_more_fact_in_the_middle_is_one_difference() {
        assert_eq!(compared(&[fact(1, 1, 10), fact(2, 2, 20)], &[fact(1, 1, 10), fact(2, 7, 15), fact(3, 2, 20)]), (2, 0, 0, 0, 1));
        assert_eq!(compared(&[fact(1, 1, 10), fact(2, 7, 15), fact(3, 2, 20)], &[fact(1, 1, 10), fact(2, 2, 20)]), (2, 0, 0, 1, 0));
    }

    #[test]
    fn the_same_words_later_are_retimed_and_other_words_changed() {
        assert_eq!(compared(&[fact(1, 1, 10), fact(2, 2, 20)], &[fact(1, 1, 11), fact(2, 3, 20)]), (0, 1, 1, 0, 0));
    }
}
