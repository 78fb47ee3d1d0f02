//! Telling the download log who was sent what.

use std::net::IpAddr;
use std::sync::Arc;

use airlock_engine::downloads::{Client, Served, account, agent};
use axum::http::header::USER_AGENT;
use axum::http::{HeaderMap, HeaderValue};

use super::Asked;
use crate::App;

/// The addresses that a request went through, as proxies add them.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Notes that a file, or a part of it, goes out. It costs next to nothing, and never waits.
pub(super) fn note(app: &App, served: &Arc<Served>, asked: Asked<'_>) {
    let Some(log) = &app.downloads else { return };
    let headers = asked.headers;
    let peer = asked.peer.map(|peer| peer.0.to_canonical());
    let is_proxied = peer.is_some_and(|peer| app.proxies.contains(&peer));
    // A proxy that sets no such header hands on whatever the client wrote there: only who says that it does is believed.
    let account_header = &app.view.station().config.downloads.account_header;
    let client = Client {
        address: if is_proxied { forwarded(headers, &app.proxies).or(peer) } else { peer },
        account: is_proxied.then(|| named(headers, account_header.as_deref()?)).flatten(),
        agent: text(headers, USER_AGENT.as_str()).map_or("other", agent),
    };
    log.note(served, client, app.view.station().clock());
}

/// The account that a header names; none where it stands more than once, for then a client may have written one.
fn named(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut all = headers.get_all(name).iter();
    let (Some(one), None) = (all.next(), all.next()) else { return None };
    account(one.to_str().ok()?)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The last address before our own proxies: what stands further in front, anybody may have written, in whatever bytes.
fn forwarded(headers: &HeaderMap, proxies: &[IpAddr]) -> Option<IpAddr> {
    let lines: Vec<&[u8]> = headers.get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    let parts = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    let mut addresses = parts.map(|part| {
        std::str::from_utf8(part)
            .ok()
            .and_then(|text| text.trim().parse::<IpAddr>().ok())
            .map(|a| a.to_canonical())
    });
    addresses.find(|one| one.is_none_or(|address| !proxies.contains(&address)))?
}
