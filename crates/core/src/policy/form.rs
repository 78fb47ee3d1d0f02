//! A policy as a form: the same rules as JSON, for those who fill in fields instead of writing TOML.
//!
//! A form is a view of the text: text to form to text is the identity, and so is form to text to form. Where a form changed
//! something, the fields that it did not change stay in the text as they were written, and so do comments above rules and
//! behind fields; a field that was changed is written anew, with what stood inside it.

use serde_json::{Map, Value};
use toml_edit::{Array, ArrayOfTables, DocumentMut, Formatted, InlineTable, Item, Table};

use super::{Policy, PolicyError};

/// A form that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// It is not of the shape `{"policy": {...}, "rule": [{"name": ..., "action": ..., "when": {...}}, ...]}`.
    #[error("the form is malformed: {0}")]
    Shape(String),
    /// What it says is no policy. Line and column are those of the text that would come of it.
    #[error("what the form says is no valid policy: {0}")]
    Policy(#[from] PolicyError),
}

/// The form of a policy's text.
pub fn of_text(text: &str) -> Result<Value, PolicyError> {
    Policy::parse(text)?;
    toml::from_str(text).map_err(|e| PolicyError { line: 1, column: 1, message: e.message().to_owned() })
}

/// The text that a form says. Where there was a text before, what the form does not change in it stays as it is.
pub fn to_text(form: &Value, before: Option<&str>) -> Result<String, FormError> {
    if let Some(before) = before
        && of_text(before).is_ok_and(|held| is_same(&held, form))
    {
        return Ok(before.to_owned());
    }
    let mut document: DocumentMut = before.unwrap_or_default().parse().unwrap_or_default();
    let shape = |what: &str| FormError::Shape(what.to_owned());
    let whole = form.as_object().ok_or_else(|| shape("it is no object"))?;
    if let Some(other) = whole.keys().find(|key| !matches!(key.as_str(), "policy" | "rule")) {
        return Err(FormError::Shape(format!("it has `{other}`; known are policy, rule")));
    }
    let head =
        whole.get("policy").and_then(Value::as_object).ok_or_else(|| shape("`policy` is no object"))?;
    let rules = whole.get("rule").and_then(Value::as_array).ok_or_else(|| shape("`rule` is no list"))?;
    let mut table = document.remove("policy").and_then(|item| item.into_table().ok()).unwrap_or_default();
    fill(&mut table, head)?;
    table.set_position(Some(0));
    document.insert("policy", Item::Table(table));
    let held = match document.remove("rule") {
        Some(Item::ArrayOfTables(held)) => held.into_iter().collect(),
        _ => Vec::new(),
    };
    let named = |table: &Table| table.get("name").and_then(|name| name.as_str().map(str::to_owned));
    let mut held: Vec<(Option<String>, Table)> = held.into_iter().map(|t: Table| (named(&t), t)).collect();
    let mut written = ArrayOfTables::new();
    for (rule, position) in rules.iter().zip(1isize..) {
        let fields = rule.as_object().ok_or_else(|| shape("a rule is no object"))?;
        let name = fields.get("name").and_then(Value::as_str);
        let of_name = |(held, _): &(Option<String>, Table)| name.is_some() && held.as_deref() == name;
        let at = held.iter().position(of_name);
        // One that has another name now, and says the same, was renamed.
        let same = |(_, table): &(Option<String>, Table)| {
            let is = |key: &str| match (table.get(key).and_then(json), fields.get(key)) {
                (Some(held), Some(wanted)) => is_same(&held, wanted),
                _ => false,
            };
            is("when") && is("action")
        };
        let is_new =
            !rules.iter().any(|other| other.get("name").and_then(Value::as_str) == name && other != rule);
        let at = at.or_else(|| held.iter().position(same).filter(|_| is_new));
        let mut table = at.map_or_else(blank_line_before, |at| held.remove(at).1);
        fill(&mut table, fields)?;
        table.set_position(Some(position));
        written.push(table);
    }
    document.insert("rule", Item::ArrayOfTables(written));
    let text = document.to_string();
    Policy::parse(&text)?;
    Ok(text)
}

fn blank_line_before() -> Table {
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    table
}

/// Makes a table say what the fields say; what says it already stays as it is.
fn fill(table: &mut Table, fields: &Map<String, Value>) -> Result<(), FormError> {
    let gone: Vec<String> =
        table.iter().map(|(key, _)| key.to_owned()).filter(|key| !fields.contains_key(key)).collect();
    for key in gone {
        table.remove(&key);
    }
    // What people read first stands first, whatever the order of the form.
    let rank = |key: &str| {
        ["name", "description", "action", "grace", "when"].iter().position(|k| *k == key).unwrap_or(9)
    };
    let mut keys: Vec<&String> = fields.keys().collect();
    keys.sort_by_key(|key| (rank(key), key.as_str()));
    for key in keys {
        let value = &fields[key];
        let same = table.get(key).and_then(json).is_some_and(|held| is_same(&held, value));
        if same {
            continue;
        }
        let new = toml(value)?;
        match table.get_mut(key).and_then(Item::as_value_mut) {
            // The comment behind it stays.
            Some(held) => {
                let decor = held.decor().clone();
                *held = new;
                *held.decor_mut() = decor;
            }
            None => {
                table.insert(key, Item::Value(new));
            }
        }
    }
    Ok(())
}

/// Whether two values are one; who fills in fields may write 7 for 7.0.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| is_same(one, other)))
        }
        _ => one == other,
    }
}

/// An item as JSON: a value, or a table that is written as `[rule.when]`.
fn json(item: &Item) -> Option<Value> {
    match item {
        Item::Value(value) => value_json(value),
        Item::Table(table) => {
            let members = table.iter().map(|(key, item)| Some((key.to_owned(), json(item)?)));
            Some(Value::Object(members.collect::<Option<_>>()?))
        }
        Item::ArrayOfTables(list) => {
            let all = list.iter().map(|table| json(&Item::Table(table.clone())));
            Some(Value::Array(all.collect::<Option<_>>()?))
        }
        Item::None => None,
    }
}

fn value_json(value: &toml_edit::Value) -> Option<Value> {
    Some(match value {
        toml_edit::Value::String(text) => Value::from(text.value().as_str()),
        toml_edit::Value::Integer(number) => Value::from(*number.value()),
        toml_edit::Value::Float(number) => Value::from(*number.value()),
        toml_edit::Value::Boolean(flag) => Value::from(*flag.value()),
        toml_edit::Value::Datetime(_) => return None,
        toml_edit::Value::Array(list) => Value::Array(list.iter().map(value_json).collect::<Option<_>>()?),
        toml_edit::Value::InlineTable(table) => Value::Object(
            table
                .iter()
                .map(|(key, value)| Some((key.to_owned(), value_json(value)?)))
                .collect::<Option<_>>()?,
        ),
    })
}

fn toml(value: &Value) -> Result<toml_edit::Value, FormError> {
    Ok(match value {
        Value::Null => {
            return Err(FormError::Shape("a value is null; leave the field out instead".to_owned()));
        }
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(number)) => toml_edit::Value::Float(Formatted::new(number)),
            (None, None) => return Err(FormError::Shape(format!("{number} is no ordinary number"))),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(list) => {
            toml_edit::Value::Array(list.iter().map(toml).collect::<Result<Array, FormError>>()?)
        }
        Value::Object(fields) => {
            let mut table = InlineTable::new();
            for (key, value) in fields {
                table.insert(key, toml(value)?);
            }
            toml_edit::Value::InlineTable(table)
        }
    })
}
