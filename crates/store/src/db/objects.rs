//! Objects: immutable, named by their hash.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sqlx::{QueryBuilder, Row, Sqlite, Transaction};

use airlock_core::id::{Digest, Id};
use airlock_core::object::{self, Encoded, Object};

use super::{Db, ROWS_MAX, digest, is_kept};
use crate::boxed;
use crate::error::StoreError;
use crate::pack::Packed;

/// The system's time in seconds. It tells how long ago something was written, for collecting what is left over; the
/// station's clock, which may stand still, tells everything else.
fn written_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Notes that somebody wants an object.
pub(super) async fn touch(tx: &mut Transaction<'_, Sqlite>, id: Digest) -> Result<(), StoreError> {
    let now = written_now();
    sqlx::query("update object set born = $1 where id = $2 and born < $1")
        .bind(now)
        .bind(id.as_bytes().to_vec())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

impl Db {
    /// Writes objects; those that are there already are left alone, but for the note that somebody wants them.
    #[boxed]
    pub async fn put_many(&self, objects: &[Encoded]) -> Result<(), StoreError> {
        let packed = objects.iter().map(Packed::of).collect::<Result<Vec<_>, _>>()?;
        self.put_packed(packed).await
    }

    /// The same for objects that are packed already.
    #[boxed]
    pub async fn put_packed(&self, mut objects: Vec<Packed>) -> Result<(), StoreError> {
        if objects.is_empty() {
            return Ok(());
        }
        // In the order of the index, of which each page is then touched once.
        objects.sort_unstable_by_key(|object| object.digest);
        let born = written_now();
        let mut tx = self.write().await?;
        let mut rest = objects.into_iter().peekable();
        while rest.peek().is_some() {
            let mut query = QueryBuilder::<Sqlite>::new("insert into object (id, packed, data, born) ");
            let mut rows = 0;
            query.push_values(rest.by_ref().take(ROWS_MAX), |mut row, object| {
                rows += 1;
                row.push_bind(object.digest.as_bytes().to_vec())
                    .push_bind(i64::from(object.packed))
                    .push_bind(object.data)
                    .push_bind(born);
            });
            query.push(" on conflict (id) do update set born = excluded.born where born < excluded.born");
            query.build().persistent(is_kept(rows)).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Notes that somebody is about to refer to these objects: they, and all that they lead to, are not collected for a
    /// while.
    #[boxed]
    pub async fn touch_many(&self, ids: &[Digest]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for id in ids {
            touch(&mut tx, *id).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Reads the bytes of objects; those that are not there are absent from the answer.
    #[boxed]
    pub async fn get_many(&self, ids: &[Digest]) -> Result<HashMap<Digest, Arc<[u8]>>, StoreError> {
        let mut out = HashMap::with_capacity(ids.len());
        for packed in self.get_packed(ids).await? {
            out.insert(packed.digest, packed.unpack()?.into());
        }
        Ok(out)
    }

    /// Reads objects and leaves the unpacking to the caller; those that are not there are absent from the answer.
    #[boxed]
    pub async fn get_packed(&self, ids: &[Digest]) -> Result<Vec<Packed>, StoreError> {
        let mut out = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(ROWS_MAX) {
            let mut query = QueryBuilder::<Sqlite>::new("select id, packed, data from object where id in (");
            let mut list = query.separated(", ");
            for id in chunk {
                list.push_bind(id.as_bytes().to_vec());
            }
            list.push_unseparated(")");
            let query = query.build().persistent(is_kept(chunk.len()));
            for row in query.fetch_all(&self.pool).await? {
                let packed = row.try_get::<i64, _>("packed")? != 0;
                out.push(Packed { digest: digest(&row, "id")?, packed, data: row.try_get("data")? });
            }
        }
        Ok(out)
    }

    /// Which of these objects are here.
    #[boxed]
    pub async fn present(&self, ids: &[Digest]) -> Result<HashSet<Digest>, StoreError> {
        let mut out = HashSet::with_capacity(ids.len());
        for chunk in ids.chunks(ROWS_MAX) {
            let mut query = QueryBuilder::<Sqlite>::new("select id from object where id in (");
            let mut list = query.separated(", ");
            for id in chunk {
                list.push_bind(id.as_bytes().to_vec());
            }
            list.push_unseparated(")");
            let query = query.build().persistent(is_kept(chunk.len()));
            for row in query.fetch_all(&self.pool).await? {
                out.insert(digest(&row, "id")?);
            }
        }
        Ok(out)
    }

    /// Reads one object.
    pub async fn get<T: Object>(&self, id: Id<T>) -> Result<T, StoreError> {
        let bytes = self.get_many(&[id.digest()]).await?.remove(&id.digest());
        Ok(object::decode(&bytes.ok_or(StoreError::MissingObject(id.digest()))?)?)
    }

    /// Writes one object.
    pub async fn put<T: Object>(&self, value: &T) -> Result<Id<T>, StoreError> {
        let (id, encoded) = object::encode(value)?;
        self.put_many(&[encoded]).await?;
        Ok(id)
    }
}
