//! What names what: from the refs over objects to the bytes of artifacts.
//!
//! Each kind of object answers in one place ([`named`]), so that what collects, checks and explains never differ, and
//! a new kind is met by the compiler.

use std::str::FromStr;

use airlock_core::advisory::{AdvisoryRecord, AdvisorySet, Epss, FeedHead, FeedKind, Kev, Slice};
use airlock_core::assess::Statements;
use airlock_core::block::BlockSet;
use airlock_core::bundle::Held;
use airlock_core::channel::Channel;
use airlock_core::decision::Decisions;
use airlock_core::fact::Facts;
use airlock_core::id::Digest;
use airlock_core::lock::Lock;
use airlock_core::object::{self, Object, ObjectError};
use airlock_core::people::People;
use airlock_core::policy::PolicyText;
use airlock_core::record::Artifact;
use airlock_core::request::{Answers, Requests};
use airlock_core::shard::Shard;
use airlock_core::snapshot::{Snapshot, Upstream};
use airlock_core::trie::Node;
use airlock_core::verdict::Judgement;
use serde_json::Value;

use crate::bundle::{ExportState, ImportState};
use crate::feeds::{FeedDef, FeedIndex, NameIndex, Seen, StoredHead};
use crate::mirror::MirrorState;
use crate::proposals::Proposal;
use crate::publish::{Pending, Rendered, Subdirs};
use crate::retention::{LastBase, OLDEST, Taken};
use crate::shadow::Shadow;
use crate::trust::Trust;

macro_rules! kinds {
    ($($kind:ident: $object:ty),* $(,)?) => {
        /// Every kind of object that a station stores.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each is the type of its name")]
        pub enum Kind { $($kind),* }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// What its objects call themselves.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => <$object as Object>::KIND),* }
            }
        }
    };
}

kinds! {
    Advisories: AdvisorySet,
    Advisory: AdvisoryRecord,
    Answers: Answers,
    Blocks: BlockSet,
    Channel: Channel,
    Decisions: Decisions,
    Epss: Epss,
    ExportState: ExportState,
    Facts: Facts,
    Feed: FeedDef,
    FeedHead: StoredHead,
    FeedIndex: FeedIndex,
    FeedSeen: Seen,
    ImportState: ImportState,
    Judgement: Judgement,
    Kev: Kev,
    LastBase: LastBase,
    Lock: Lock,
    MirrorState: MirrorState,
    NameIndex: NameIndex,
    Pending: Pending,
    People: People,
    Policy: PolicyText,
    Proposal: Proposal,
    Rendered: Rendered,
    Requests: Requests,
    Shadow: Shadow,
    Shard: Shard,
    Slice: Slice,
    Snapshot: Snapshot,
    Statements: Statements,
    Subdirs: Subdirs,
    Taken: Taken,
    Tree: Node<Value>,
    Trust: Trust,
    Upstream: Upstream,
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name).ok_or(())
    }
}

/// What an object is there for, where that decides what of it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// What it says itself that it is, with all that it names.
    Any,
    /// An object of this kind, of which nothing else need be said.
    Plain(Kind),
    /// A tree of these.
    Tree(Item),
    /// A shard whose artifacts are offered: their bytes are needed.
    Published,
    /// Facts whose bytes are needed.
    Pinned,
    /// A snapshot of a channel of this station.
    Kept,
    /// A snapshot that a bundle brought to somebody: what the next bundle is compared with.
    Exported,
    /// A snapshot of another station, as far as bundles carry it.
    Sent,
    /// A snapshot that is only pointed out, and need not be there for that.
    Mark,
}

/// What the leaves of a tree name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Item {
    /// Whatever looks like the name of an object.
    Any,
    /// Nothing: the values stand in the leaves.
    Values,
    /// Shards of which only the records count.
    Shards,
    /// Shards whose artifacts are offered.
    Published,
    /// Facts of which only what they say counts.
    Facts,
    /// Facts whose bytes are needed.
    Pinned,
    /// Judgements.
    Judgements,
    /// Slices of advisories.
    Slices,
    /// Statements on findings.
    Statements,
    /// Records of a feed.
    Advisories,
}

