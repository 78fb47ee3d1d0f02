//! Who may do what: the one function that every surface asks.

use serde::{Deserialize, Serialize};

/// What a person is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Reads channels.
    Viewer,
    /// Asks for what is missing.
    Requester,
    /// Approves and rejects.
    Reviewer,
    /// Waives, rules on findings, sets policies.
    SecurityOfficer,
    /// Runs the station, and waives nothing.
    Administrator,
    /// Reads everything and changes nothing.
    Auditor,
}

impl Role {
    /// All of them, in the order of the columns of [`TABLE`].
    pub const ALL: [Self; 6] = [
        Self::Viewer,
        Self::Requester,
        Self::Reviewer,
        Self::SecurityOfficer,
        Self::Administrator,
        Self::Auditor,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Requester => "requester",
            Self::Reviewer => "reviewer",
            Self::SecurityOfficer => "security-officer",
            Self::Administrator => "administrator",
            Self::Auditor => "auditor",
        }
    }
}

/// What a person can see or change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `see`: read a channel, what is known of it and why.
    See,
    /// `request`: ask for what is missing.
    Request,
    /// `approve`: let in what a rule holds.
    Approve,
    /// `reject`: deny what somebody looked at.
    Reject,
    /// `block`: deny at once, on every server.
    Block,
    /// `freeze`: let a channel offer nothing new until a date.
    Freeze,
    /// `lift`: take back a block, a rejection or a freeze.
    Lift,
    /// `rule`: rule on the state of a finding, whose statements count, what a package is elsewhere.
    Rule,
    /// `waive`: lift one rule for one scope.
    Waive,
    /// `policy`: set a policy, put a channel under another.
    Policy,
    /// `channel`: add a channel, make an environment the content of one, put a policy beside its own that only reports.
    Channel,
    /// `sync`: read sources and feeds, judge, publish.
    Sync,
    /// `feed-add`: add a feed of advisories.
    AddFeed,
    /// `feeds`: remove a feed, believe one that shrank, accept what became milder.
    Feeds,
    /// `export`: write a bundle.
    Export,
    /// `import`: take in a bundle, a tree that people bring, or a newer root that is trusted.
    Import,
    /// `trust`: trust a key.
    Trust,
    /// `distrust`: trust a key no longer.
    Distrust,
    /// `rollback`: go back to what a channel held before.
    Rollback,
    /// `maintain`: collect, repair, look after the station.
    Maintain,
    /// `ledger`: read what was done by whom.
    Ledger,
    /// `people-see`: read who has which role.
    SeePeople,
    /// `people`: add and remove users, give and take roles, issue tokens.
    People,
}

impl Action {
    /// Its name in [`TABLE`].
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|row| row.action == self).map_or("", |row| row.name)
    }

    /// The action of a name.
    pub fn named(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.action)
    }
}

/// One action, and which roles may do it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The action.
    pub action: Action,
    /// Its name.
    pub name: &'static str,
    /// What it is, in a line.
    pub says: &'static str,
    /// Which roles may, in the order of [`Role::ALL`].
    pub may: [bool; 6],
}

const fn row(action: Action, name: &'static str, says: &'static str, may: [bool; 6]) -> Row {
    Row { action, name, says, may }
}

/// All actions.
pub const TABLE: [Row; 23] = [
    row(
        Action::See,
        "see",
        "read a channel, what is known of it and why",
        [true, true, true, true, true, true],
    ),
    row(Action::Request, "request", "ask for what is missing", [false, true, true, true, true, false]),
    row(Action::Approve, "approve", "let in what a rule holds", [false, false, true, true, false, false]),
    row(Action::Reject, "reject", "deny what somebody looked at", [false, false, true, true, false, false]),
    row(Action::Block, "block", "deny at once, on every server", [false, false, true, true, true, false]),
    row(
        Action::Freeze,
        "freeze",
        "let a channel offer nothing new until a date",
        [false, false, false, true, true, false],
    ),
    row(
        Action::Lift,
        "lift",
        "take back a block, a rejection or a freeze",
        [false, false, false, true, false, false],
    ),
    row(
        Action::Rule,
        "rule",
        "rule on the state of a finding, whose statements count, what a package is elsewhere",
        [false, false, false, true, false, false],
    ),
    row(Action::Waive, "waive", "lift one rule for one scope", [false, false, false, true, false, false]),
    row(
        Action::Policy,
        "policy",
        "set a policy, put a channel under another",
        [false, false, false, true, false, false],
    ),
    row(
        Action::Channel,
        "channel",
        "add a channel, make an environment the content of one, put a policy beside its own that only reports",
        [false, false, false, false, true, false],
    ),
    row(
        Action::Sync,
        "sync",
        "read sources and feeds, judge, publish",
        [false, false, false, true, true, false],
    ),
    row(Action::AddFeed, "feed-add", "add a feed of advisories", [false, false, false, true, true, false]),
    row(
        Action::Feeds,
        "feeds",
        "remove a feed, believe one that shrank, accept what became milder",
        [false, false, false, true, false, false],
    ),
    row(Action::Export, "export", "write a bundle", [false, false, false, false, true, false]),
    row(
        Action::Import,
        "import",
        "take in a bundle, a tree that people bring, or a newer root that is trusted",
        [false, false, false, false, true, false],
    ),
    row(Action::Trust, "trust", "trust a key or a root", [false, false, false, false, true, false]),
    row(
        Action::Distrust,
        "distrust",
        "trust a key or a root no longer",
        [false, false, false, true, true, false],
    ),
    row(
        Action::Rollback,
        "rollback",
        "go back to what a channel held before",
        [false, false, false, true, true, false],
    ),
    row(
        Action::Maintain,
        "maintain",
        "collect, repair, look after the station",
        [false, false, false, false, true, false],
    ),
    row(Action::Ledger, "ledger", "read what was done by whom", [false, false, false, true, true, true]),
    row(Action::SeePeople, "people-see", "read who has which role", [false, false, false, true, true, true]),
    row(
        Action::People,
        "people",
        "add and remove users, give and take roles, issue tokens",
        [false, false, false, false, true, false],
    ),
];

