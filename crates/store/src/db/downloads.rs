//! Who was sent which artifact, by day: what a denial reaches.
//!
//! It is no part of what is published or proven, so that it has no objects and no ledger: rows come in batches, grow by
//! counting, and go when they are old.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite, Transaction};

use airlock_core::id::Digest;
use airlock_core::time::Time;

use super::{BUSY, Db, ROWS_MAX, digest, is_kept};
use crate::boxed;
use crate::error::StoreError;

/// Rows that are removed in one transaction.
const REMOVED_AT_ONCE: i64 = 5000;
/// Rows in one statement that binds ten values for each.
const ROWS_AT_ONCE: usize = ROWS_MAX * 5;

/// What a client was sent on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// The channel.
    pub channel: String,
    /// Subdir and file for conda, the file for PyPI.
    pub artifact: String,
    /// What the bytes are.
    pub sha256: Digest,
    /// The day, counted from 1970 in UTC.
    pub day: i64,
    /// The client's address or its pseudonym; empty where it is not named.
    pub client: String,
    /// The account that it used, or its pseudonym; empty where there was none.
    pub account: String,
    /// The kind of program.
    pub agent: String,
    /// The first time on that day.
    pub first: Time,
    /// The last time.
    pub last: Time,
    /// How often.
    pub times: u64,
}

/// Which rows are asked for.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// One artifact of a channel.
    Artifact(&'a str, &'a str),
    /// These bytes, in whatever channel.
    Bytes(Digest),
}

/// How many rows may name clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownloadLimits {
    /// Rows of one day.
    pub day: u64,
    /// Rows of one client on one day.
    pub client: u64,
}

/// What is left of the limits: [`Db::download_room`].
#[derive(Clone, Debug)]
pub struct DownloadRoom {
    limits: DownloadLimits,
    days: BTreeMap<i64, Counted>,
}

#[derive(Clone, Debug, Default)]
struct Counted {
    all: u64,
    by_client: BTreeMap<String, u64>,
}

impl Counted {
    fn add(&mut self, client: String, rows: u64) {
        self.all = self.all.saturating_add(rows);
        *self.by_client.entry(client).or_default() += rows;
    }
}

impl DownloadRoom {
    /// Whether a row may be a new one; it counts as one then, though it may be there already.
    fn takes(&mut self, row: &Download) -> bool {
        // What names nobody is one row for a file, whoever fetches it: a client that makes many takes no room from others.
        if row.client.is_empty() && row.account.is_empty() {
            return true;
        }
        let counted = self.days.entry(row.day).or_default();
        let of_client = counted.by_client.get(&row.client).copied().unwrap_or(0);
        let takes = counted.all < self.limits.day && of_client < self.limits.client;
        if takes {
            counted.add(row.client.clone(), 1);
        }
        takes
    }
}

impl Db {
    /// How many rows name clients or accounts on some days, to be held against the limits.
    #[boxed]
    pub async fn download_room(
        &self,
        days: &BTreeSet<i64>,
        limits: DownloadLimits,
    ) -> Result<DownloadRoom, StoreError> {
        let mut room = DownloadRoom { limits, days: BTreeMap::new() };
        for day in days {
            // The index on days holds all of the key: no row is read.
            let rows = sqlx::query(
                "select client, count(*) as n from download where day = $1 and (client <> '' or account <> '') \
                 group by client",
            )
            .bind(day)
            .fetch_all(&self.pool)
            .await?;
            let counted = room.days.entry(*day).or_default();
            for row in &rows {
                counted.add(row.try_get("client")?, unsigned(row.try_get("n")?));
            }
        }
        Ok(room)
    }