impl Item {
    const fn role(self) -> Role {
        match self {
            Self::Any | Self::Values => Role::Any,
            Self::Shards => Role::Plain(Kind::Shard),
            Self::Published => Role::Published,
            Self::Facts => Role::Plain(Kind::Facts),
            Self::Pinned => Role::Pinned,
            Self::Judgements => Role::Plain(Kind::Judgement),
            Self::Slices => Role::Plain(Kind::Slice),
            Self::Statements => Role::Plain(Kind::Statements),
            Self::Advisories => Role::Plain(Kind::Advisory),
        }
    }
}

impl Role {
    /// The kind that an object in this role must have.
    pub const fn kind(self) -> Option<Kind> {
        Some(match self {
            Self::Any => return None,
            Self::Plain(kind) => kind,
            Self::Tree(_) => Kind::Tree,
            Self::Published => Kind::Shard,
            Self::Pinned => Kind::Facts,
            Self::Kept | Self::Exported | Self::Sent | Self::Mark => Kind::Snapshot,
        })
    }

    /// The role in which an object needs the most.
    const fn whole(kind: Kind) -> Self {
        match kind {
            Kind::Tree => Self::Tree(Item::Any),
            Kind::Shard => Self::Published,
            Kind::Facts => Self::Pinned,
            Kind::Snapshot => Self::Kept,
            other => Self::Plain(other),
        }
    }

    /// Whether it is known without reading it that it names nothing.
    pub const fn names_nothing(self) -> bool {
        let Self::Plain(kind) = self else { return false };
        match kind {
            Kind::Advisory
            | Kind::Answers
            | Kind::Blocks
            | Kind::Channel
            | Kind::Decisions
            | Kind::Epss
            | Kind::Facts
            | Kind::Feed
            | Kind::FeedSeen
            | Kind::ImportState
            | Kind::Judgement
            | Kind::Kev
            | Kind::LastBase
            | Kind::Lock
            | Kind::MirrorState
            | Kind::Pending
            | Kind::People
            | Kind::Policy
            | Kind::Proposal
            | Kind::Requests
            | Kind::Shadow
            | Kind::Shard
            | Kind::Slice
            | Kind::Statements
            | Kind::Subdirs
            | Kind::Trust
            // What of the bundles is needed, retention decides.
            | Kind::ExportState => true,
            Kind::Advisories
            | Kind::FeedHead
            | Kind::FeedIndex
            | Kind::NameIndex
            | Kind::Rendered
            | Kind::Snapshot
            | Kind::Taken
            | Kind::Tree
            | Kind::Upstream => false,
        }
    }

    /// What the object of a ref is there for; none for a ref that this program does not know.
    pub fn of_ref(name: &str) -> Option<Self> {
        let plain = |kind| Some(Self::Plain(kind));
        match name {
            "advisories" => return plain(Kind::Advisories),
            "index/advisories" => return plain(Kind::FeedIndex),
            "index/identities" => return plain(Kind::NameIndex),
            "decisions" => return plain(Kind::Decisions),
            "people" => return plain(Kind::People),
            "requests" => return plain(Kind::Requests),
            _ => {}
        }
        let (area, rest) = name.split_once('/')?;
        match (area, rest.rsplit_once('/').map_or(rest, |(_, part)| part)) {
            ("channel", "def") => plain(Kind::Channel),
            ("channel", "upstream") => plain(Kind::Upstream),
            ("channel", "facts") => Some(Self::Tree(Item::Pinned)),
            ("channel", "listed" | "held") => Some(Self::Tree(Item::Shards)),
            ("channel", "snapshot") => Some(Self::Kept),
            ("channel", OLDEST) => Some(Self::Mark),
            ("channel", "blocks") => plain(Kind::Blocks),
            ("channel", "rendered") => plain(Kind::Rendered),
            ("channel", "mirror") => plain(Kind::MirrorState),
            ("channel", "pending") => plain(Kind::Pending),
            ("channel", "shadow") => plain(Kind::Shadow),
            ("channel", "subdirs") => plain(Kind::Subdirs),
            ("feed", "def") => plain(Kind::Feed),
            ("feed", "seen") => plain(Kind::FeedSeen),
            ("feed", "head" | "kept") => plain(Kind::FeedHead),
            ("policy", _) => plain(Kind::Policy),
            ("proposal", _) => plain(Kind::Proposal),
            ("lock", _) => plain(Kind::Lock),
            ("trust" | "root", _) => plain(Kind::Trust),
            ("export", _) => plain(Kind::ExportState),
            ("import", _) => plain(Kind::ImportState),
            ("base", _) => plain(Kind::LastBase),
            ("taken", _) => plain(Kind::Taken),
            _ => None,
        }
    }
}

