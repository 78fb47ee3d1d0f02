//! The OSV API (1.0) over the station's own advisories, `/osv/v1/...`, for `pip-audit --osv-url` and
//! `uv audit --service-url`.

use std::sync::Arc;
use std::time::Duration;

use airlock_core::advisory::AdvisorySet;
use airlock_engine::error::{Error, Kind};
use airlock_engine::osv::{self, Affecting, Package};
use airlock_engine::view::ChannelView;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::App;
use crate::problem::Problem;

/// The body of a question, in bytes.
const BODY_BYTES_MAX: usize = 256 << 10;
/// How long a client may take to send it.
const BODY_WAIT: Duration = Duration::from_secs(30);
/// Questions in one batch, as at the original.
const QUERIES_MAX: usize = 1000;
/// A version, in bytes.
const VERSION_BYTES_MAX: usize = 200;
/// Records that one answer names; more are on further pages.
const NAMED_MAX: usize = 1000;
/// Bytes of whole records in one answer, about; more are on further pages.
const RECORDS_BYTES_MAX: usize = 4 << 20;

/// One question.
#[derive(Deserialize)]
struct Query {
    package: Option<Asked>,
    version: Option<String>,
    commit: Option<String>,
    page_token: Option<String>,
}

#[derive(Deserialize)]
struct Asked {
    name: Option<String>,
    ecosystem: Option<String>,
    purl: Option<String>,
}

#[derive(Deserialize)]
struct Batch {
    queries: Vec<Query>,
}

/// `POST /osv/v1/query`: the records that affect a package, whole.
pub async fn query(State(app): State<Arc<App>>, body: Body) -> Result<Response, Problem> {
    answer_query(&app, None, body).await
}

/// `POST /osv/CHANNEL/v1/query`: the same without what was ruled not to matter in a channel.
pub async fn query_ruled(
    State(app): State<Arc<App>>,
    Path(channel): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    answer_query(&app, Some(&channel), body).await
}

async fn answer_query(app: &App, channel: Option<&str>, body: Body) -> Result<Response, Problem> {
    let query: Query = read(body).await?;
    let known = Known::of(app, channel).await?;
    let set = &known.set;
    let (found, rest) = known.ask(&query).await?;
    let (mut vulns, mut bytes, mut answered) = (Vec::new(), 0, 0);
    let ids: Vec<&String> = found.records.keys().skip(rest).collect();
    for id in &ids {
        if bytes >= RECORDS_BYTES_MAX {
            break;
        }
        answered += 1;
        let Some(record) = osv::record(&app.view, set, id).await? else { continue };
        bytes += record.to_string().len();
        vulns.push(record);
    }
    let more = (answered < ids.len()).then_some(rest + answered);
    Ok(answer(&Value::Object(page(vulns, more, &found))))
}

/// `POST /osv/v1/querybatch`: the records that affect some packages, by id.
pub async fn batch(State(app): State<Arc<App>>, body: Body) -> Result<Response, Problem> {
    answer_batch(&app, None, body).await
}

/// `POST /osv/CHANNEL/v1/querybatch`: the same without what was ruled not to matter in a channel.
pub async fn batch_ruled(
    State(app): State<Arc<App>>,
    Path(channel): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    answer_batch(&app, Some(&channel), body).await
}

async fn answer_batch(app: &App, channel: Option<&str>, body: Body) -> Result<Response, Problem> {
    let batch: Batch = read(body).await?;
    if batch.queries.len() > QUERIES_MAX {
        return Err(wrong(&format!("a batch has at most {QUERIES_MAX} queries")));
    }
    let known = Known::of(app, channel).await?;
    let mut results = Vec::with_capacity(batch.queries.len());
    let mut room = NAMED_MAX;
    for query in &batch.queries {
        let (found, rest) = known.ask(query).await?;
        let named = found.records.iter().skip(rest).take(room);
        let vulns: Vec<Value> =
            named.map(|(id, modified)| json!({ "id": id, "modified": modified })).collect();
        room -= vulns.len();
        let reached = rest + vulns.len();
        let more = (reached < found.records.len()).then_some(reached);
        results.push(Value::Object(page(vulns, more, &found)));
    }
    Ok(answer(&json!({ "results": results })))
}

