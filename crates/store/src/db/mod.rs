//! The database: objects, refs, the ledger, names of rendered shards.
//!
//! One text of SQL is meant for SQLite and PostgreSQL (`$1` placeholders, `on conflict`), so that the second one
//! can be added beside the first. Reads and writes of objects go in batches, since a point read costs a
//! tenth of a millisecond.

mod downloads;
mod names;
mod objects;
mod sweep;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Row, Sqlite, Transaction};

use airlock_core::canon::Canonical;
use airlock_core::id::Digest;
use airlock_core::ledger::{GENESIS, LedgerEntry, LedgerHead};
use airlock_core::time::Time;

use crate::boxed;
use crate::error::StoreError;

pub use downloads::{Download, DownloadLimits, DownloadRoom, Wanted};
pub use names::{NameChange, ShardName};
pub use sweep::Stored;

/// The layouts, oldest first. A database says in `user_version` how many of them it has.
const MIGRATIONS: [&str; 3] = [
    include_str!("../../migrations/sqlite/1.sql"),
    include_str!("../../migrations/sqlite/2.sql"),
    include_str!("../../migrations/sqlite/3.sql"),
];
/// Rows in one statement: SQLite takes 32,766 parameters at most.
const ROWS_MAX: usize = 500;

/// Whether a connection keeps the program of a statement over so many rows. A program is as long as its rows are many, each number
/// of rows has one of its own, and a connection keeps a hundred: together they took 17 MB. To make one anew costs little beside
/// what its rows do.
const fn is_kept(rows: usize) -> bool {
    rows == 1 || rows == ROWS_MAX
}

/// How long a writer waits for another process.
const BUSY: Duration = Duration::from_secs(60);
/// How long a task waits for one of the connections of its own process, behind others that wait for writers.
const POOL_WAIT: Duration = Duration::from_secs(600);

/// The database of a station.
#[derive(Clone, Debug)]
pub struct Db {
    pool: SqlitePool,
}

/// Moves one ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefChange {
    /// The ref.
    pub name: String,
    /// What it must point to now; none: it must not exist.
    pub from: Option<Digest>,
    /// What it will point to; none: it is removed.
    pub to: Option<Digest>,
}

/// A ledger entry before it has its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// What was done.
    pub action: String,
    /// To what.
    pub subject: String,
    /// The particulars.
    pub detail: Canonical,
}

/// Refs that move together, with the ledger entries that say so: all of it or nothing.
#[derive(Clone, Debug)]
pub struct Change {
    /// When.
    pub time: Time,
    /// Who.
    pub actor: String,
    /// The refs.
    pub refs: Vec<RefChange>,
    /// The entries.
    pub entries: Vec<NewEntry>,
    /// The rendered shards whose names change with the refs.
    pub names: Vec<NameChange>,
}

