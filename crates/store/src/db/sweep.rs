//! What is there: for collecting what nothing needs. Every transaction is short, since SQLite has one writer.

use sqlx::{QueryBuilder, Row, Sqlite};

use airlock_core::id::Digest;
use airlock_core::time::Time;

use super::{Db, ROWS_MAX, digest, is_kept};
use crate::boxed;
use crate::error::StoreError;

/// Rows that are listed at once.
const LISTED_AT_ONCE: i64 = 20_000;

/// An object as it lies in the database; its bytes were not looked at.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Its name.
    pub id: Digest,
    /// When it was last written or touched, in seconds of the system's clock.
    pub born: i64,
    /// Its bytes, packed.
    pub size: u64,
}

impl Db {
    /// Every object, sorted by name.
    #[boxed]
    pub async fn inventory(&self) -> Result<Vec<Stored>, StoreError> {
        let mut out: Vec<Stored> = Vec::new();
        loop {
            let after = out.last().map_or(Vec::new(), |last| last.id.as_bytes().to_vec());
            let rows = sqlx::query(
                "select id, born, length(data) as size from object where id > $1 order by id limit $2",
            )
            .bind(after)
            .bind(LISTED_AT_ONCE)
            .fetch_all(&self.pool)
            .await?;
            let stored = |row: &sqlx::sqlite::SqliteRow| -> Result<Stored, StoreError> {
                let size = u64::try_from(row.try_get::<i64, _>("size")?).unwrap_or(0);
                Ok(Stored { id: digest(row, "id")?, born: row.try_get("born")?, size })
            };
            let end = (rows.len() as i64) < LISTED_AT_ONCE;
            out.extend(rows.iter().map(stored).collect::<Result<Vec<_>, _>>()?);
            if end {
                return Ok(out);
            }
        }
    }

    /// Removes those of these objects that nobody wrote or touched since `before`, in seconds of the system's clock: a
    /// touch at the same moment saves them. One short transaction; gives their number and bytes.
    #[boxed]
    pub async fn remove_old(&self, ids: &[Digest], before: i64) -> Result<(u64, u64), StoreError> {
        self.remove(ids, Some(before)).await
    }

    /// Removes objects whose bytes are not what their names say, so that they can be written again.
    #[boxed]
    pub async fn remove_damaged(&self, ids: &[Digest]) -> Result<u64, StoreError> {
        Ok(self.remove(ids, None).await?.0)
    }

    async fn remove(&self, ids: &[Digest], before: Option<i64>) -> Result<(u64, u64), StoreError> {
        let (mut count, mut bytes) = (0, 0);
        let mut tx = self.write().await?;
        for chunk in ids.chunks(ROWS_MAX) {
            let mut query = QueryBuilder::<Sqlite>::new("delete from object where id in (");
            let mut list = query.separated(", ");
            for id in chunk {
                list.push_bind(id.as_bytes().to_vec());
            }
            list.push_unseparated(")");
            if let Some(before) = before {
                query.push(" and born < ").push_bind(before);
            }
            query.push(" returning length(data) as size");
            let query = query.build().persistent(is_kept(chunk.len()));
            for row in query.fetch_all(&mut *tx).await? {
                count += 1;
                bytes += u64::try_from(row.try_get::<i64, _>("size")?).unwrap_or(0);
            }
        }
        tx.commit().await?;
        Ok((count, bytes))
    }

    /// The published shards that are readable under a name of their own.
    #[boxed]
    pub async fn named_shards(&self, now: Time) -> Result<Vec<Digest>, StoreError> {
        let rows = sqlx::query("select distinct shard from shard_name where until is null or until > $1")
            .bind(now.seconds())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| digest(row, "shard")).collect()
    }

    /// Removes names of shards that are readable no longer, some at once; how many it were.
    #[boxed]
    pub async fn end_names(&self, now: Time) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query(
            "delete from shard_name where (channel, subdir, name) in \
             (select channel, subdir, name from shard_name where until <= $1 limit $2)",
        )
        .bind(now.seconds())
        .bind(ROWS_MAX as i64)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }

    /// Bytes of the database file that hold nothing: they are used again before it grows.
    #[boxed]
    pub async fn free_bytes(&self) -> Result<u64, StoreError> {
        let pages: i64 = sqlx::query("pragma freelist_count").fetch_one(&self.pool).await?.try_get(0)?;
        let size: i64 = sqlx::query("pragma page_size").fetch_one(&self.pool).await?.try_get(0)?;
        Ok(u64::try_from(pages.saturating_mul(size)).unwrap_or(0))
    }
}
