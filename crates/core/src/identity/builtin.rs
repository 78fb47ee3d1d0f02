//! The rows that are built in: libraries and tools in C, C++, Go and Rust, which no map of PyPI names covers.
//!
//! A row is here only with evidence: the package under which purl2cpe names each of its CPE products, and for Bitnami
//! a record that names one of the products. `built_in_rows_have_their_evidence` compares with the data.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::{Identity, Mapping, Review};
use crate::advisory::MatchKey;
use crate::id::Digest;
use crate::version::Order;

const TABLE: &str = include_str!("builtin.tsv");
/// What evidence names as the source.
const PROVENANCE: &str = "built in";

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// The conda packages that are built from this upstream.
    pub names: Vec<&'a str>,
    /// How it numbers its releases.
    pub order: Order,
    /// Under which advisories about it stand.
    pub keys: Vec<MatchKey>,
    /// The purl of the upstream.
    pub upstream: &'a str,
}

/// All rows, in the order of the table.
pub fn rows() -> impl Iterator<Item = Row<'static>> {
    TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(row)
}

fn row(line: &str) -> Option<Row<'_>> {
    let mut columns = line.split('\t');
    let mut column = || columns.next();
    let (names, order, keys, upstream) = (column()?, column()?, column()?, column()?);
    Some(Row {
        names: names.split(',').collect(),
        order: Order::ALL.into_iter().find(|o| o.key() == order)?,
        keys: keys.split(' ').map(MatchKey::parse).collect::<Option<_>>()?,
        upstream,
    })
}

/// The rows by conda name.
pub fn identities() -> BTreeMap<String, Identity> {
    let mut out: BTreeMap<String, Identity> = BTreeMap::new();
    for row in rows() {
        let mapping = |key: &MatchKey| Mapping {
            key: key.clone(),
            order: row.order,
            provenance: PROVENANCE.to_owned(),
            review: Review::Verified,
        };
        let identity = Identity::of(row.keys.iter().map(mapping).collect());
        for name in row.names {
            out.entry(name.to_owned()).or_default().join(identity.clone());
        }
    }
    out
}

/// The table's name, by which a set of advisories says which one it was made with.
pub fn digest() -> Digest {
    static DIGEST: LazyLock<Digest> = LazyLock::new(|| Digest::of(TABLE.as_bytes()));
    *DIGEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_a_row_and_no_name_stands_twice() {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(rows().count(), lines);
        let mut names: Vec<&str> = rows().flat_map(|row| row.names).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), identities().len()), (all, all));
    }

    #[test]
    fn libraries_that_hide_behind_other_names_are_found() {
        let identities = identities();
        for (conda, key) in [
            ("libzlib", "cpe:zlib:zlib"),
            ("libwebp-base", "cpe:webmproject:libwebp"),
            ("liblzma", "cpe:tukaani:xz"),
            ("libsqlite", "cpe:sqlite:sqlite"),
            ("libcurl", "cpe:haxx:curl"),
            ("krb5", "cpe:mit:kerberos_5"),
            ("icu", "cpe:icu-project:international_components_for_unicode"),
            ("nodejs", "cpe:nodejs:node.js"),
            ("python", "osv:Bitnami/python"),
        ] {
            let found = identities.get(conda).map(|i| i.mappings.iter().any(|m| m.key.as_str() == key));
            assert_eq!(found, Some(true), "{conda}");
        }
    }
}
