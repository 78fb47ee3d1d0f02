//! `airlock review`

use std::path::PathBuf;

use airlock_core::advisory::MatchKey;
use airlock_core::assess::Justification;
use airlock_core::id::Digest;
use airlock_core::identity::{Mapping, Review};
use airlock_core::matching::Status;
use airlock_core::time::Time;
use airlock_core::version::Order;
use clap::{Args, Subcommand};

use super::parse_time;

/// On which terms something is decided.
#[derive(Debug, Args)]
pub struct TermsArgs {
    /// Why.
    #[arg(long)]
    pub reason: String,
    /// Where it is discussed: the number of a ticket, or its address.
    #[arg(long)]
    pub ticket: Option<String>,
    /// Only show what would change.
    #[arg(long)]
    pub dry_run: bool,
}

/// `airlock review`
#[derive(Debug, Subcommand)]
pub enum ReviewCommand {
    /// List the decisions.
    List,
    /// What is held and waits for a person, with what is needed to decide; what is offered still comes first.
    Queue {
        /// The channel.
        channel: String,
        /// Only what matches.
        #[arg(default_value = "*")]
        spec: String,
    },
    /// What is held of one package, with all that is needed to decide: who asked for it, what depends on it, and what changed
    /// since the last version that was admitted.
    Show {
        /// The channel.
        channel: String,
        /// A file that is held, as `noarch/idna-3.10-py_0.conda` or by its name alone; or a package, or one with versions.
        artifact: String,
    },
    /// Let in the files that are held within a scope, as far as what holds them now was weighed. What denies is not lifted, and
    /// what comes or becomes known later is held again.
    Approve {
        /// The channel.
        channel: String,
        /// The scope: a name, or a name and versions; with wildcards for several packages.
        #[arg(long)]
        scope: String,
        /// Only conda packages whose build string matches this pattern.
        #[arg(long)]
        build: Option<String>,
        /// Only the file with this hash.
        #[arg(long)]
        sha256: Option<Digest>,
        /// Only what this rule holds.
        #[arg(long)]
        rule: Option<String>,
        /// Until when; for good where nothing is said.
        #[arg(long, value_parser = parse_time)]
        expires: Option<Time>,
        #[command(flatten)]
        terms: TermsArgs,
    },
    /// Accept what runs today until a date, in one act: what the policy denies or holds now within a scope. What is known to be
    /// exploited or malicious, blocked or rejected is never accepted, and what comes or becomes known later counts.
    Baseline(BaselineArgs),
    /// Deny everything in a scope, held or offered.
    Reject {
        /// The channel.
        channel: String,
        /// The scope: a name, or a name and versions.
        #[arg(long)]
        scope: String,
        /// Until when; for good where nothing is said.
        #[arg(long, value_parser = parse_time)]
        expires: Option<Time>,
        #[command(flatten)]
        terms: TermsArgs,
    },
    /// Lift one rule for one scope until a date, or until what it rests on is fixed.
    Waive {
        /// The channel.
        channel: String,
        /// The scope: a name, or a name and versions.
        #[arg(long)]
        scope: String,
        /// The rule.
        #[arg(long)]
        rule: String,
        /// Only as far as the rule rests on this vulnerability; needed where it rests on any.
        #[arg(long)]
        advisory: Option<String>,
        /// Until when.
        #[arg(long, value_parser = parse_time, required_unless_present = "until_fixed")]
        expires: Option<Time>,
        /// Only as long as no version is known that fixes what it rests on.
        #[arg(long)]
        until_fixed: bool,
        #[command(flatten)]
        terms: TermsArgs,
    },
    /// Rule on the state of a finding: active, mitigated, cleared or disputed. A milder state stands until something new
    /// becomes known of the vulnerability.
    Status {
        /// The channel.
        channel: String,
        /// The scope: a name, or a name and versions.
        #[arg(long)]
        scope: String,
        /// Only conda packages whose build string matches this pattern.
        #[arg(long)]
        build: Option<String>,
        /// Only the file with this hash.
        #[arg(long)]
        sha256: Option<Digest>,
        /// The vulnerability, by any of its names.
        #[arg(long)]
        advisory: String,
        /// The state.
        #[arg(long, value_parser = parse_status)]
        status: Status,
        /// Why it is cleared, as OpenVEX names it; scanners read that.
        #[arg(long, value_parser = parse_justification)]
        justification: Option<Justification>,
        /// Until when; for good where nothing is said.
        #[arg(long, value_parser = parse_time)]
        expires: Option<Time>,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Let what a source states of findings count: a feed of VEX documents, or the packages themselves. Never against what
    /// is known to be exploited or malicious.
    Statements {
        /// The channel.
        channel: String,
        /// The scope: a name with wildcards, or a name and versions.
        #[arg(long)]
        scope: String,
        /// The feed's name, or `package` for what packages state in info/security.json.
        #[arg(long)]
        source: String,
        /// Until when; for good where nothing is said.
        #[arg(long, value_parser = parse_time)]
        expires: Option<Time>,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Rule what a conda package is elsewhere, instead of what maps and the built-in table say.
    Identity {
        /// The channel.
        channel: String,
        /// The package's exact name.
        name: String,
        /// A counterpart: `osv:PyPI/torch`, `cpe:openssl:openssl`; with `=ORDER` behind it if its versions are ordered
        /// otherwise than usual there: pep440, conda, letters, semver, r.
        #[arg(long = "is", value_name = "KEY[=ORDER]", value_parser = parse_mapping)]
        keys: Vec<Mapping>,
        /// No advisory can concern it.
        #[arg(long, conflicts_with = "keys", required_unless_present = "keys")]
        none: bool,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Take a decision back.
    Revoke {
        /// The decision.
        decision: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// `airlock review baseline`
#[derive(Debug, Args)]
pub struct BaselineArgs {
    /// The channel.
    pub channel: String,
    /// The scope: a name, or a name and versions, with wildcards for several packages.
    #[arg(long, default_value = "*")]
    pub scope: String,
    /// Only what these lock files or lists of an environment hold.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub from: Vec<PathBuf>,
    /// Until when.
    #[arg(long, value_parser = parse_time)]
    pub expires: Time,
    #[command(flatten)]
    pub terms: TermsArgs,
}

/// One of several words, or what they are.
fn one_of<T: Copy>(text: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, String> {
    let names = || all.iter().map(|one| name(*one)).collect::<Vec<_>>().join(", ");
    all.iter().copied().find(|one| name(*one) == text).ok_or_else(|| format!("use one of {}", names()))
}

fn parse_status(text: &str) -> Result<Status, String> {
    one_of(text, &Status::ALL, Status::name)
}

fn parse_justification(text: &str) -> Result<Justification, String> {
    one_of(text, &Justification::ALL, Justification::name)
}

/// A counterpart that a person names, who thereby has checked it.
fn parse_mapping(text: &str) -> Result<Mapping, String> {
    let (key, order) = match text.rsplit_once('=') {
        Some((key, order)) => (key, Some(one_of(order, &Order::ALL, Order::key)?)),
        None => (text, None),
    };
    let key = MatchKey::parse(key)
        .ok_or("write `osv:ECOSYSTEM/NAME` or `cpe:VENDOR:PRODUCT`, for example `osv:PyPI/torch`")?;
    let order = order.unwrap_or_else(|| key.order());
    Ok(Mapping { key, order, provenance: String::new(), review: Review::Verified })
}
