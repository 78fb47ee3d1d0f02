//! What somebody does who has the database in hand: changes it past the program.

use airlock_core::id::{Digest, Id};
use airlock_core::object::{self, Object};
use airlock_engine::station::Station;
use sqlx::Connection as _;

/// Runs a statement on a station's database.
pub async fn tamper(station: &Station, statement: &str) {
    let path = station.dir.join("airlock.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = sqlx::sqlite::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Puts another object under the name of one that is there.
pub async fn put_under<T: Object>(station: &Station, id: Id<T>, other: &T) {
    let bytes = airlock_core::hex::encode(&object::encode(other).unwrap().1.bytes);
    let statement = format!("update object set packed = 0, data = x'{bytes}' where id = x'{}'", id.digest());
    tamper(station, &statement).await;
}

/// Points a ref at something else, and says so nowhere.
pub async fn point(station: &Station, name: &str, to: Digest) {
    tamper(station, &format!("update ref set object = x'{to}' where name = '{name}'")).await;
}
