//! Pages for people, and the same content as JSON for whoever prefers it.
//!
//! Each page answers one question in its first line. Nothing on a page runs, and no page asks anybody but
//! this station for anything. Links are relative, so that they survive a prefix.

mod asset;
mod bar;
mod basis;
mod channel;
mod evidence;
mod findings;
mod format;
mod index;
mod install;
mod missing;
mod package;
mod read;
mod receipt;
mod reply;
mod station;
mod version;

use std::sync::Arc;

use airlock_engine::view::View;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;

use crate::App;
use reply::{Answer, Ask, Fault, finish};

pub(crate) use asset::asset;
pub use evidence::evidence;
pub(crate) use index::Indexes;
pub use receipt::receipt;

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

/// `/channels/<channel>`: what is in here, and what was kept out?
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

/// `/packages/<channel>/<name>`: which version may I install, how, and why not the others? And with `/<version>` behind it:
/// may I install this one, and why not?
pub(crate) async fn package(
    State(app): State<Arc<App>>,
    ask: Ask,
    path: Names<String>,
    query: Asked<package::Params>,
) -> Response {
    let params = query.map(|Query(params)| params).unwrap_or_default();
    let answer = async || -> Answer {
        let path = named(path)?;
        let segments: Vec<&str> = path.split('/').collect();
        let channel = channel_of(&app.view, &segments).await?;
        match segments.get(channel.split('/').count()..).unwrap_or_default() {
            [name] => package::page(&ask, &app.view, &channel, name, &params).await,
            [name, version] => version::page(&ask, &app.view, &channel, name, version).await,
            _ => Err(missing::nothing().into()),
        }
    };
    let answer = answer().await;
    finish(&ask, &app.view, answer).await
}

/// The channel at the beginning of a path to a package or a version of one. Where that may be a child or a package of its
/// parent, it is the one that knows the package, and of two that do the child.
async fn channel_of(view: &View, segments: &[&str]) -> Result<String, Fault> {
    let mut there = Vec::new();
    for behind in [1, 2] {
        let Some(at) = segments.len().checked_sub(behind).filter(|at| *at > 0) else { continue };
        let (parts, rest) = segments.split_at(at);
        if let (Some(channel), Some(package)) = (view.channel(&parts.join("/")).await?, rest.first()) {
            there.push((channel, *package));
        }
    }
    let mut found = there.first();
    if there.len() > 1 {
        for one in &there {
            if read::knows(view, &one.0, one.1).await? {
                found = Some(one);
                break;
            }
        }
    }
    Ok(found.map_or_else(
        || segments.first().copied().unwrap_or_default().to_owned(),
        |(channel, _)| channel.channel.name.clone(),
    ))
}
