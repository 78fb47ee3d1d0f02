//! The slots of a channel in few bytes.
//!
//! While its files are rendered, those of all packages are at hand, and there may be hundreds of thousands. So each lies behind the one
//! before it, in blocks, and is taken out where somebody asks for it.
//!
//! ```text
//! key, shard, whether there are facts and which, name, sizes of records and exports, removed, revisions, package
//! ```
//!
//! Numbers have seven bits in a byte (LEB128), texts and lists say first how long they are, and what may be missing whether it is there.

use std::collections::BTreeMap;
use std::ops::Range;

use airlock_core::fact::Facts;
use airlock_core::id::{Digest, Id};
use airlock_core::shard::Shard;
use airlock_formats::conda::{ChannelPackage, Revisions};
use airlock_store::ShardName;

use super::layout::{Kind, Sizes, Slot};

/// Bytes of a block, unless one slot has more.
const BLOCK_BYTES: usize = 1 << 20;

/// What is asked for of a slot again and again: its beginning.
#[derive(Debug)]
pub(super) struct Head {
    /// The published shard.
    pub shard: Id<Shard>,
    /// What was known of its files.
    pub facts: Option<Id<Facts>>,
    /// SHA-256 of the rendered shard.
    pub name: Digest,
    records: Sizes,
    exports: Sizes,
}

impl Head {
    /// How many bytes the package adds to a table.
    pub fn bytes(&self, kind: Kind, table: &str) -> u64 {
        match kind {
            Kind::Records => &self.records,
            Kind::Exports => &self.exports,
        }
        .of_table(table)
    }

    /// What the rendered shard is called.
    pub fn shard_name(&self) -> ShardName {
        ShardName { name: self.name, shard: self.shard.digest() }
    }
}

/// Slots, called by their places, with the keys of their shards.
#[derive(Debug, Default)]
pub(super) struct Slots {
    blocks: Vec<Vec<u8>>,
    /// The block of each, and where in it it begins.
    places: Vec<(u32, u32)>,
}

impl Slots {
    /// Adds one behind the others.
    pub fn push(&mut self, key: &str, slot: &Slot) {
        let mut bytes = Vec::new();
        write(&mut bytes, key, slot);
        if self.blocks.last().is_none_or(|block| block.len() + bytes.len() > block.capacity()) {
            self.blocks.push(Vec::with_capacity(BLOCK_BYTES.max(bytes.len())));
        }
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let at = number(self.blocks.len() - 1);
        if let Some(block) = self.blocks.last_mut() {
            self.places.push((at, number(block.len())));
            block.extend_from_slice(&bytes);
        }
    }

    /// Adds these behind the others.
    pub fn append(&mut self, others: Self) {
        let before = u32::try_from(self.blocks.len()).unwrap_or(u32::MAX);
        self.blocks.extend(others.blocks);
        self.places.extend(others.places.into_iter().map(|(block, at)| (block.saturating_add(before), at)));
    }

    /// Puts them in the order of their keys.
    pub fn sort(&mut self) {
        let Self { blocks, places } = self;
        places.sort_unstable_by(|one, other| key_at(blocks, *one).cmp(key_at(blocks, *other)));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The key of the one at a place.
    pub fn key(&self, place: usize) -> &str {
        self.places.get(place).map_or("", |place| key_at(&self.blocks, *place))
    }

    /// The one at a place.
    pub fn get(&self, place: usize) -> Option<Slot> {
        read(&mut self.behind_key(place)?)
    }

    /// The beginning of the one at a place.
    pub fn head(&self, place: usize) -> Option<Head> {
        read_head(&mut self.behind_key(place)?)
    }

    fn behind_key(&self, place: usize) -> Option<&[u8]> {
        let mut rest = rest_at(&self.blocks, *self.places.get(place)?);
        read_text(&mut rest)?;
        Some(rest)
    }

    /// The beginnings of those at some places, with their keys.
    pub fn heads(&self, places: Range<usize>) -> impl Iterator<Item = (&str, Head)> {
        places.filter_map(|place| Some((self.key(place), self.head(place)?)))
    }

    /// All of them, with their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Slot)> {
        (0..self.len()).filter_map(|place| Some((self.key(place), self.get(place)?)))
    }

    /// The places of those whose keys begin so. Of slots in the order of their keys.
    pub fn below(&self, prefix: &str) -> Range<usize> {
        let key = |place: &(u32, u32)| key_at(&self.blocks, *place);
        let first = self.places.partition_point(|place| key(place) < prefix);
        let rest = self.places.get(first..).unwrap_or_default();
        first..first + rest.partition_point(|place| key(place).starts_with(prefix))
    }

