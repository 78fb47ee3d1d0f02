//! HTTP: package protocols and pages. The whole URL table stands in [`router`].

mod conda;
mod pages;
mod problem;
mod pypi;
mod respond;
mod urls;

use std::sync::Arc;

use airlock_engine::view::View;
use axum::Router;
use axum::routing::get;

/// What every handler works with.
pub struct App {
    /// The station.
    pub view: View,
}

/// Every URL that this station answers. `HEAD` is answered wherever `GET` is.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        // Package protocols. The rest of the path is parsed from the raw URL: it is decoded once, by us.
        .route("/conda/{*path}", get(conda::serve))
        .route("/pypi/{*path}", get(pypi::serve))
        .route("/t/{token}/conda/{*path}", get(conda::serve))
        .route("/t/{token}/pypi/{*path}", get(pypi::serve))
        // Pages for people, and the same as JSON for whoever asks for it.
        .route("/", get(pages::station))
        .route("/channels/{channel}", get(pages::channel))
        .route("/packages/{channel}/{name}", get(pages::package))
        .route("/packages/{channel}/{name}/{version}", get(pages::version))
        .route("/static/{file}", get(pages::asset))
        // Operations.
        .route("/healthz", get(respond::health))
        .route("/readyz", get(respond::ready))
        .fallback(problem::not_found)
        .with_state(app)
}