impl Db {
    /// Opens a database file and brings it to the newest layout.
    #[boxed]
    pub async fn open(path: &Path, create: bool) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(create)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // Not in files of some folder that the system has for that: a process may have given up to write there.
            .pragma("temp_store", "memory")
            // All rows of a statement: the thread that reads them waits for nobody to take one.
            .row_buffer_size(ROWS_MAX)
            .busy_timeout(BUSY);
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(POOL_WAIT)
            .connect_with(options)
            .await?;
        let db = Self { pool };
        db.migrate().await?;
        Ok(db)
    }

    /// Ends its connections, and the threads behind them. Whoever has it still is told that it is closed.
    #[boxed]
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let found: i64 = sqlx::query("pragma user_version").fetch_one(&mut *tx).await?.try_get(0)?;
        let known = MIGRATIONS.len() as i64;
        if found > known {
            return Err(StoreError::Newer { found, known });
        }
        for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
            sqlx::raw_sql(*migration).execute(&mut *tx).await?;
        }
        // A pragma takes no parameter; the number is that of the list above.
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("pragma user_version = {known}")))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// A transaction that may write: it waits for other writers now, not when it would be too late to.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.pool.begin_with("begin immediate").await?)
    }

    /// What a ref points to.
    #[boxed]
    pub async fn find_ref(&self, name: &str) -> Result<Option<Digest>, StoreError> {
        let row = sqlx::query("select object from ref where name = $1")
            .bind(name)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|r| digest(&r, "object")).transpose()
    }

    /// All refs whose name begins so, sorted.
    #[boxed]
    pub async fn refs(&self, prefix: &str) -> Result<BTreeMap<String, Digest>, StoreError> {
        let rows = sqlx::query("select name, object from ref where substr(name, 1, $1) = $2")
            .bind(prefix.chars().count() as i64)
            .bind(prefix)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| Ok((row.try_get("name")?, digest(row, "object")?))).collect()
    }

    /// Moves refs and writes the ledger in one transaction. If a ref does not point to what is expected,
    /// nothing happens and the answer is [`StoreError::Moved`].
    #[boxed]
    pub async fn commit(&self, change: &Change) -> Result<LedgerHead, StoreError> {
        let mut tx = self.write().await?;
        for moved in &change.refs {
            let row = sqlx::query("select object from ref where name = $1")
                .bind(&moved.name)
                .fetch_optional(&mut *tx)
                .await?;
            let found = row.map(|r| digest(&r, "object")).transpose()?;
            if found != moved.from {
                return Err(StoreError::Moved(moved.name.clone()));
            }
            if let Some(from) = moved.from.filter(|from| Some(*from) != moved.to) {
                // Somebody may be working with it still: it counts as wanted for a while longer.
                objects::touch(&mut tx, from).await?;
            }
            match moved.to {
                Some(to) => {
                    sqlx::query("insert into ref (name, object) values ($1, $2) on conflict (name) do update set object = excluded.object")
                        .bind(&moved.name)
                        .bind(to.as_bytes().to_vec())
                        .execute(&mut *tx)
                        .await?;
                }
                None => {
                    sqlx::query("delete from ref where name = $1")
                        .bind(&moved.name)
                        .execute(&mut *tx)
                        .await?;
                }
            }
        }
        names::change(&mut tx, &change.names).await?;
        let mut head = read_head(&mut tx).await?;
        for entry in &change.entries {
            head = append(&mut tx, head, change, entry).await?;
        }
        tx.commit().await?;
        Ok(head)
    }

    /// Where the ledger stands.
    #[boxed]
    pub async fn ledger_head(&self) -> Result<LedgerHead, StoreError> {
        let mut tx = self.pool.begin().await?;
        read_head(&mut tx).await
    }

    /// Ledger entries from `first` on, at most `most`, with the hash that is stored beside each.
    #[boxed]
    pub async fn ledger(&self, first: u64, most: u32) -> Result<Vec<(LedgerEntry, Digest)>, StoreError> {
        let rows = sqlx::query("select * from ledger where number >= $1 order by number limit $2")
            .bind(i64::try_from(first).unwrap_or(i64::MAX))
            .bind(i64::from(most))
            .fetch_all(&self.pool)
            .await?;
        let entry = |row: &sqlx::sqlite::SqliteRow| -> Result<(LedgerEntry, Digest), StoreError> {
            let detail: String = row.try_get("detail")?;
            let entry = LedgerEntry {
                number: u64::try_from(row.try_get::<i64, _>("number")?).unwrap_or(0),
                time: Time::from_seconds(row.try_get("time")?),
                actor: row.try_get("actor")?,
                action: row.try_get("action")?,
                subject: row.try_get("subject")?,
                detail: Canonical::parse(&detail)
                    .map_err(|e| StoreError::Corrupt(format!("a ledger entry: {e}")))?,
                previous: digest(row, "previous")?,
            };
            Ok((entry, digest(row, "hash")?))
        };
        rows.iter().map(entry).collect()
    }

    /// Ledger entries from `first` on, at most `most`, and no more of them than have `bytes` of particulars together; one at
    /// least. Others are not read.
    #[boxed]
    pub async fn ledger_within(
        &self,
        first: u64,
        most: u32,
        bytes: usize,
    ) -> Result<Vec<(LedgerEntry, Digest)>, StoreError> {
        let sizes = sqlx::query(
            "select octet_length(detail) as size from ledger where number >= $1 order by number limit $2",
        )
        .bind(i64::try_from(first).unwrap_or(i64::MAX))
        .bind(i64::from(most))
        .fetch_all(&self.pool)
        .await?;
        let (mut fit, mut all) = (0, 0usize);
        for row in &sizes {
            all = all.saturating_add(usize::try_from(row.try_get::<i64, _>("size")?).unwrap_or(usize::MAX));
            fit += u32::from(all <= bytes);
        }
        self.ledger(first, fit.max(1)).await
    }

    /// The time of the last ledger entry: no clock may say less.
    #[boxed]
    pub async fn last_time(&self) -> Result<Option<Time>, StoreError> {
        let row = sqlx::query("select time from ledger order by number desc limit 1")
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|r| r.try_get(0)).transpose()?.map(Time::from_seconds))
    }
}

fn digest(row: &sqlx::sqlite::SqliteRow, column: &str) -> Result<Digest, StoreError> {
    let bytes: Vec<u8> = row.try_get(column)?;
    let bytes: [u8; 32] =
        bytes.try_into().map_err(|_| StoreError::Corrupt(format!("a hash in column {column}")))?;
    Ok(Digest::from_bytes(bytes))
}

async fn read_head(tx: &mut Transaction<'_, Sqlite>) -> Result<LedgerHead, StoreError> {
    let row = sqlx::query("select number, hash from ledger order by number desc limit 1")
        .fetch_optional(&mut **tx)
        .await?;
    match row {
        None => Ok(LedgerHead { number: 0, hash: GENESIS }),
        Some(row) => {
            let number = u64::try_from(row.try_get::<i64, _>("number")?).unwrap_or(0);
            Ok(LedgerHead { number, hash: digest(&row, "hash")? })
        }
    }
}

async fn append(
    tx: &mut Transaction<'_, Sqlite>,
    head: LedgerHead,
    change: &Change,
    new: &NewEntry,
) -> Result<LedgerHead, StoreError> {
    let entry = LedgerEntry {
        number: head.number + 1,
        time: change.time,
        actor: change.actor.clone(),
        action: new.action.clone(),
        subject: new.subject.clone(),
        detail: new.detail.clone(),
        previous: head.hash,
    };
    let hash = entry.hash().map_err(|e| StoreError::Corrupt(e.to_string()))?;
    sqlx::query("insert into ledger (number, time, actor, action, subject, detail, previous, hash) values ($1, $2, $3, $4, $5, $6, $7, $8)")
        .bind(i64::try_from(entry.number).unwrap_or(i64::MAX))
        .bind(entry.time.seconds())
        .bind(&entry.actor)
        .bind(&entry.action)
        .bind(&entry.subject)
        .bind(entry.detail.as_str())
        .bind(entry.previous.as_bytes().to_vec())
        .bind(hash.as_bytes().to_vec())
        .execute(&mut **tx)
        .await?;
    Ok(LedgerHead { number: entry.number, hash })
}