    /// The place of the one with this key. Of slots in the order of their keys.
    pub fn find(&self, key: &str) -> Option<usize> {
        self.places.binary_search_by(|place| key_at(&self.blocks, *place).cmp(key)).ok()
    }
}

fn rest_at(blocks: &[Vec<u8>], (block, at): (u32, u32)) -> &[u8] {
    blocks.get(block as usize).and_then(|block| block.get(at as usize..)).unwrap_or_default()
}

fn key_at(blocks: &[Vec<u8>], place: (u32, u32)) -> &str {
    read_text(&mut rest_at(blocks, place)).unwrap_or_default()
}

fn write(out: &mut Vec<u8>, key: &str, slot: &Slot) {
    // All members by name: whoever adds one sees that it belongs here.
    let Slot { shard, facts, name, records, exports, removed, revisions, package } = slot;
    let ChannelPackage { version, licence, summary, timestamp } = package;
    let (count, stamps) = revisions.parts();
    write_text(out, key);
    out.extend_from_slice(shard.digest().as_bytes());
    write_maybe(out, facts.as_ref(), |out, facts| out.extend_from_slice(facts.digest().as_bytes()));
    out.extend_from_slice(name.as_bytes());
    for Sizes { classic, conda, v3 } in [records, exports] {
        write_number(out, *classic);
        write_number(out, *conda);
        write_number(out, v3.len() as u64);
        for (table, bytes) in v3 {
            write_text(out, table);
            write_number(out, *bytes);
        }
    }
    write_number(out, removed.len() as u64);
    removed.iter().for_each(|file| write_text(out, file));
    write_number(out, count);
    write_maybe(out, stamps, |out, (first, last)| {
        write_number(out, first.cast_unsigned());
        write_number(out, last.cast_unsigned());
    });
    write_text(out, version);
    write_maybe(out, licence.as_deref(), write_text);
    write_maybe(out, summary.as_deref(), write_text);
    write_maybe(out, *timestamp, |out, stamp| write_number(out, stamp.cast_unsigned()));
}

fn read_head(rest: &mut &[u8]) -> Option<Head> {
    let shard = Id::new(read_digest(rest)?);
    let facts = read_maybe(rest, |rest| Some(Id::new(read_digest(rest)?)))?;
    let name = read_digest(rest)?;
    let (records, exports) = (read_sizes(rest)?, read_sizes(rest)?);
    Some(Head { shard, facts, name, records, exports })
}

fn read(rest: &mut &[u8]) -> Option<Slot> {
    let Head { shard, facts, name, records, exports } = read_head(rest)?;
    let removed =
        (0..read_number(rest)?).map(|_| Some(read_text(rest)?.to_owned())).collect::<Option<_>>()?;
    let count = read_number(rest)?;
    let stamps = read_maybe(rest, |rest| Some((read_signed(rest)?, read_signed(rest)?)))?;
    let version = read_text(rest)?.into();
    let licence = read_maybe(rest, |rest| Some(read_text(rest)?.into()))?;
    let summary = read_maybe(rest, |rest| Some(read_text(rest)?.into()))?;
    let timestamp = read_maybe(rest, read_signed)?;
    Some(Slot {
        shard,
        facts,
        name,
        records,
        exports,
        removed,
        revisions: Revisions::of(count, stamps),
        package: ChannelPackage { version, licence, summary, timestamp },
    })
}

fn read_sizes(rest: &mut &[u8]) -> Option<Sizes> {
    let (classic, conda, count) = (read_number(rest)?, read_number(rest)?, read_number(rest)?);
    let table = |_| Some((read_text(rest)?.to_owned(), read_number(rest)?));
    let v3 = (0..count).map(table).collect::<Option<BTreeMap<_, _>>>()?;
    Some(Sizes { classic, conda, v3 })
}

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn read_number(rest: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = *rest.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
}

fn read_signed(rest: &mut &[u8]) -> Option<i64> {
    read_number(rest).map(u64::cast_signed)
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn read_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let bytes = usize::try_from(read_number(rest)?).ok()?;
    std::str::from_utf8(rest.split_off(..bytes)?).ok()
}

fn read_digest(rest: &mut &[u8]) -> Option<Digest> {
    Some(Digest::from_bytes(rest.split_off(..32)?.try_into().ok()?))
}

fn write_maybe<T>(out: &mut Vec<u8>, value: Option<T>, write: impl Fn(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        write(out, value);
    }
}

