//! The style sheet and the icon, which are part of the program.

use std::sync::LazyLock;

use airlock_core::id::Digest;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::reply::dressed;

pub(super) const CSS: &str = include_str!("../../assets/airlock.css");
const ICON: &str = include_str!("../../assets/icon.svg");

/// The links carry the content's hash, so that a browser never has to ask again.
const FOREVER: &str = "public, max-age=31536000, immutable";

static CSS_LINK: LazyLock<String> = LazyLock::new(|| link("airlock.css", CSS));
static ICON_LINK: LazyLock<String> = LazyLock::new(|| link("icon.svg", ICON));

fn link(file: &str, text: &str) -> String {
    format!("static/{file}?v={}", Digest::of(text.as_bytes()).short())
}

/// The path of the style sheet below the station, with its hash.
pub(super) fn css_link() -> &'static str {
    &CSS_LINK
}

/// The path of the icon below the station, with its hash.
pub(super) fn icon_link() -> &'static str {
    &ICON_LINK
}

/// Serves one of them.
pub(crate) async fn asset(Path(file): Path<String>, headers: HeaderMap) -> Response {
    let (kind, text) = match file.as_str() {
        "airlock.css" => ("text/css; charset=utf-8", CSS),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return dressed((StatusCode::NOT_FOUND, "there is no such file").into_response()),
    };
    let tag = format!("\"{}\"", Digest::of(text.as_bytes()).short());
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let common = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, FOREVER.to_owned())];
    let is_known = known.is_some_and(|k| k.split(',').any(|t| t.trim().trim_start_matches("W/") == tag));
    dressed(if is_known {
        (StatusCode::NOT_MODIFIED, common).into_response()
    } else {
        (common, [(header::CONTENT_TYPE, kind)], text).into_response()
    })
}
