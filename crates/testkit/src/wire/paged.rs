//! An API that answers page by page, as NVD's does, while its list changes.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use airlock_core::time::Time;
use serde_json::{Value, json};

use super::{Act, Request, Wire, answer};

/// What an API holds.
#[derive(Default)]
pub struct World {
    /// The records in its order: id, when it was changed, and what it says.
    pub records: Vec<(String, Time, String)>,
    /// Records on a page at most.
    pub page: usize,
    /// What time it says that it is.
    pub timestamp: Option<String>,
    /// What happens at the next questions, one after another.
    pub turns: VecDeque<Turn>,
}

/// What happens at one question.
pub enum Turn {
    /// It is answered.
    Pass,
    /// Something changes before it is answered.
    Change(Box<dyn FnOnce(&mut World) + Send>),
    /// It is answered with a status and this header.
    Status(&'static str, &'static str, &'static str),
    /// It is answered with this body.
    Body(&'static str),
    /// The answer announces so many records.
    Total(u64),
    /// The answer says that it begins elsewhere.
    Elsewhere,
    /// The answer breaks off.
    Cut,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("records", &self.records.len()).finish_non_exhaustive()
    }
}

/// The API.
#[derive(Clone, Debug)]
pub struct Paged {
    wire: Arc<Wire>,
    world: Arc<Mutex<World>>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({})", self.base)
    }
}

impl Paged {
    /// Starts it, with so many records on a page.
    pub async fn start(page: usize) -> Self {
        let world = Arc::new(Mutex::new(World { page, ..World::default() }));
        let held = Arc::clone(&world);
        let wire = Wire::start(move |request, _| held.lock().unwrap().answer(request)).await;
        Self { wire: Arc::new(wire), world }
    }

    /// Its address.
    pub fn location(&self) -> String {
        format!("{}/rest/json/cves/2.0", self.wire.base)
    }

    /// What it holds.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<Request> {
        self.wire.asked()
    }
}

impl World {
    /// A record is added at the end, or changes and goes there.
    pub fn put(&mut self, id: &str, modified: &str, text: &str) {
        self.records.retain(|(held, ..)| held != id);
        self.records.push((id.to_owned(), modified.parse().unwrap(), text.to_owned()));
    }

    fn answer(&mut self, request: &Request) -> Vec<Act> {
        let (mut total, mut shift, mut cut) = (None, 0, false);
        match self.turns.pop_front() {
            None | Some(Turn::Pass) => {}
            Some(Turn::Change(change)) => change(self),
            Some(Turn::Status(status, name, value)) => return answer(status, &[(name, value)], b"busy"),
            Some(Turn::Body(body)) => return answer("200 OK", &[], body),
            Some(Turn::Total(n)) => total = Some(n),
            Some(Turn::Elsewhere) => shift = 1,
            Some(Turn::Cut) => cut = true,
        }
        let query =
            request.target.split_once('?').unwrap_or_default().1.replace("%3A", ":").replace("%2B", "+");
        let value = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let time = |key: &str| value(key).map(|text| text.parse::<Time>().unwrap());
        let (from, to) = (time("lastModStartDate"), time("lastModEndDate"));
        let within = |at: Time| from.is_none_or(|from| from <= at) && to.is_none_or(|to| at <= to);
        let found: Vec<_> = self.records.iter().filter(|(_, at, _)| within(*at)).collect();
        let start: usize = value("startIndex").unwrap().parse().unwrap();
        let items: Vec<Value> = found
            .iter()
            .skip(start)
            .take(self.page)
            .map(|(id, at, text)| {
                json!({"cve": {"id": id, "lastModified": at, "descriptions": [{"lang": "en", "value": text}]}})
            })
            .collect();
        let page = json!({"resultsPerPage": items.len(), "startIndex": start + shift, "format": "NVD_CVE", "version": "2.0",
            "totalResults": total.unwrap_or(found.len() as u64), "timestamp": self.timestamp, "vulnerabilities": items});
        let text = serde_json::to_string_pretty(&page).unwrap();
        let acts = answer("200 OK", &[("content-type", "application/json")], text);
        match (cut, acts.into_iter().next()) {
            (true, Some(Act::Send(bytes))) => vec![Act::Send(bytes[..bytes.len() - 20].to_vec())],
            (false, Some(first)) => vec![first, Act::Next],
            _ => Vec::new(),
        }
    }
}
