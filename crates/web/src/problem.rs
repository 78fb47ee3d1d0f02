//! Answers that say why not: problem documents (RFC 9457).

use std::sync::Arc;

use airlock_core::explain::Offered;
use airlock_core::shard::ShardKey;
use airlock_core::verdict::Judgement;
use airlock_engine::error::Error;
use airlock_engine::view::{ChannelView, View};
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LINK, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use crate::urls::{self, Target};

/// An answer that is not what was asked for.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    /// `about:blank` where the status says it all.
    kind: &'static str,
    title: String,
    detail: String,
    more: Map<String, Value>,
    headers: Vec<(HeaderName, String)>,
}

/// The answer at every address that is none.
pub async fn not_found() -> Problem {
    Problem::nothing_here()
}

impl Problem {
    /// A problem that its status names.
    pub fn new(status: StatusCode, detail: &str) -> Self {
        Self {
            status,
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Problem").to_owned(),
            detail: detail.to_owned(),
            more: Map::new(),
            headers: Vec::new(),
        }
    }

    /// 404.
    pub fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 404, of an address at which nothing can be.
    pub fn nothing_here() -> Self {
        Self::not_found("there is nothing at this address")
    }

    /// 400, of a path that no name of a channel, package or file leads to.
    pub fn bad_path() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "the path holds a character that no channel, package or file has in its name, or an escape that \
             hides one",
        )
    }

    /// Adds a member.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.more.insert(key.to_owned(), value.into());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Points to the page that tells what is known of a package, relative to what was asked for.
    pub fn package_page(self, target: &Target, name: &str, version: &str) -> Self {
        let channel: Vec<String> = target.channel.split('/').map(urls::encode).collect();
        let mut page = format!("packages/{}/{}", channel.join("/"), urls::encode(name));
        if !version.is_empty() {
            page = format!("{page}/{}", urls::encode(version));
        }
        let page = target.relative(&page);
        let link = format!("<{page}>; rel=\"help\"");
        self.with("package", page).header(LINK, link)
    }

    /// 403: the file is known and not offered.
    pub async fn withheld(
        view: &View,
        channel: &ChannelView,
        target: &Target,
        key: &ShardKey,
        file: &str,
        (version, reason): (&str, &str),
    ) -> Self {
        let mut problem = Self::new(StatusCode::FORBIDDEN, reason);
        problem.kind = "urn:problem-type:airlock:withheld";
        problem.title = format!("`{file}` is not offered by channel `{}`", target.channel);
        problem = problem
            .with("channel", target.channel.as_str())
            .with("name", key.name.as_str())
            .with("file", file);
        if !version.is_empty() {
            problem = problem.with("version", version);
            // That a better version cannot be told must not hide why this one is withheld.
            if let Ok(Some(nearest)) = nearest_offered(view, channel, key, version).await {
                problem = problem.with("nearest", nearest);
            }
        }
        problem.package_page(target, &key.name, version)
    }

    /// The status.
    #[cfg(test)]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether newer refs might make it a yes.
    pub fn is_no(&self) -> bool {
        matches!(self.status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN)
    }
}

/// The version nearest to `version` that is offered in the same subdir or in `noarch`.
async fn nearest_offered(
    view: &View,
    channel: &ChannelView,
    key: &ShardKey,
    version: &str,
) -> Result<Option<String>, Error> {
    let noarch = key.subdir.as_deref().filter(|s| *s != "noarch").map(|_| "noarch".to_owned());
    let keys = [Some(key.clone()), noarch.map(|s| ShardKey { subdir: Some(s), name: key.name.clone() })];
    let mut judgements: Vec<Judgement> = Vec::new();
    for key in keys.iter().flatten().map(ShardKey::to_string) {
        let Some(judgement) = view.judgement(channel, &key).await? else { continue };
        judgements.push(channel.unblocked(&judgement));
    }
    let ecosystem = channel.channel.ecosystem;
    Ok(Offered::of(ecosystem, &judgements).nearest(ecosystem, version).map(str::to_owned))
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let problem = Self::new(StatusCode::INTERNAL_SERVER_ERROR, &error.message);
        match &error.hint {
            Some(hint) => problem.with("hint", hint.as_str()),
            None => problem,
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<Arc<Error>> for Problem {
    fn from(error: Arc<Error>) -> Self {
        Self::from(&*error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut document = self.more;
        document.insert("type".to_owned(), self.kind.into());
        document.insert("title".to_owned(), self.title.into());
        document.insert("status".to_owned(), self.status.as_u16().into());
        document.insert("detail".to_owned(), self.detail.into());
        let mut response = Response::new(Body::from(Value::Object(document).to_string() + "\n"));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Whatever is refused or missing now may be there in a moment.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        response
    }
}