/// What an object names.
#[derive(Debug, Default)]
pub struct Named {
    /// Other objects, with the key under which each stands, where there is one.
    pub objects: Vec<(Digest, Role, Option<String>)>,
    /// Bytes, with the file's name.
    pub blobs: Vec<(Digest, String)>,
}

impl Named {
    fn add(&mut self, id: Digest, role: Role) {
        self.objects.push((id, role, None));
    }

    /// What a feed consists of.
    pub fn add_feed(&mut self, head: &FeedHead) {
        let role = match head.kind {
            FeedKind::Osv | FeedKind::Nvd | FeedKind::Cve | FeedKind::Openssl | FeedKind::Curl => {
                Role::Tree(Item::Advisories)
            }
            FeedKind::Identities => Role::Tree(Item::Values),
            FeedKind::Vex => Role::Tree(Item::Statements),
            FeedKind::Kev => Role::Plain(Kind::Kev),
            FeedKind::Epss => Role::Plain(Kind::Epss),
        };
        self.add(head.content, role);
    }

    fn add_snapshot(&mut self, snapshot: &Snapshot, role: Role) {
        let inputs = &snapshot.inputs;
        self.add(snapshot.judgement.digest(), Role::Tree(Item::Judgements));
        match role {
            Role::Sent => self.add(snapshot.content.digest(), Role::Tree(Item::Shards)),
            Role::Exported => {
                self.add(snapshot.content.digest(), Role::Tree(Item::Shards));
                self.add(inputs.facts.digest(), Role::Tree(Item::Facts));
            }
            // All inputs, so that it can be judged again; of the snapshot before it nothing but its name.
            _ => {
                self.add(snapshot.content.digest(), Role::Tree(Item::Published));
                self.add(inputs.facts.digest(), Role::Tree(Item::Pinned));
                self.add(inputs.upstream.digest(), Role::Plain(Kind::Upstream));
                self.add(inputs.advisories.digest(), Role::Plain(Kind::Advisories));
                self.add(inputs.policy.digest(), Role::Plain(Kind::Policy));
                self.add(inputs.decisions.digest(), Role::Plain(Kind::Decisions));
                self.add(inputs.listed.digest(), Role::Tree(Item::Shards));
            }
        }
    }

    fn add_node(&mut self, bytes: &[u8], item: Item) -> Result<(), ObjectError> {
        match object::decode::<Node<Value>>(bytes)? {
            Node::Branch(children) => {
                self.objects.extend(children.values().map(|id| (id.digest(), Role::Tree(item), None)));
            }
            Node::Leaf(_) if item == Item::Values => {}
            Node::Leaf(entries) => {
                let id = |value: Value| value.as_str().and_then(|text| text.parse::<Digest>().ok());
                let named = entries.into_iter().filter_map(|(key, v)| Some((id(v)?, item.role(), Some(key))));
                self.objects.extend(named);
            }
        }
        Ok(())
    }
}

/// What an object names in a role. The kind that it has stands in the error if it is not the one of the role.
pub fn named(role: Role, bytes: &[u8]) -> Result<Named, ObjectError> {
    let role = match role {
        Role::Any => {
            let found = object::kind_of(bytes).unwrap_or_default();
            let kind =
                found.parse().map_err(|()| ObjectError::Kind { expected: "one that is known", found })?;
            Role::whole(kind)
        }
        role => role,
    };
    let mut out = Named::default();
    match role {
        Role::Any | Role::Mark => {}
        Role::Tree(item) => out.add_node(bytes, item)?,
        Role::Published => {
            let shard: Shard = object::decode(bytes)?;
            for (file, entry) in &shard.entries {
                let sha256 = Artifact::read(&shard, file, entry).ok().and_then(|artifact| artifact.sha256);
                out.blobs.extend(sha256.map(|digest| (digest, file.clone())));
            }
        }
        Role::Pinned => {
            let facts: Facts = object::decode(bytes)?;
            for (file, fact) in
                facts.files.iter().filter_map(|(name, fact)| Some((name, fact.file.as_ref()?)))
            {
                out.blobs.push((fact.sha256, file.clone()));
                out.blobs.extend(fact.metadata.map(|digest| (digest, file.clone())));
            }
        }
        Role::Kept | Role::Exported | Role::Sent => out.add_snapshot(&object::decode(bytes)?, role),
        Role::Plain(kind) => plain(&mut out, kind, bytes)?,
    }
    Ok(out)
}

