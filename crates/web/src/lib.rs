//! HTTP: package protocols and pages. The whole URL table stands in [`router`].

mod app;
mod conda;
mod flight;
mod hot;
pub mod inbox;
mod memo;
mod osv;
mod pages;
mod problem;
mod pypi;
mod respond;
mod server;
mod urls;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};

pub use app::App;
pub use pages::{evidence, receipt};
pub use server::{Limits, Site, serve};

/// How often [`App::tidy`] is to be called.
pub const TIDY: Duration = Duration::from_secs(10);

/// Every URL that this station answers. `HEAD` is answered wherever `GET` is.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        // Package protocols. The rest of the path is parsed from the raw URL: it is decoded once, by us.
        .route("/conda/{*path}", get(conda::serve))
        .route("/pypi/{*path}", get(pypi::serve))
        .route("/t/{token}/conda/{*path}", get(conda::serve))
        .route("/t/{token}/pypi/{*path}", get(pypi::serve))
        // What is known of vulnerabilities, for scanners.
        .route("/osv/v1/query", post(osv::query))
        .route("/osv/v1/querybatch", post(osv::batch))
        .route("/osv/v1/vulns/{id}", get(osv::record))
        .route("/osv/{channel}/v1/query", post(osv::query_ruled))
        .route("/osv/{channel}/v1/querybatch", post(osv::batch_ruled))
        .route("/osv/{channel}/v1/vulns/{id}", get(osv::record_ruled))
        // Pages for people, and the same as JSON for whoever asks for it.
        .route("/", get(pages::station))
        // A channel may lie in the name of another: /channels/<channel>, /packages/<channel>/<name>[/<version>].
        .route("/channels/{*channel}", get(pages::channel))
        .route("/packages/{*path}", get(pages::package))
        .route("/static/{file}", get(pages::asset))
        // Operations.
        .route("/healthz", get(respond::health))
        .route("/readyz", get(respond::ready))
        .fallback(problem::not_found)
        .with_state(app)
}
