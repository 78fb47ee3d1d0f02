//! PyPI channels, `/pypi/<channel>[@<when>]/...`: the Simple API and the files it names.

use std::sync::Arc;

use airlock_core::ecosystem::{ArtifactKind, Ecosystem, canonical_name, is_safe_file_name};
use airlock_core::id::{Digest, Id};
use airlock_core::shard::{Shard, ShardKey};
use airlock_engine::error::Error;
use airlock_engine::trees;
use airlock_engine::view::{ChannelView, FileAnswer, View};
use airlock_formats::conda::RENDERER;
use airlock_formats::pypi::{self, Form, negotiate};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, LOCATION, VARY,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;

use crate::App;
use crate::app::blocking;
use crate::problem::Problem;
use crate::respond::{Freshness, Representation, answer};
use crate::urls::Target;

/// Answers everything below `/pypi/`.
pub async fn serve(State(app): State<Arc<App>>, parts: Parts) -> Result<Response, Problem> {
    let target = Target::read("pypi", &parts.uri)?;
    let mut channel = target.open(&app.view, Ecosystem::Pypi).await?;
    if let Some(redirected) = spelt_otherwise(&target)? {
        return Ok(redirected);
    }
    let mut found = find(&app, &target, &channel, &parts.headers).await;
    // It may have been published a moment ago, and another server may have told the client so.
    if found.as_ref().is_err_and(Problem::is_no) && app.view.newer(&channel).await?.is_some() {
        channel = target.open(&app.view, Ecosystem::Pypi).await?;
        found = find(&app, &target, &channel, &parts.headers).await;
    }
    answer(&app, &parts, channel.generation, found?).await
}

/// The way to the one spelling of an address of the index. It is relative, so that the prefix of a reverse proxy
/// and the snapshot stay; a canonical name can neither hold a separator nor begin with one.
fn spelt_otherwise(target: &Target) -> Result<Option<Response>, Problem> {
    let rest: Vec<&str> = target.rest.iter().map(String::as_str).collect();
    Ok(match (&rest[..], target.has_slash) {
        (["simple"], false) => Some(redirect("simple/")),
        (["simple", project], has_slash) => {
            let name = canonical_name(Ecosystem::Pypi, project).ok_or_else(no_project)?;
            match (name == *project, has_slash) {
                (true, true) => None,
                (_, true) => Some(redirect(&format!("../{name}/"))),
                (_, false) => Some(redirect(&format!("{name}/"))),
            }
        }
        _ => None,
    })
}

async fn find(
    app: &App,
    target: &Target,
    channel: &ChannelView,
    headers: &HeaderMap,
) -> Result<Representation, Problem> {
    let rest: Vec<&str> = target.rest.iter().map(String::as_str).collect();
    match (&rest[..], target.has_slash) {
        (["simple"], true) => projects(app, channel, headers).await,
        (["simple", name], true) => page(app, target, channel, name, headers).await,
        (["packages", project, file], false) => package(&app.view, target, channel, project, file).await,
        _ => Err(Problem::not_found("the index of a PyPI channel lies below simple/")),
    }
}

