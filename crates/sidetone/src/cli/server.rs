//! `sidetone backup`, `restore`, `status` and `unban`

use super::{Context, Failure, say, say_json};
use crate::control::{self, AskError, ControlRequest};
use serde_json::Value;
use std::net::IpAddr;
use std::path::Path;

pub(super) fn backup(context: &Context, file: &Path) -> Result<(), Failure> {
    context.with_store(async |store| Ok(store.backup(file).await?))?;
    say(&format!("wrote {}\n", file.display()))
}

pub(super) fn restore(context: &Context, file: &Path) -> Result<(), Failure> {
    if context.config.store.url != "sqlite" {
        return Err(Failure::new(
            "restore works with store.url = \"sqlite\": copy the file by hand elsewhere",
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(sidetone_store::restore(file, &context.data))?;
    say(&format!("restored {}\n", context.data.display()))
}

pub(super) fn status(context: &Context, as_json: bool) -> Result<(), Failure> {
    let status = ask(context, &ControlRequest::Status)?;
    if as_json {
        return say_json(&status);
    }
    let mut text = String::new();
    flatten(&status, "", &mut text);
    say(&text)
}

pub(super) fn unban(context: &Context, address: IpAddr) -> Result<(), Failure> {
    ask(context, &ControlRequest::Unban { address })?;
    say(&format!("{address} may try again\n"))
}

fn ask(context: &Context, request: &ControlRequest) -> Result<Value, Failure> {
    control::ask(&context.data, request).map_err(|error| match error {
        AskError::NotRunning(_) => Failure::new(format!(
            "{error}: start it with `sidetone serve`, or name its directory with --data"
        )),
        other => Failure::new(other.to_string()),
    })
}

/// `queues.store  3` a line; a list of plain values on one line.
fn flatten(value: &Value, path: &str, text: &mut String) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let path = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                flatten(inner, &path, text);
            }
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            text.push_str(&format!("{path:24}  {}\n", items.join(", ")));
        }
        other => text.push_str(&format!("{path:24}  {}\n", plain(other))),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
