//! Telling the download log who was sent what.

use std::net::IpAddr;
use std::sync::Arc;

use airlock_engine::downloads::{Client, Served, account, agent};
use axum::http::HeaderMap;
use axum::http::header::USER_AGENT;

use super::Asked;
use crate::App;

/// The addresses that a request went through, as proxies add them.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// Whom a proxy with logins let in.
const FORWARDED_USER: &str = "x-forwarded-user";

/// Notes that a file, or the first part of it, goes out. It costs next to nothing, and never waits.
pub(super) fn note(app: &App, served: &Arc<Served>, asked: Asked<'_>) {
    let Some(log) = &app.downloads else { return };
    let headers = asked.headers;
    let peer = asked.peer.map(|peer| peer.0.to_canonical());
    let is_proxied = peer.is_some_and(|peer| app.proxies.contains(&peer));
    let client = Client {
        address: if is_proxied { forwarded(headers, &app.proxies).or(peer) } else { peer },
        account: text(headers, FORWARDED_USER).filter(|_| is_proxied).and_then(account),
        agent: text(headers, USER_AGENT.as_str()).map_or("other", agent),
    };
    log.note(served, client, app.view.station().clock());
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The last address before our own proxies: what stands further in front, anybody may have written.
fn forwarded(headers: &HeaderMap, proxies: &[IpAddr]) -> Option<IpAddr> {
    let lines: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok()).collect();
    let addresses = lines.iter().rev().flat_map(|line| line.rsplit(','));
    let mut addresses = addresses.map(|one| one.trim().parse::<IpAddr>().map(|a| a.to_canonical()));
    addresses.find(|one| one.as_ref().map_or(true, |a| !proxies.contains(a)))?.ok()
}
