//! Maps in the order of their keys, read and walked along together. A channel has hundreds of thousands of files, whose names
//! differ only far behind, so that looking each up from the top costs more than what is done with it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::iter::Peekable;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// Look-ups in a map by keys that grow: each goes on where the last one stopped. Keys in another order are found as well.
#[derive(Debug)]
pub struct Forward<'a, V> {
    map: &'a BTreeMap<String, V>,
    rest: Peekable<btree_map::Iter<'a, String, V>>,
    passed: Option<&'a str>,
}

impl<'a, V> Forward<'a, V> {
    /// From the beginning of `map`.
    pub fn new(map: &'a BTreeMap<String, V>) -> Self {
        Self { map, rest: map.iter().peekable(), passed: None }
    }

    /// The value under this key.
    pub fn get(&mut self, key: &str) -> Option<&'a V> {
        if self.passed.is_some_and(|passed| key <= passed) {
            return self.map.get(key);
        }
        while let Some((at, value)) = self.rest.peek().copied() {
            match at.as_str().cmp(key) {
                Ordering::Less => self.passed = Some(at),
                Ordering::Equal => return Some(value),
                Ordering::Greater => return None,
            }
            self.rest.next();
        }
        None
    }
}

/// Every key of two maps, in order, with what each has under it.
pub fn both<'a, A, B>(
    left: &'a BTreeMap<String, A>,
    right: &'a BTreeMap<String, B>,
) -> impl Iterator<Item = (&'a String, Option<&'a A>, Option<&'a B>)> {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (left.peek(), right.peek()) {
            (Some((left, _)), Some((right, _))) => left.cmp(right),
            (Some(_), None) => Ordering::Less,
            _ => Ordering::Greater,
        };
        let of_left = left.next_if(|_| order.is_le());
        let of_right = right.next_if(|_| order.is_ge());
        let key = of_left.map(|(key, _)| key).or(of_right.map(|(key, _)| key))?;
        Some((key, of_left.map(|(_, value)| value), of_right.map(|(_, value)| value)))
    })
}

/// For `#[serde(deserialize_with = "ordered::read")]`: a map whose keys stand in order, as in every object, is built without
/// looking for the place of each. Any other order gives the same map.
pub fn read<'de, D, V>(deserializer: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    struct Members<V>(PhantomData<V>);

    impl<'de, V: Deserialize<'de>> Visitor<'de> for Members<V> {
        type Value = Vec<(String, V)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut out = Vec::new();
            while let Some(member) = map.next_entry()? {
                out.push(member);
            }
            Ok(out)
        }
    }

    // The standard library builds a map from what is sorted in one go; of a key that stands twice the last one counts.
    deserializer.deserialize_map(Members(PhantomData)).map(|members| members.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map() -> impl Strategy<Value = BTreeMap<String, u8>> {
        proptest::collection::btree_map("[a-c]{0,3}", any::<u8>(), 0..20)
    }

    proptest! {
        #[test]
        fn looking_up_in_any_order_finds_what_is_there(map in map(), keys in proptest::collection::vec("[a-c]{0,3}", 0..40)) {
            let mut forward = Forward::new(&map);
            for key in &keys {
                prop_assert_eq!(forward.get(key), map.get(key));
            }
            let mut forward = Forward::new(&map);
            for (key, value) in &map {
                prop_assert_eq!((forward.get(key), forward.get(key)), (Some(value), Some(value)));
            }
        }

        #[test]
        fn two_maps_together_have_every_key_once_and_in_order(left in map(), right in map()) {
            let keys: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            let expected: Vec<_> = keys.into_iter().map(|key| (key, left.get(key), right.get(key))).collect();
            prop_assert_eq!(both(&left, &right).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn a_map_is_read_as_any_other(members in proptest::collection::vec(("[a-c]{0,2}", any::<u8>()), 0..20)) {
            let text: Vec<String> = members.iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
            let text = format!("{{{}}}", text.join(","));
            let plain: BTreeMap<String, u8> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read(&mut serde_json::Deserializer::from_str(&text)).unwrap(), plain);
        }
    }
}