    /// Adds a batch, all of it or nothing, and how many were lost by day. A day, or a client on a day, that has as many
    /// rows as `room` lets it takes no new ones that name a client: what comes is counted for nobody.
    #[boxed]
    pub async fn note_downloads(
        &self,
        batch: &[Download],
        lost: &BTreeMap<i64, u64>,
        room: &mut DownloadRoom,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let (fit, rest): (Vec<&Download>, Vec<&Download>) = batch.iter().partition(|row| room.takes(row));
        for chunk in fit.chunks(ROWS_AT_ONCE) {
            add(&mut tx, chunk).await?;
        }
        add_without_growing(&mut tx, &rest).await?;
        for (day, times) in lost {
            sqlx::query(
                "insert into download_lost (day, times) values ($1, $2) \
                 on conflict (day) do update set times = times + excluded.times",
            )
            .bind(day)
            .bind(signed(*times))
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// What was noted from a day on, oldest first, at most `most` rows.
    pub async fn downloads(
        &self,
        wanted: Wanted<'_>,
        since: i64,
        most: u32,
    ) -> Result<Vec<Download>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("select * from download where ");
        match wanted {
            Wanted::Artifact(channel, artifact) => {
                query.push("channel = ").push_bind(channel).push(" and artifact = ").push_bind(artifact)
            }
            Wanted::Bytes(sha256) => query.push("sha256 = ").push_bind(sha256.as_bytes().to_vec()),
        };
        query.push(" and day >= ").push_bind(since);
        query.push(" order by first_at, channel, artifact, client, account, agent limit ").push_bind(most);
        let rows = query.build().fetch_all(&self.pool).await?;
        rows.iter().map(read).collect()
    }

    /// The artifacts of a channel of which any download was noted, with what their bytes were.
    #[boxed]
    pub async fn downloaded(&self, channel: &str) -> Result<BTreeMap<String, BTreeSet<Digest>>, StoreError> {
        let rows = sqlx::query("select distinct artifact, sha256 from download where channel = $1")
            .bind(channel)
            .fetch_all(&self.pool)
            .await?;
        let mut out: BTreeMap<String, BTreeSet<Digest>> = BTreeMap::new();
        for row in &rows {
            out.entry(row.try_get("artifact")?).or_default().insert(digest(row, "sha256")?);
        }
        Ok(out)
    }

    /// How many downloads were not noted from a day on.
    #[boxed]
    pub async fn downloads_lost(&self, since: i64) -> Result<u64, StoreError> {
        let row = sqlx::query("select coalesce(sum(times), 0) from download_lost where day >= $1")
            .bind(since)
            .fetch_one(&self.pool)
            .await?;
        Ok(unsigned(row.try_get(0)?))
    }

    /// Removes what is of before a day, in short transactions; how many rows it were. Their bytes are overwritten in the
    /// database file.
    #[boxed]
    pub async fn end_downloads(&self, before: i64) -> Result<u64, StoreError> {
        let mut all = 0;
        while self.has_downloads(before).await? {
            let mut connection = self.pool.acquire().await?;
            sqlx::raw_sql("pragma secure_delete = on").execute(&mut *connection).await?;
            let done = sqlx::query(
                "delete from download where (channel, artifact, sha256, day, client, account, agent) in \
                 (select channel, artifact, sha256, day, client, account, agent from download where day < $1 limit $2)",
            )
            .bind(before)
            .bind(REMOVED_AT_ONCE)
            .execute(&mut *connection)
            .await;
            sqlx::raw_sql("pragma secure_delete = off").execute(&mut *connection).await?;
            all += done?.rows_affected();
            sqlx::query("delete from download_lost where day < $1")
                .bind(before)
                .execute(&mut *connection)
                .await?;
        }
        if all > 0 {
            self.empty_log().await?;
        }
        Ok(all)
    }

    /// Empties the log of changes, which holds what was there before; where somebody reads or writes, another time: waiting
    /// for a reader would hold up every writer meanwhile.
    async fn empty_log(&self) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        sqlx::raw_sql("pragma busy_timeout = 0").execute(&mut *connection).await?;
        let emptied = sqlx::raw_sql("pragma wal_checkpoint(truncate)").execute(&mut *connection).await;
        let patience = format!("pragma busy_timeout = {}", BUSY.as_millis());
        sqlx::raw_sql(sqlx::AssertSqlSafe(patience)).execute(&mut *connection).await?;
        match emptied {
            Err(sqlx::Error::Database(_)) | Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether there is anything to remove: a look that holds up no writer.
    async fn has_downloads(&self, before: i64) -> Result<bool, StoreError> {
        let row = sqlx::query("select 1 from download where day < $1 limit 1")
            .bind(before)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }
}

async fn add(tx: &mut Transaction<'static, Sqlite>, rows: &[&Download]) -> Result<(), StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "insert into download (channel, artifact, sha256, day, client, account, agent, first_at, last_at, times) ",
    );
    query.push_values(rows, |mut row, download| {
        row.push_bind(&download.channel)
            .push_bind(&download.artifact)
            .push_bind(download.sha256.as_bytes().to_vec())
            .push_bind(download.day)
            .push_bind(&download.client)
            .push_bind(&download.account)
            .push_bind(&download.agent)
            .push_bind(download.first.seconds())
            .push_bind(download.last.seconds())
            .push_bind(signed(download.times));
    });
    query.push(
        " on conflict (channel, artifact, sha256, day, client, account, agent) do update set \
         first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at), times = times + excluded.times",
    );
    query.build().persistent(is_kept(rows.len())).execute(&mut **tx).await?;
    Ok(())
}

/// Adds to the rows that are there, and what has none to the one that names nobody.
async fn add_without_growing(
    tx: &mut Transaction<'static, Sqlite>,
    rows: &[&Download],
) -> Result<(), StoreError> {
    for row in rows {
        let done = sqlx::query(
            "update download set first_at = min(first_at, $1), last_at = max(last_at, $2), times = times + $3 \
             where channel = $4 and artifact = $5 and sha256 = $6 and day = $7 and client = $8 and account = $9 and agent = $10",
        )
        .bind(row.first.seconds())
        .bind(row.last.seconds())
        .bind(signed(row.times))
        .bind(&row.channel)
        .bind(&row.artifact)
        .bind(row.sha256.as_bytes().to_vec())
        .bind(row.day)
        .bind(&row.client)
        .bind(&row.account)
        .bind(&row.agent)
        .execute(&mut **tx)
        .await?;
        if done.rows_affected() == 0 {
            // Nor by what it used, which a client chooses from a list.
            let nobody = Download {
                client: String::new(),
                account: String::new(),
                agent: "other".to_owned(),
                ..(*row).clone()
            };
            add(tx, &[&nobody]).await?;
        }
    }
    Ok(())
}

fn read(row: &SqliteRow) -> Result<Download, StoreError> {
    Ok(Download {
        channel: row.try_get("channel")?,
        artifact: row.try_get("artifact")?,
        sha256: digest(row, "sha256")?,
        day: row.try_get("day")?,
        client: row.try_get("client")?,
        account: row.try_get("account")?,
        agent: row.try_get("agent")?,
        first: Time::from_seconds(row.try_get("first_at")?),
        last: Time::from_seconds(row.try_get("last_at")?),
        times: unsigned(row.try_get("times")?),
    })
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
