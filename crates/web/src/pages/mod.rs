//! Pages for people, and the same content as JSON for whoever prefers it.
//!
//! Each page answers one question in its first line. Nothing on a page runs, and no page asks anybody but
//! this station for anything. Links are relative, so that they survive a prefix.

mod asset;
mod bar;
mod basis;
mod channel;
mod findings;
mod format;
mod index;
mod install;
mod missing;
mod package;
mod read;
mod reply;
mod station;
mod version;

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;

use crate::App;
use reply::{Answer, Ask, Fault, finish};

pub(crate) use asset::asset;
pub(crate) use index::Indexes;

type Names<T> = Result<Path<T>, PathRejection>;
type Asked<T> = Result<Query<T>, QueryRejection>;

/// What the URL names, decoded. What cannot be decoded names nothing.
fn named<T>(path: Names<T>) -> Result<T, Fault> {
    path.map(|Path(names)| names).map_err(|_| missing::nothing().into())
}

/// `/`: is anything waiting for me, and is what I know fresh?
pub(crate) async fn station(State(app): State<Arc<App>>, ask: Ask) -> Response {
    let answer = station::page(&ask, &app.view).await;
    let answer = finish(&ask, &app.view, answer).await;
    index::warm(app);
    answer
}

/// `/channels/{channel}`: what is in here, and what was kept out?
pub(crate) async fn channel(
    State(app): State<Arc<App>>,
    ask: Ask,
    path: Names<String>,
    query: Asked<channel::Params>,
) -> Response {
    let params = query.map(|Query(params)| params).unwrap_or_default();
    let answer = async || -> Answer { channel::page(&ask, &app, &named(path)?, params).await };
    let answer = answer().await;
    finish(&ask, &app.view, answer).await
}

/// `/packages/{channel}/{name}`: which version may I install, how, and why not the others?
pub(crate) async fn package(
    State(app): State<Arc<App>>,
    ask: Ask,
    path: Names<(String, String)>,
    query: Asked<package::Params>,
) -> Response {
    let params = query.map(|Query(params)| params).unwrap_or_default();
    let answer = async || -> Answer {
        let (channel, name) = named(path)?;
        package::page(&ask, &app.view, &channel, &name, &params).await
    };
    let answer = answer().await;
    finish(&ask, &app.view, answer).await
}

/// `/packages/{channel}/{name}/{version}`: may I install this one, and why not?
pub(crate) async fn version(
    State(app): State<Arc<App>>,
    ask: Ask,
    path: Names<(String, String, String)>,
) -> Response {
    let answer = async || -> Answer {
        let (channel, name, version) = named(path)?;
        version::page(&ask, &app.view, &channel, &name, &version).await
    };
    let answer = answer().await;
    finish(&ask, &app.view, answer).await
}