fn read_maybe<T>(rest: &mut &[u8], read: impl FnOnce(&mut &[u8]) -> Option<T>) -> Option<Option<T>> {
    match rest.split_off_first()? {
        0 => Some(None),
        _ => read(rest).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn sizes() -> impl Strategy<Value = Sizes> {
        let v3 = proptest::collection::btree_map("v3/[a-zé]{0,3}", any::<u64>(), 0..3);
        (any::<u64>(), 0u64..300, v3).prop_map(|(classic, conda, v3)| Sizes { classic, conda, v3 })
    }

    fn slot() -> impl Strategy<Value = Slot> {
        let ids = (any::<u8>(), option::of(any::<u8>()), any::<u8>());
        let removed = proptest::collection::btree_set("[a-zé]{0,200}", 0..3);
        let stamps = option::of((any::<i64>(), any::<i64>()));
        let text = || option::of("[ -~é]{0,200}");
        let package = ("[0-9.]{0,5}", text(), text(), option::of(any::<i64>()));
        (ids, sizes(), sizes(), removed, (any::<u64>(), stamps), package).prop_map(made)
    }

    type Made = (
        (u8, Option<u8>, u8),
        Sizes,
        Sizes,
        BTreeSet<String>,
        (u64, Option<(i64, i64)>),
        (String, Text, Text, Option<i64>),
    );
    type Text = Option<String>;

    fn made((ids, records, exports, removed, (count, stamps), package): Made) -> Slot {
        let digest = |n: u8| Digest::of(&[n]);
        let (version, licence, summary, timestamp) = package;
        Slot {
            shard: Id::new(digest(ids.0)),
            facts: ids.1.map(|n| Id::new(digest(n))),
            name: digest(ids.2),
            records,
            exports,
            removed,
            revisions: Revisions::of(count, stamps),
            package: ChannelPackage {
                version: version.into(),
                licence: licence.map(String::into),
                summary: summary.map(String::into),
                timestamp,
            },
        }
    }

    proptest! {
        #[test]
        fn slots_are_given_back_as_they_were_and_found_by_their_keys(
            slots in proptest::collection::vec(("[ab](-b)?", "[a-cé]{0,2}", slot()), 0..12),
            cut in 0usize..12,
        ) {
            // Each key once, in whatever order.
            let mut keys = BTreeSet::new();
            let keyed = slots.into_iter().map(|(subdir, name, slot)| (format!("{subdir}/{name}"), slot));
            let all: Vec<(String, Slot)> = keyed.filter(|(key, _)| keys.insert(key.clone())).collect();
            let (first, second) = all.split_at(cut.min(all.len()));
            let (mut held, mut others) = (Slots::default(), Slots::default());
            first.iter().for_each(|(key, slot)| held.push(key, slot));
            second.iter().for_each(|(key, slot)| others.push(key, slot));
            held.append(others);
            let given: Vec<(String, Slot)> = held.iter().map(|(key, slot)| (key.to_owned(), slot)).collect();
            prop_assert_eq!(&given, &all);
            held.sort();
            let sorted: BTreeMap<String, Slot> = all.into_iter().collect();
            prop_assert_eq!(held.len(), sorted.len());
            for (place, (key, slot)) in sorted.iter().enumerate() {
                prop_assert_eq!((held.find(key), held.key(place)), (Some(place), key.as_str()));
                let (found, head) = (held.get(place), held.head(place).unwrap());
                prop_assert_eq!(found.as_ref(), Some(slot));
                prop_assert_eq!((head.shard, head.facts, head.name), (slot.shard, slot.facts, slot.name));
                prop_assert_eq!((&head.records, &head.exports), (&slot.records, &slot.exports));
            }
            for prefix in ["a/", "b/", "a-b/", "c/"] {
                let here: Vec<&str> = held.heads(held.below(prefix)).map(|(key, _)| key).collect();
                let wanted: Vec<&str> =
                    sorted.keys().map(String::as_str).filter(|key| key.starts_with(prefix)).collect();
                prop_assert_eq!(here, wanted);
            }
            prop_assert_eq!((held.find("c/"), held.get(sorted.len())), (None, None));
            prop_assert!(held.head(sorted.len()).is_none());
        }
    }

    #[test]
    fn blocks_are_begun_where_the_last_is_full_and_hold_whatever_is_larger_than_one() {
        let mut slots = Slots::default();
        let keys = [BLOCK_BYTES / 2, BLOCK_BYTES / 2, 2 * BLOCK_BYTES, 10, 10].map(|bytes| "k".repeat(bytes));
        let slot = made((
            (0, None, 1),
            Sizes::default(),
            Sizes::default(),
            BTreeSet::new(),
            (0, None),
            Default::default(),
        ));
        keys.iter().for_each(|key| slots.push(key, &slot));
        assert_eq!(slots.blocks.len(), 4);
        assert!(
            slots.iter().map(|(key, slot)| (key.to_owned(), slot)).eq(keys.map(|key| (key, slot.clone())))
        );
    }
}