fn redirect(reference: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::from_str(reference) {
        response.headers_mut().insert(LOCATION, location);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"));
    response
}

fn no_project() -> Problem {
    Problem::not_found("the channel knows no such project")
}

/// The form that a client asks for.
fn form_of(headers: &HeaderMap) -> Result<Form, Problem> {
    let lines: Vec<_> =
        headers.get_all(ACCEPT).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
    let accept = (!lines.is_empty()).then(|| lines.join(","));
    negotiate(accept.as_deref()).ok_or_else(|| {
        let offers = [Form::Json, Form::Html, Form::PlainHtml].map(Form::content_type);
        let detail = format!("the page is to be had as {}", offers.join(", "));
        Problem::new(StatusCode::NOT_ACCEPTABLE, &detail).header(VARY, "Accept".to_owned())
    })
}

/// A page in the form that was asked for. `key` names what it is made of.
async fn rendered<F>(app: &App, form: Form, key: &str, text: F) -> Result<Representation, Problem>
where
    F: Future<Output = Result<String, Error>> + Send + 'static,
{
    let is_json = form == Form::Json;
    let key = Digest::of(format!("page {RENDERER} {is_json} {key}").as_bytes());
    let render = async move {
        let bytes = Bytes::from(text.await?);
        let len = bytes.len();
        Ok(((Digest::of(&bytes), bytes), len))
    };
    let (hash, bytes) = app.pages.get(key, render).await?;
    let page = Representation::bytes(bytes, hash, form.content_type(), Freshness::Index)
        .header(VARY, "Accept")
        .header(CONTENT_SECURITY_POLICY, "default-src 'none'");
    Ok(match form {
        Form::Json | Form::PlainHtml => page,
        // The same bytes as plain HTML, and yet another representation.
        Form::Html => page.variant("v1"),
    })
}

/// The list of all projects.
async fn projects(app: &App, channel: &ChannelView, headers: &HeaderMap) -> Result<Representation, Problem> {
    let form = form_of(headers)?;
    let content = channel.snapshot.content;
    let db = app.view.station().store.db.clone();
    let text = async move {
        let names = trees::load::<Id<Shard>>(&db, content).await?;
        let write = move || {
            let names = names.keys().map(String::as_str);
            Ok(if form == Form::Json { pypi::projects_json(names)? } else { pypi::projects_html(names) })
        };
        blocking("a page", write).await
    };
    rendered(app, form, &format!("projects {content}"), text).await
}

/// The page of one project.
async fn page(
    app: &App,
    target: &Target,
    channel: &ChannelView,
    name: &str,
    headers: &HeaderMap,
) -> Result<Representation, Problem> {
    let view = &app.view;
    let Some(id) = view.look_up(channel.snapshot.content, name).await? else {
        let known = view.judgement(channel, name).await?.is_some()
            || !view.sent_judgements(channel, name).await?.is_empty();
        let nothing =
            || Problem::not_found(&format!("nothing of `{name}` is offered")).package_page(target, name, "");
        return Err(if known { nothing() } else { no_project() });
    };
    let form = form_of(headers)?;
    let mut shard = view.object(id).await?;
    let mut key = format!("project {id}");
    // What was blocked since must not look as if it could be had.
    if let Some(blocked) = channel.blocks.files.get(name) {
        let mut left: Shard = (*shard).clone();
        left.entries.retain(|file, _| !blocked.contains_key(file));
        shard = Arc::new(left);
        for file in blocked.keys() {
            key = format!("{key} without {file}");
        }
    }
    let write = move || {
        Ok(if form == Form::Json { pypi::project_json(&shard)? } else { pypi::project_html(&shard)? })
    };
    rendered(app, form, &key, async { blocking("a page", write).await }).await
}

/// A file, or the METADATA of a wheel (PEP 658).
async fn package(
    view: &View,
    target: &Target,
    channel: &ChannelView,
    project: &str,
    file: &str,
) -> Result<Representation, Problem> {
    let name = canonical_name(Ecosystem::Pypi, project).ok_or_else(no_project)?;
    let artifact = file.strip_suffix(".metadata").unwrap_or(file);
    let unknown = || Problem::not_found("the channel knows no such file");
    ArtifactKind::of(Ecosystem::Pypi, artifact)
        .filter(|_| is_safe_file_name(artifact))
        .ok_or_else(unknown)?;
    let key = ShardKey { subdir: None, name };
    let blob = match view.file(channel, &key.name, artifact).await? {
        FileAnswer::Serve(blob) => blob,
        FileAnswer::Withheld { version, reason } => {
            return Err(Problem::withheld(view, channel, target, &key, artifact, (&version, &reason)).await);
        }
        FileAnswer::Absent => return Err(unknown()),
    };
    if artifact == file {
        let found = Representation::file(blob, "application/octet-stream", Freshness::Asked);
        let found = found.artifact(&channel.channel.name, file.to_owned());
        return Ok(found.header(CONTENT_DISPOSITION, "attachment"));
    }
    let metadata = view.metadata(channel, &key.name, artifact).await?;
    let metadata = metadata.ok_or_else(|| Problem::not_found("this file has no METADATA by itself"))?;
    Ok(Representation::file(metadata, "text/plain; charset=utf-8", Freshness::Asked))
}