impl Named {
    /// What the bundles brought that a delta may rest on.
    fn add_taken(&mut self, taken: &Taken) {
        for bundle in &taken.bundles {
            bundle.feeds.values().for_each(|head| self.add_feed(head));
            for head in bundle.channels.values() {
                self.add(head.snapshot.digest(), Role::Sent);
                self.add(head.facts.digest(), Role::Tree(Item::Facts));
                head.held.iter().for_each(|held| self.add_held(held));
            }
        }
    }

    /// What a bundle carried of what its sender held.
    pub fn add_held(&mut self, held: &Held) {
        self.add(held.shards.digest(), Role::Tree(Item::Shards));
        self.add(held.facts.digest(), Role::Tree(Item::Facts));
    }
}

fn plain(out: &mut Named, kind: Kind, bytes: &[u8]) -> Result<(), ObjectError> {
    match kind {
        Kind::Advisories => {
            let set: AdvisorySet = object::decode(bytes)?;
            set.feeds.values().for_each(|head| out.add_feed(head));
            out.add(set.slices.digest(), Role::Tree(Item::Slices));
            out.add(set.kev.digest(), Role::Plain(Kind::Kev));
            out.add(set.epss.digest(), Role::Plain(Kind::Epss));
            out.add(set.identities.digest(), Role::Tree(Item::Values));
            if let Some(statements) = set.statements {
                out.add(statements.digest(), Role::Tree(Item::Statements));
            }
        }
        Kind::FeedHead => out.add_feed(&object::decode::<StoredHead>(bytes)?.head),
        Kind::FeedIndex => {
            for tree in object::decode::<FeedIndex>(bytes)?.trees() {
                out.add(tree, Role::Tree(Item::Values));
            }
        }
        Kind::NameIndex => {
            out.add(object::decode::<NameIndex>(bytes)?.tree(), Role::Tree(Item::Values));
        }
        Kind::Rendered => {
            let rendered: Rendered = object::decode(bytes)?;
            out.blobs.extend(rendered.files.into_iter().map(|(path, file)| (file.sha256, path)));
            if let Some(layout) = rendered.layout {
                out.add(layout.slots.digest(), Role::Tree(Item::Values));
            }
        }
        Kind::Taken => out.add_taken(&object::decode(bytes)?),
        Kind::Upstream => {
            let upstream: Upstream = object::decode(bytes)?;
            out.add(upstream.tree.digest(), Role::Tree(Item::Shards));
            out.objects.extend(upstream.origin.map(|id| (id.digest(), Role::Sent, None)));
        }
        Kind::Tree | Kind::Snapshot => {
            // They never stand without their own role.
            *out = named(Role::whole(kind), bytes)?;
        }
        Kind::Advisory
        | Kind::Answers
        | Kind::Blocks
        | Kind::Channel
        | Kind::Decisions
        | Kind::Epss
        | Kind::ExportState
        | Kind::Facts
        | Kind::Feed
        | Kind::FeedSeen
        | Kind::ImportState
        | Kind::Judgement
        | Kind::Kev
        | Kind::LastBase
        | Kind::Lock
        | Kind::MirrorState
        | Kind::Pending
        | Kind::People
        | Kind::Policy
        | Kind::Proposal
        | Kind::Requests
        | Kind::Shadow
        | Kind::Shard
        | Kind::Slice
        | Kind::Statements
        | Kind::Subdirs
        | Kind::Trust => {}
    }
    Ok(())
}
