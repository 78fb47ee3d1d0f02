//! Reading a policy file: each fault is named with its line, its column and the nearest valid spelling.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Action, Condition, Policy, Rule};
use crate::id::Digest;
use crate::time::Span;

/// Largest policy file, in bytes.
pub const POLICY_BYTES_MAX: usize = 1 << 20;
/// How deep conditions may nest.
pub const CONDITION_DEPTH_MAX: usize = 32;

/// A fault in a policy file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct PolicyError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What is wrong, and what was probably meant.
    pub message: String,
}

pub(super) struct Reader<'a> {
    text: &'a str,
}

pub(super) type Read<T> = Result<T, PolicyError>;
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

pub(super) fn parse(text: &str) -> Read<Policy> {
    let reader = Reader { text };
    if text.len() > POLICY_BYTES_MAX {
        return Err(reader.error(0, format!("the policy is larger than {POLICY_BYTES_MAX} bytes")));
    }
    let document = DeTable::parse(text)
        .map_err(|e| reader.error(e.span().map_or(0, |s| s.start), e.message().to_owned()))?;
    let table = document.get_ref();
    reader.only(table, &["policy", "rule"])?;
    let head_value = reader.required(table, "policy", 0)?;
    let head = reader.table(head_value)?;
    reader.only(head, &["name", "description", "hold_deadline", "reserved", "scores"])?;
    let name = reader.string(reader.required(head, "name", head_value.span().start)?)?;
    let description = head.get("description").map(|v| reader.string(v)).transpose()?.unwrap_or_default();
    let hold_deadline =
        head.get("hold_deadline").map(|v| reader.span(v)).transpose()?.unwrap_or(Span::days(14));
    let scores = match head.get("scores") {
        Some(list) => reader.array(list)?.into_iter().map(|v| reader.preferred(v)).collect::<Read<_>>()?,
        None => Vec::new(),
    };
    let reserved = head.get("reserved").map(|v| reader.patterns(v)).transpose()?.unwrap_or_default();
    let mut rules = Vec::new();
    let mut names = BTreeSet::new();
    if let Some(list) = table.get("rule") {
        for value in reader.array(list)? {
            let rule = reader.rule(value)?;
            if !names.insert(rule.name.clone()) {
                return Err(reader.error(
                    value.span().start,
                    format!("a rule named `{}` stands above already", rule.name),
                ));
            }
            rules.push(rule);
        }
    }
    if rules.is_empty() {
        return Err(
            reader.error(0, "the policy has no [[rule]], so that it would admit everything".to_owned())
        );
    }
    Ok(Policy { name, description, hold_deadline, scores, reserved, rules })
}

