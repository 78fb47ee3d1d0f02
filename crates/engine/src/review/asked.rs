//! Who asked for what waits.

use serde::Serialize;

use airlock_core::channel::parent_of;
use airlock_core::request::{Outcome, Request, State};
use airlock_core::spec::Spec;
use airlock_core::time::Time;

use crate::error::Result;
use crate::request;
use crate::station::Station;
use crate::view::ChannelView;

/// A request that means what waits. Who decides here may see all of them; what peers are told of each other's is another thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AskedFor {
    /// Its name where it was made.
    pub id: String,
    /// The peer that sent it; none for those that were made here.
    pub from: Option<String>,
    /// Who asks, where that was told.
    pub by: Option<String>,
    /// The channel that is to have it: this one, or one in which this one lies.
    pub channel: String,
    /// What is asked for.
    pub spec: String,
    /// When.
    pub asked: Time,
    /// Why; empty where that was not told.
    pub reason: String,
    /// Where it is discussed.
    pub ticket: Option<String>,
    /// How far it got.
    pub state: State,
    /// What the last answer said, if there was one.
    pub answer: Option<Outcome>,
}

/// The requests for a channel, newest first.
pub(super) struct Asked(Vec<(Spec, Request)>);

impl Asked {
    /// Those for the channel, and for those in which it lies: nobody outside knows of children here.
    pub(super) async fn read(station: &Station, channel: &ChannelView) -> Result<Self> {
        let (_, requests) = request::load(station).await?;
        let (mut names, mut at) = (Vec::new(), Some(channel.channel.name.as_str()));
        while let Some(name) = at {
            names.push(name);
            at = parent_of(name);
        }
        let ecosystem = channel.channel.ecosystem;
        let concerns = |one: &Request| one.ecosystem == ecosystem && names.contains(&one.channel.as_str());
        let mut found: Vec<(Spec, Request)> = requests
            .list
            .into_iter()
            .filter(concerns)
            .filter_map(|one| Some((Spec::parse(ecosystem, &one.spec).ok()?, one)))
            .collect();
        found.sort_by(|(_, a), (_, b)| b.asked.cmp(&a.asked).then_with(|| a.id.cmp(&b.id)));
        Ok(Self(found))
    }

    /// Those that mean a version of a package.
    pub(super) fn of(&self, name: &str, version: &str) -> Vec<AskedFor> {
        let means = |spec: &Spec| spec.exact_name() == Some(name) && spec.matches_version(version);
        let told = |request: &Request| AskedFor {
            id: request.id.clone(),
            from: request.from.as_ref().map(|peer| peer.name.clone()),
            by: request.asked_by.clone(),
            channel: request.channel.clone(),
            spec: request.spec.clone(),
            asked: request.asked,
            reason: request.reason.clone(),
            ticket: request.ticket.clone(),
            state: request.state(),
            answer: request.answer.as_ref().map(|answer| answer.known.outcome),
        };
        self.0.iter().filter(|(spec, _)| means(spec)).map(|(_, request)| told(request)).collect()
    }
}