/// A role, in some channels or everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// Only in these channels and their children; none: everywhere, and for what concerns the station as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No role that they have may do it anywhere.
    #[error("no role that they have may do this")]
    Role,
    /// A role that they have may do it, and not here.
    #[error("the role that may do this was given for other channels")]
    Channel,
}

/// Whether a role may do this, wherever it was given.
pub fn may(role: Role, action: Action) -> bool {
    let row = TABLE.iter().find(|row| row.action == action);
    row.is_some_and(|row| Role::ALL.iter().zip(row.may).any(|(one, may)| may && *one == role))
}

/// Whether these grants allow an action in a channel, or with none on the station as a whole.
///
/// # Errors
///
/// Why not.
pub fn allows(grants: &[Grant], action: Action, channel: Option<&str>) -> Result<(), Refusal> {
    let mut refusal = Refusal::Role;
    for grant in grants.iter().filter(|grant| may(grant.role, action)) {
        let is_in = |name: &str, of: &String| {
            name.strip_prefix(of.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if grant.channels.is_empty()
            || channel.is_some_and(|name| grant.channels.iter().any(|of| is_in(name, of)))
        {
            return Ok(());
        }
        refusal = Refusal::Channel;
    }
    Err(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_may_what_its_line_of_the_manual_says_and_nothing_else() {
        let manual = include_str!("../../../docs/people.md");
        for Row { action, name, says, may } in TABLE {
            for (role, may) in Role::ALL.into_iter().zip(may) {
                let everywhere = [Grant { role, channels: Vec::new() }];
                assert_eq!(allows(&everywhere, action, None).is_ok(), may, "{name} {}", role.name());
                assert_eq!(allows(&everywhere, action, Some("a")).is_ok(), may);
                let here = [Grant { role, channels: vec!["a".to_owned()] }];
                assert_eq!(allows(&here, action, Some("a")).is_ok(), may);
                let why = if may { Refusal::Channel } else { Refusal::Role };
                assert_eq!(allows(&here, action, Some("b")), Err(why));
                assert_eq!(allows(&here, action, None), Err(why));
                assert_eq!(allows(&here, action, Some("a/child")).is_ok(), may);
                assert_eq!(allows(&here, action, Some("ab")), Err(why));
            }
            let marks: String = may.map(|may| if may { " yes |" } else { " |" }).concat();
            let line = format!("| `{name}` | {says} |{marks}\n");
            assert!(manual.contains(&line), "{line}");
        }
        assert_eq!(manual.lines().filter(|line| line.starts_with("| `")).count(), TABLE.len());
        assert_eq!(allows(&[], Action::See, None), Err(Refusal::Role));
    }

    #[test]
    fn duties_are_separate() {
        for action in [Action::Waive, Action::Approve, Action::Policy, Action::Rule, Action::Lift] {
            assert!(!may(Role::Administrator, action), "{action:?}");
        }
        assert!(!may(Role::SecurityOfficer, Action::People) && !may(Role::SecurityOfficer, Action::Trust));
        let reads = [Action::See, Action::Ledger, Action::SeePeople];
        for Row { action, .. } in TABLE {
            assert_eq!(may(Role::Auditor, action), reads.contains(&action), "{action:?}");
        }
    }
}