/// `GET /osv/v1/vulns/ID`: one record.
pub async fn record(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, Problem> {
    answer_record(&app, &id).await
}

/// `GET /osv/CHANNEL/v1/vulns/ID`: the same; what people ruled changes no record.
pub async fn record_ruled(
    State(app): State<Arc<App>>,
    Path((channel, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    Known::of(&app, Some(&channel)).await?;
    answer_record(&app, &id).await
}

async fn answer_record(app: &App, id: &str) -> Result<Response, Problem> {
    let known = Known::of(app, None).await?;
    match osv::record(&app.view, &known.set, id).await? {
        Some(record) => Ok(answer(&record)),
        None => Err(Problem::not_found("no feed of this station has a record of this id")),
    }
}

/// What a question is answered from.
struct Known<'a> {
    app: &'a App,
    set: Arc<AdvisorySet>,
    /// The channel whose rulings count.
    channel: Option<ChannelView>,
}

impl<'a> Known<'a> {
    async fn of(app: &'a App, channel: Option<&str>) -> Result<Self, Problem> {
        let set = osv::known(&app.view).await.map_err(|error| match error.kind {
            Kind::No => Problem::new(StatusCode::SERVICE_UNAVAILABLE, &error.message),
            _ => error.into(),
        })?;
        let channel = match channel {
            Some(name) => Some(app.view.channel(name).await?.ok_or_else(|| {
                Problem::not_found("there is no channel of this name, or it was never filled")
            })?),
            None => None,
        };
        Ok(Self { app, set, channel })
    }

    /// What affects the package of a question, and how many records of it were answered before.
    async fn ask(&self, query: &Query) -> Result<(Affecting, usize), Problem> {
        if query.commit.is_some() {
            return Err(wrong("commits are not known here; ask for a package and its version"));
        }
        let asked = query.package.as_ref().ok_or_else(|| wrong("a query names a package"))?;
        let package = asked.package(query.version.as_deref())?;
        let rest = match query.page_token.as_deref() {
            None | Some("") => 0,
            Some(token) => token.parse().map_err(|_| wrong("this page_token was not given here"))?,
        };
        let found = osv::affecting(&self.app.view, &self.set, &package, self.channel.as_ref()).await;
        let found = found.map_err(|error: Error| match error.kind {
            Kind::Usage => wrong(&error.message),
            _ => error.into(),
        })?;
        Ok((found, rest))
    }
}

impl Asked {
    fn package(&self, version: Option<&str>) -> Result<Package, Problem> {
        let version = version.filter(|v| !v.is_empty());
        let short = |version: Option<&str>| match version {
            Some(v) if v.len() > VERSION_BYTES_MAX => {
                Err(wrong(&format!("a version has at most {VERSION_BYTES_MAX} bytes")))
            }
            version => Ok(version.map(str::to_owned)),
        };
        if let (Some(name), Some(ecosystem)) = (&self.name, &self.ecosystem) {
            return Ok(Package {
                ecosystem: ecosystem.clone(),
                name: name.clone(),
                version: short(version)?,
            });
        }
        let purl =
            self.purl.as_deref().ok_or_else(|| wrong("a package has a name and an ecosystem, or a purl"))?;
        let purl: packageurl::PackageUrl<'_> =
            purl.parse().map_err(|e| wrong(&format!("`{purl}` is no purl: {e}")))?;
        let ecosystem = match purl.ty() {
            "pypi" => "PyPI",
            "cran" => "CRAN",
            "bitnami" => "Bitnami",
            "conda" => "conda",
            other => {
                return Err(wrong(&format!(
                    "purls of the type `{other}` are not known here; give ecosystem and name"
                )));
            }
        };
        if version.is_some() && purl.version().is_some() {
            return Err(wrong("the version stands in the purl and beside it"));
        }
        let version = short(version.or(purl.version()))?;
        Ok(Package { ecosystem: ecosystem.to_owned(), name: purl.name().to_owned(), version })
    }
}

/// One page of an answer. Beside what OSV says it tells how well the package is covered.
fn page(vulns: Vec<Value>, more: Option<usize>, found: &Affecting) -> Map<String, Value> {
    let mut out = Map::new();
    // The original leaves an empty list out; pip-audit takes that only where nothing else stands in the answer.
    out.insert("vulns".to_owned(), Value::Array(vulns));
    if let Some(more) = more {
        out.insert("next_page_token".to_owned(), more.to_string().into());
    }
    out.insert("coverage".to_owned(), found.coverage.name().into());
    out
}

async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let bytes = tokio::time::timeout(BODY_WAIT, to_bytes(body, BODY_BYTES_MAX))
        .await
        .map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the query did not come within 30 seconds"))?
        .map_err(|_| {
            let detail = format!("a query has at most {BODY_BYTES_MAX} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, &detail)
        })?;
    serde_json::from_slice(&bytes).map_err(|e| wrong(&format!("the query makes no sense: {e}")))
}

fn wrong(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

fn answer(value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