impl Reader<'_> {
    pub(super) fn error(&self, at: usize, message: String) -> PolicyError {
        let before = self.text.get(..at).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        PolicyError {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message,
        }
    }

    pub(super) fn at<T>(&self, value: &Value<'_>, message: String) -> Read<T> {
        Err(self.error(value.span().start, message))
    }

    pub(super) fn only(&self, table: &DeTable<'_>, known: &[&str]) -> Read<()> {
        for key in table.keys() {
            if !known.contains(&key.get_ref().as_ref()) {
                return Err(self.unknown(key.span().start, "key", key.get_ref(), known));
            }
        }
        Ok(())
    }

    pub(super) fn unknown(&self, at: usize, what: &str, found: &str, known: &[&str]) -> PolicyError {
        let found: String = found.chars().take(60).collect();
        let hint = match nearest(&found, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", known.join(", ")),
        };
        self.error(at, format!("unknown {what} `{found}`; {hint}"))
    }

    pub(super) fn required<'t, 'd>(
        &self,
        table: &'t DeTable<'d>,
        key: &str,
        at: usize,
    ) -> Read<&'t Value<'d>> {
        table.get(key).ok_or_else(|| self.error(at, format!("`{key}` is missing here")))
    }

    pub(super) fn table<'t, 'd>(&self, value: &'t Value<'d>) -> Read<&'t DeTable<'d>> {
        match value.get_ref().as_table() {
            Some(table) => Ok(table),
            None => self.at(value, format!("expected a table, found {}", found(value.get_ref()))),
        }
    }

    pub(super) fn array<'t, 'd>(&self, value: &'t Value<'d>) -> Read<Vec<&'t Value<'d>>> {
        match value.get_ref().as_array() {
            Some(array) => Ok(array.iter().collect()),
            None => self.at(value, format!("expected a list, found {}", found(value.get_ref()))),
        }
    }

    fn rule(&self, value: &Value<'_>) -> Read<Rule> {
        let table = self.table(value)?;
        self.only(table, &["name", "action", "grace", "when"])?;
        let start = value.span().start;
        let name = self.string(self.required(table, "name", start)?)?;
        let action_value = self.required(table, "action", start)?;
        let action = match self.string(action_value)?.as_str() {
            "deny" => Action::Deny,
            "hold" => Action::Hold,
            "warn" => Action::Warn,
            other => {
                return Err(self.unknown(
                    action_value.span().start,
                    "action",
                    other,
                    &["deny", "hold", "warn"],
                ));
            }
        };
        let when = self.condition(self.required(table, "when", start)?, 0)?;
        let grace = table.get("grace").map(|span| self.grace(span, action, &when)).transpose()?;
        let digest = self.digest(value);
        Ok(Rule { name, action, when, grace, digest })
    }

    /// A grace. Only a denial needs one, and none waits for what is exploited or malicious.
    fn grace(&self, value: &Value<'_>, action: Action, when: &Condition) -> Read<Span> {
        if action != Action::Deny {
            let why = "only a rule that denies has a `grace`; what is held stays for `hold_deadline`";
            return self.at(value, why.to_owned());
        }
        if when.asks_exploited() {
            let why = "a rule that asks for `kev` or `malicious` has no `grace`: what is exploited or malicious goes at once";
            return self.at(value, why.to_owned());
        }
        self.span(value)
    }

    fn condition(&self, value: &Value<'_>, depth: usize) -> Read<Condition> {
        if depth > CONDITION_DEPTH_MAX {
            return self.at(value, format!("conditions nest deeper than {CONDITION_DEPTH_MAX} levels"));
        }
        let table = self.table(value)?;
        let mut members = table.iter();
        let (Some((key, inner)), None) = (members.next(), members.next()) else {
            return self.at(
                value,
                "a condition holds exactly one predicate; join several with `all` or `any`".to_owned(),
            );
        };
        let list = || -> Read<Vec<Condition>> {
            let parts: Vec<Condition> =
                self.array(inner)?.into_iter().map(|v| self.condition(v, depth + 1)).collect::<Read<_>>()?;
            if parts.is_empty() {
                return self.at(inner, "the list is empty, so that it says nothing".to_owned());
            }
            Ok(parts)
        };
        let one = || self.condition(inner, depth + 1).map(Box::new);
        match key.get_ref().as_ref() {
            "all" => list().map(Condition::All),
            "any" => list().map(Condition::Any),
            "not" => self.negated(inner, one()?).map(Condition::Not),
            "any_finding" => one().map(Condition::AnyFinding),
            "no_finding" => self.negated(inner, one()?).map(Condition::NoFinding),
            name => self.predicate(key.span().start, name, inner),
        }
    }

    /// The hash of what a rule says.
    fn digest(&self, rule: &Value<'_>) -> Digest {
        Digest::of(json(rule.get_ref()).to_string().as_bytes())
    }

    /// What is negated must not ask for dependencies: what is offered less would then be offered more.
    fn negated(&self, value: &Value<'_>, part: Box<Condition>) -> Read<Box<Condition>> {
        match part.asks_dependencies() {
            true => self.at(
                value,
                "`dependency_denied` cannot be negated: who lets in less must not let in more by it"
                    .to_owned(),
            ),
            false => Ok(part),
        }
    }
}

/// A value as JSON, whose objects are sorted.
fn json(value: &DeValue<'_>) -> serde_json::Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => number.as_str().into(),
        DeValue::Float(number) => number.as_str().into(),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(list) => list.iter().map(|one| json(one.get_ref())).collect(),
        DeValue::Table(table) => {
            let members = table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref())));
            serde_json::Value::Object(members.collect())
        }
    }
}

/// What stands there, in words.
pub(super) fn found(value: &DeValue<'_>) -> String {
    let kind = value.type_str();
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// The known word that is nearest to what was typed, if any is near.
fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let best = known.iter().map(|word| (distance(typed, word), *word)).min()?;
    (best.0 <= 2.max(typed.len() / 3)).then_some(best.1)
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}
