//! From text and environment to values.

use super::keys::{KEYS, SECTIONS};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

const PREFIX: &str = "SIDETONE__";

/// What is wrong with the configuration, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(String);

impl ConfigError {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }
}

pub(super) fn read<T: DeserializeOwned>(
    name: &str,
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let mut table: Table =
        toml::from_str(text).map_err(|e| at_line(name, text, e.span(), e.message()))?;
    check_names(name, &table)?;
    // Once on its own, for errors with a line; then with the environment over it.
    if let Err(e) = toml::from_str::<T>(text) {
        return Err(at_line(name, text, e.span(), e.message()));
    }
    let mut from_environment = false;
    for (variable, value) in environment {
        if let Some(path) = variable.strip_prefix(PREFIX) {
            override_key(&mut table, &variable, path, &value)?;
            from_environment = true;
        }
    }
    let place = if from_environment {
        "SIDETONE__… in the environment"
    } else {
        name
    };
    Value::Table(table)
        .try_into()
        .map_err(|e: toml::de::Error| ConfigError(format!("{place}: {}", one_line(e.message()))))
}

fn at_line(
    name: &str,
    text: &str,
    span: Option<std::ops::Range<usize>>,
    message: &str,
) -> ConfigError {
    let message = one_line(message);
    let before = span.and_then(|span| text.get(..span.start));
    match before {
        Some(before) => {
            let line = before.matches('\n').count() + 1;
            ConfigError(format!("{name} line {line}: {message}"))
        }
        None => ConfigError(format!("{name}: {message}")),
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn check_names(name: &str, table: &Table) -> Result<(), ConfigError> {
    for (key, value) in table {
        if !SECTIONS.contains(&key.as_str()) {
            check_name(name, "", key)?;
            continue;
        }
        let Value::Table(section) = value else {
            return Err(ConfigError(format!(
                "{name}: {key} is a section: write [{key}]"
            )));
        };
        for inner in section.keys() {
            check_name(name, key, inner)?;
        }
    }
    Ok(())
}

fn check_name(place: &str, section: &str, key: &str) -> Result<(), ConfigError> {
    if KEYS.iter().any(|k| k.section == section && k.name == key) {
        return Ok(());
    }
    let path = join(section, key);
    let nearest = nearest(&path);
    Err(ConfigError(format!(
        "{place}: there is no key {path}; the nearest is {nearest}"
    )))
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}

/// The known key that differs in the fewest letters; in the right section, if that is known.
fn nearest(path: &str) -> String {
    let near = |known: &String| {
        let key = |p: &str| p.rsplit('.').next().unwrap_or_default().to_owned();
        let by_key = distance(&key(known), &key(path)) + 1;
        distance(known, path).min(by_key)
    };
    let mut known: Vec<String> = KEYS.iter().map(|k| join(k.section, k.name)).collect();
    known.extend(SECTIONS.iter().map(|section| format!("[{section}]")));
    known.into_iter().min_by_key(near).unwrap_or_default()
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

fn override_key(
    table: &mut Table,
    variable: &str,
    path: &str,
    text: &str,
) -> Result<(), ConfigError> {
    let path = path.to_ascii_lowercase();
    let (section, key) = path.split_once("__").unwrap_or(("", &path));
    check_name(variable, section, key)?;
    let value = value_of(section, key, text);
    if section.is_empty() {
        table.insert(key.to_owned(), value);
        return Ok(());
    }
    let entry = table
        .entry(section)
        .or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(inner) = entry {
        inner.insert(key.to_owned(), value);
    }
    Ok(())
}

/// A text where a text is wanted; otherwise TOML, and for lists also `a,b`.
fn value_of(section: &str, key: &str, text: &str) -> Value {
    let default = KEYS
        .iter()
        .find(|k| k.section == section && k.name == key)
        .map_or("", |k| k.default);
    let toml = || {
        let table: Table = toml::from_str(&format!("v = {text}")).ok()?;
        table.get("v").cloned()
    };
    let plain = || Value::String(text.to_owned());
    match default.chars().next() {
        Some('"') if !text.trim_start().starts_with('{') => plain(),
        Some('[') if !text.trim_start().starts_with('[') => Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Value::String(item.to_owned()))
                .collect(),
        ),
        _ => toml().unwrap_or_else(plain),
    }
}
