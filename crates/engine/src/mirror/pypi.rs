//! Reading a PyPI index: its list of projects, and the page of each that is wanted. A directory without one is
//! read file by file.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};

use airlock_core::id::Id;
use airlock_core::shard::Shard;
use airlock_formats::{IndexRead, limits, pypi};

use super::{MirrorState, Reading, Tree, unusable};
use crate::error::{Error, Result};
use crate::upstream::{Ask, Body, Client, Got, Location, Validator};

/// Pages that are fetched at once from one host.
const AT_ONCE: usize = 4;

const ACCEPT: &str =
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

/// What asking for one project gave.
enum Page {
    Read(Box<IndexRead>, Option<Validator>),
    Unchanged,
    Absent,
}

impl Reading<'_> {
    pub(super) async fn pypi(&mut self) -> Result<Tree> {
        if let Location::Path(root) = &self.source
            && !root.join("simple").exists()
            && let Some(read) = self.bare_files().await?
        {
            let shards = self.keep(read).await?;
            return Ok(Tree { shards, subdirs: BTreeMap::new(), state: MirrorState::default() });
        }
        let names = match self.filter.names() {
            Some(names) => names.into_iter().map(str::to_owned).collect(),
            None => self.projects().await?,
        };
        let mut state = MirrorState::default();
        let mut shards: BTreeMap<String, Id<Shard>> = BTreeMap::new();
        let fetches: Vec<_> = names
            .into_iter()
            .map(|name| {
                let (client, folder) = (self.client.clone(), page_folder(&self.source, &name));
                let validator = self.before.validators.get(&name).cloned();
                async move {
                    (fetch_page(&client, folder?, &name, validator.as_ref()).await).map(|page| (name, page))
                }
            })
            .collect();
        let mut pages = stream::iter(fetches).buffer_unordered(AT_ONCE);
        while let Some(page) = pages.next().await {
            let (name, page) = page?;
            match page {
                Page::Read(read, validator) => {
                    shards.extend(self.keep(*read).await?);
                    state.validators.extend(validator.map(|v| (name, v)));
                }
                Page::Unchanged => {
                    self.report.unchanged += 1;
                    shards.extend(self.known.get_key_value(&name).map(|(key, id)| (key.clone(), *id)));
                    let validator = self.before.validators.get(&name).cloned();
                    state.validators.extend(validator.map(|v| (name, v)));
                }
                Page::Absent => self.report.unchanged += 1,
            }
        }
        self.report.bad.sort_by(|a, b| (&a.index, &a.file).cmp(&(&b.index, &b.file)));
        Ok(Tree { shards, subdirs: BTreeMap::new(), state })
    }

    /// The names that the index lists and the channel wants.
    async fn projects(&self) -> Result<Vec<String>> {
        let ask = Ask { accept: Some(ACCEPT), bytes_max: limits::PROJECTS_BYTES_MAX, ..Ask::default() };
        let body = self.page(&self.source.join("simple/")?, ask).await?;
        let Got::Body(body) = body else {
            return Err(Error::fault(format!(
                "{}: there is no list of projects at simple/",
                self.source.shown()
            ))
            .hint("give the address above `simple/`, or name what you want with --only"));
        };
        let read = if is_json(&body)? {
            pypi::read_projects_json(&body.bytes)
        } else {
            pypi::read_projects_html(&body.bytes)
        };
        let names = read.map_err(|e| unusable(&body.location.shown(), &e))?;
        Ok(names.into_iter().filter(|name| self.filter.wants_name(name)).collect())
    }

    async fn page(&self, folder: &Location, ask: Ask<'_>) -> Result<Got> {
        get_page(&self.client, folder, ask).await
    }
}

fn page_folder(source: &Location, name: &str) -> Result<Location> {
    source.join(&format!("simple/{name}/"))
}

/// Gets a page: by its address over HTTP; as `index.json` or `index.html` from a directory.
async fn get_page(client: &Client, folder: &Location, ask: Ask<'_>) -> Result<Got> {
    if let Location::Http(_) = folder {
        return client.get(folder, ask).await;
    }
    for file in ["index.v1_json", "index.json", "index.html"] {
        let got = client.get(&folder.join(file)?, ask).await?;
        if !matches!(got, Got::Absent) {
            return Ok(got);
        }
    }
    Ok(Got::Absent)
}

fn is_json(body: &Body) -> Result<bool> {
    match body.media.as_str() {
        "application/vnd.pypi.simple.v1+json" | "application/json" => Ok(true),
        "application/vnd.pypi.simple.v1+html" | "text/html" => Ok(false),
        other => Err(Error::fault(format!(
            "{}: the upstream answers with `{other}`, not a Simple page",
            body.location.shown()
        ))
        .hint("check that the source is the address above `simple/`")),
    }
}

async fn fetch_page(
    client: &Client,
    folder: Location,
    name: &str,
    validator: Option<&Validator>,
) -> Result<Page> {
    let ask = Ask { accept: Some(ACCEPT), validator, bytes_max: limits::PAGE_BYTES_MAX, ..Ask::default() };
    let body = match get_page(client, &folder, ask).await? {
        Got::Absent => return Ok(Page::Absent),
        Got::NotModified => return Ok(Page::Unchanged),
        Got::Body(body) => body,
    };
    let place = body.location.shown();
    let index = format!("simple/{name}/");
    let read = if is_json(&body)? {
        pypi::read_project_json(name, &index, &body.bytes)
    } else {
        pypi::read_project_html(name, &index, &body.bytes)
    };
    Ok(Page::Read(Box::new(read.map_err(|e| unusable(&place, &e))?), body.validator))
}
