//! The names of rendered shards: the hash of their packed bytes, by which clients ask for them.
//!
//! A row without an end is part of the newest snapshot; one that was superseded is readable for a while longer,
//! since clients cache the index that names it.

use std::collections::{BTreeMap, HashMap};

use sqlx::{QueryBuilder, Sqlite, Transaction};

use airlock_core::id::Digest;
use airlock_core::time::Time;

use super::{Db, ROWS_MAX, digest, is_kept};
use crate::boxed;
use crate::error::StoreError;

/// A name under which a rendered shard is readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardName {
    /// SHA-256 of the rendered bytes.
    pub name: Digest,
    /// The published shard that they were rendered from.
    pub shard: Digest,
}

/// What publishing changes about the names of one subdir.
#[derive(Clone, Debug)]
pub struct NameChange {
    /// The channel.
    pub channel: String,
    /// The subdir.
    pub subdir: String,
    /// The version of what rendered them.
    pub renderer: u32,
    /// The packages whose shard is another now, or none any more.
    pub packages: BTreeMap<String, Option<ShardName>>,
    /// Until when the superseded ones stay readable.
    pub until: Time,
}

/// Applies changes; a part of the transaction that moves the refs.
pub(super) async fn change(
    tx: &mut Transaction<'static, Sqlite>,
    changes: &[NameChange],
) -> Result<(), StoreError> {
    for change in changes {
        let packages: Vec<(&String, &Option<ShardName>)> = change.packages.iter().collect();
        for chunk in packages.chunks(ROWS_MAX) {
            supersede(tx, change, chunk).await?;
            let named = chunk.iter().filter_map(|(package, name)| Some((package, (**name)?)));
            let named: Vec<(&&String, ShardName)> = named.collect();
            if named.is_empty() {
                continue;
            }
            let rows = named.len();
            let mut query = QueryBuilder::<Sqlite>::new(
                "insert into shard_name (channel, subdir, name, package, renderer, shard) ",
            );
            query.push_values(named, |mut row, (package, name)| {
                row.push_bind(&change.channel)
                    .push_bind(&change.subdir)
                    .push_bind(name.name.as_bytes().to_vec())
                    .push_bind(package.as_str())
                    .push_bind(i64::from(change.renderer))
                    .push_bind(name.shard.as_bytes().to_vec());
            });
            query.push(
                " on conflict (channel, subdir, name) do update set until = null, package = excluded.package, \
                 renderer = excluded.renderer, shard = excluded.shard",
            );
            query.build().persistent(is_kept(rows)).execute(&mut **tx).await?;
        }
    }
    Ok(())
}

async fn supersede(
    tx: &mut Transaction<'static, Sqlite>,
    change: &NameChange,
    packages: &[(&String, &Option<ShardName>)],
) -> Result<(), StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new("update shard_name set until = ");
    query.push_bind(change.until.seconds());
    query.push(" where until is null and channel = ").push_bind(&change.channel);
    query.push(" and subdir = ").push_bind(&change.subdir);
    query.push(" and package in (");
    let mut list = query.separated(", ");
    for (package, _) in packages {
        list.push_bind(package.as_str());
    }
    list.push_unseparated(")");
    query.build().persistent(is_kept(packages.len())).execute(&mut **tx).await?;
    Ok(())
}

impl Db {
    /// The published shard behind the name of a rendered one, while that is readable.
    #[boxed]
    pub async fn named_shard(
        &self,
        channel: &str,
        subdir: &str,
        name: Digest,
        now: Time,
    ) -> Result<Option<Digest>, StoreError> {
        let row = sqlx::query(
            "select shard from shard_name where channel = $1 and subdir = $2 and name = $3 and (until is null or until > $4)",
        )
        .bind(channel)
        .bind(subdir)
        .bind(name.as_bytes().to_vec())
        .bind(now.seconds())
        .fetch_optional(&self.pool)
        .await?;
        row.map(|r| digest(&r, "shard")).transpose()
    }

    /// The names that shards were rendered to before, by shard.
    #[boxed]
    pub async fn rendered_names(
        &self,
        renderer: u32,
        shards: &[Digest],
    ) -> Result<HashMap<Digest, Digest>, StoreError> {
        let mut out = HashMap::new();
        for chunk in shards.chunks(ROWS_MAX) {
            let mut query =
                QueryBuilder::<Sqlite>::new("select shard, name from shard_name where renderer = ");
            query.push_bind(i64::from(renderer));
            query.push(" and shard in (");
            let mut list = query.separated(", ");
            for shard in chunk {
                list.push_bind(shard.as_bytes().to_vec());
            }
            list.push_unseparated(")");
            let query = query.build().persistent(is_kept(chunk.len()));
            for row in query.fetch_all(&self.pool).await? {
                out.insert(digest(&row, "shard")?, digest(&row, "name")?);
            }
        }
        Ok(out)
    }
}
