//! What an event says, as columns: a kind, a body for texts and files' captions, and the rest as JSON.
//!
//! *Invariant*: what was written is read back the same; a name once written keeps its meaning.

use crate::StoreError;
use bytes::Bytes;
use serde_json::{Value, json};
use sidetone_model::{
    AddressOfRecord, EventBody, FileId, FileKind, FileRef, History, Kind, ParticipantRole,
    TextFormat,
};

const PLAIN: &str = "text/plain";
const MARKDOWN: &str = "text/markdown";

/// The columns of an event's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The kind of event.
    pub kind: &'static str,
    /// JSON.
    pub detail: String,
    /// Of the body.
    pub content_type: String,
    /// Header lines that came with the body.
    pub headers: String,
    /// What is said, where something is.
    pub body: Bytes,
}

/// An event's body to columns.
pub fn encode(body: &EventBody) -> Encoded {
    let (kind, detail) = detail_of(body);
    let (content_type, headers, octets) = match body {
        EventBody::Text { text, format, .. } | EventBody::Edit { text, format, .. } => {
            (media_type(*format), "", Bytes::from(text.clone()))
        }
        EventBody::Opaque {
            content_type,
            headers,
            body,
        } => (content_type.as_str(), headers.as_str(), body.clone()),
        EventBody::File { caption, .. } => (PLAIN, "", Bytes::from(caption.clone())),
        EventBody::System { text } => (PLAIN, "", Bytes::from(text.clone())),
        _ => (PLAIN, "", Bytes::new()),
    };
    Encoded {
        kind,
        detail: detail.to_string(),
        content_type: content_type.to_owned(),
        headers: headers.to_owned(),
        body: octets,
    }
}

fn media_type(format: TextFormat) -> &'static str {
    match format {
        TextFormat::Plain => PLAIN,
        TextFormat::Markdown => MARKDOWN,
    }
}

fn detail_of(body: &EventBody) -> (&'static str, Value) {
    match body {
        EventBody::Opened {
            kind,
            address,
            members,
            subject,
        } => {
            let members = members.iter();
            let members = members.map(|(member, role)| json!([member.as_str(), role.as_str()]));
            let detail = json!({ "kind": kind.as_str(), "address": address.as_str(),
                "members": Value::from_iter(members), "subject": subject });
            ("opened", detail)
        }
        EventBody::Text { reply_to, .. } => ("text", json!({ "reply_to": reply_to })),
        EventBody::Opaque { .. } => ("opaque", json!({})),
        EventBody::File { file, reply_to, .. } => (
            "file",
            json!({ "file": file_json(file), "reply_to": reply_to }),
        ),
        EventBody::Reaction {
            target,
            emoji,
            removed,
        } => {
            let detail = json!({ "target": target, "emoji": emoji, "removed": removed });
            ("reaction", detail)
        }
        EventBody::Edit { target, .. } => ("edit", json!({ "target": target })),
        EventBody::Retraction { target } => ("retraction", json!({ "target": target })),
        EventBody::MemberAdded {
            member,
            role,
            horizon,
            history,
        } => {
            let detail = json!({ "member": member.as_str(), "role": role.as_str(),
                "horizon": horizon, "history": history_json(*history) });
            ("member_added", detail)
        }
        EventBody::MemberRemoved { member } => {
            ("member_removed", json!({ "member": member.as_str() }))
        }
        EventBody::RoleChanged { member, role } => {
            let detail = json!({ "member": member.as_str(), "role": role.as_str() });
            ("role_changed", detail)
        }
        EventBody::SubjectChanged { subject } => ("subject_changed", json!({ "subject": subject })),
        EventBody::AvatarChanged { avatar } => {
            ("avatar_changed", json!({ "avatar": avatar.map(|id| id.0) }))
        }
        EventBody::System { .. } => ("system", json!({})),
    }
}

fn file_json(file: &FileRef) -> Value {
    json!({
        "id": file.id.0, "name": file.name, "kind": file.kind.as_str(),
        "digest": file.digest.as_ref().map(|digest| crate::files::hex(digest)),
        "content_type": file.content_type,
        "octets": file.octets, "width": file.width, "height": file.height,
        "duration_ms": file.duration_ms,
    })
}

fn history_json(history: History) -> Value {
    match history {
        History::FromNow => json!("from_now"),
        History::All => json!("all"),
        History::Last(count) => json!(count),
    }
}

/// Columns to an event's body.
pub(super) fn decode(
    kind: &str,
    detail: &str,
    content_type: &str,
    headers: &str,
    body: Bytes,
) -> Result<EventBody, StoreError> {
    let detail: Value = serde_json::from_str(detail).map_err(|_| CORRUPT)?;
    let detail = Detail(&detail);
    Ok(match kind {
        "opened" => EventBody::Opened {
            kind: kind_of(detail.text("kind")?)?,
            address: detail.address("address")?,
            members: detail.members()?,
            subject: detail.text("subject")?.to_owned(),
        },
        "text" => EventBody::Text {
            text: text_of(&body),
            format: format_of(content_type),
            reply_to: detail.0["reply_to"].as_u64(),
        },
        "opaque" => EventBody::Opaque {
            content_type: content_type.to_owned(),
            headers: headers.to_owned(),
            body,
        },
        "file" => EventBody::File {
            file: file_of(&Detail(&detail.0["file"]))?,
            caption: text_of(&body),
            reply_to: detail.0["reply_to"].as_u64(),
        },
        "reaction" => EventBody::Reaction {
            target: detail.number("target")?,
            emoji: detail.text("emoji")?.to_owned(),
            removed: detail.0["removed"].as_bool().ok_or(CORRUPT)?,
        },
        "edit" => EventBody::Edit {
            target: detail.number("target")?,
            text: text_of(&body),
            format: format_of(content_type),
        },
        "retraction" => EventBody::Retraction {
            target: detail.number("target")?,
        },
        "member_added" => EventBody::MemberAdded {
            member: detail.address("member")?,
            role: role_of(detail.text("role")?)?,
            horizon: detail.number("horizon")?,
            history: history_of(&detail.0["history"])?,
        },
        "member_removed" => EventBody::MemberRemoved {
            member: detail.address("member")?,
        },
        "role_changed" => EventBody::RoleChanged {
            member: detail.address("member")?,
            role: role_of(detail.text("role")?)?,
        },
        "subject_changed" => EventBody::SubjectChanged {
            subject: detail.text("subject")?.to_owned(),
        },
        "avatar_changed" => EventBody::AvatarChanged {
            avatar: detail.0["avatar"].as_i64().map(FileId),
        },
        "system" => EventBody::System {
            text: text_of(&body),
        },
        _ => return Err(CORRUPT),
    })
}

const CORRUPT: StoreError = StoreError::Corrupt("event");

struct Detail<'a>(&'a Value);

impl Detail<'_> {
    fn text(&self, key: &str) -> Result<&str, StoreError> {
        self.0[key].as_str().ok_or(CORRUPT)
    }

    fn number(&self, key: &str) -> Result<u64, StoreError> {
        self.0[key].as_u64().ok_or(CORRUPT)
    }

    fn address(&self, key: &str) -> Result<AddressOfRecord, StoreError> {
        self.text(key)?.parse().map_err(|_| CORRUPT)
    }

    fn members(&self) -> Result<Vec<(AddressOfRecord, ParticipantRole)>, StoreError> {
        let rows = self.0["members"].as_array().ok_or(CORRUPT)?;
        let member = |row: &Value| {
            let address = row[0].as_str().ok_or(CORRUPT)?;
            let role = role_of(row[1].as_str().ok_or(CORRUPT)?)?;
            Ok((address.parse().map_err(|_| CORRUPT)?, role))
        };
        rows.iter().map(member).collect()
    }
}

fn text_of(body: &Bytes) -> String {
    String::from_utf8_lossy(body).into_owned()
}

fn format_of(content_type: &str) -> TextFormat {
    match content_type {
        MARKDOWN => TextFormat::Markdown,
        _ => TextFormat::Plain,
    }
}

/// The file that a row of kind `file` brings.
pub(crate) fn file_in(detail: &str) -> Result<FileRef, StoreError> {
    let detail: Value = serde_json::from_str(detail).map_err(|_| CORRUPT)?;
    file_of(&Detail(&detail["file"]))
}

fn kind_of_file(name: Option<&str>) -> FileKind {
    use FileKind::{File, Picture, Sound, Video, VoiceNote};
    let all = [Picture, Sound, VoiceNote, Video];
    let found = all.into_iter().find(|kind| Some(kind.as_str()) == name);
    found.unwrap_or(File)
}

fn file_of(detail: &Detail<'_>) -> Result<FileRef, StoreError> {
    let small = |key: &str| detail.0[key].as_u64().and_then(|n| u32::try_from(n).ok());
    Ok(FileRef {
        id: FileId(detail.0["id"].as_i64().ok_or(CORRUPT)?),
        name: detail.text("name")?.to_owned(),
        kind: kind_of_file(detail.0["kind"].as_str()),
        digest: detail.0["digest"].as_str().and_then(crate::files::unhex),
        content_type: detail.0["content_type"].as_str().map(str::to_owned),
        octets: detail.0["octets"].as_u64(),
        width: small("width"),
        height: small("height"),
        duration_ms: detail.0["duration_ms"].as_u64(),
    })
}

fn history_of(value: &Value) -> Result<History, StoreError> {
    match value {
        Value::String(name) if name == "from_now" => Ok(History::FromNow),
        Value::String(name) if name == "all" => Ok(History::All),
        Value::Number(count) => {
            let count = count.as_u64().and_then(|n| u32::try_from(n).ok());
            count.map(History::Last).ok_or(CORRUPT)
        }
        _ => Err(CORRUPT),
    }
}

/// The kind of conversation that a column names.
pub fn kind_of(name: &str) -> Result<Kind, StoreError> {
    let all = [Kind::Pair, Kind::Group, Kind::Managed];
    let found = all.into_iter().find(|kind| kind.as_str() == name);
    found.ok_or(StoreError::Corrupt("kind of conversation"))
}

/// The role that a column names.
pub fn role_of(name: &str) -> Result<ParticipantRole, StoreError> {
    use ParticipantRole::{Guest, Member, Moderator, Owner};
    let all = [Guest, Member, Moderator, Owner];
    let found = all.into_iter().find(|role| role.as_str() == name);
    found.ok_or(StoreError::Corrupt("role in a conversation"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<EventBody> {
        let bob: AddressOfRecord = "bob@x.org".parse().unwrap();
        vec![
            EventBody::Opened {
                kind: Kind::Pair,
                address: bob.clone(),
                members: vec![(bob.clone(), ParticipantRole::Owner)],
                subject: "S".into(),
            },
            EventBody::Text {
                text: "hei på deg, 你好".into(),
                format: TextFormat::Markdown,
                reply_to: Some(4),
            },
            EventBody::Opaque {
                content_type: "image/png".into(),
                headers: "Subject: x\r\n".into(),
                body: Bytes::from_static(&[0, 255]),
            },
            EventBody::File {
                file: FileRef {
                    id: FileId(7),
                    name: "a.png".into(),
                    kind: FileKind::Picture,
                    digest: Some([0xa5; 32]),
                    content_type: Some("image/png".into()),
                    octets: Some(3),
                    width: Some(1),
                    height: None,
                    duration_ms: None,
                },
                caption: "look".into(),
                reply_to: None,
            },
            EventBody::Reaction {
                target: 3,
                emoji: "👍".into(),
                removed: true,
            },
            EventBody::Edit {
                target: 3,
                text: "better".into(),
                format: TextFormat::Plain,
            },
            EventBody::Retraction { target: 3 },
            EventBody::MemberAdded {
                member: bob.clone(),
                role: ParticipantRole::Guest,
                horizon: 9,
                history: History::Last(2),
            },
            EventBody::MemberRemoved {
                member: bob.clone(),
            },
            EventBody::RoleChanged {
                member: bob,
                role: ParticipantRole::Moderator,
            },
            EventBody::SubjectChanged {
                subject: "T".into(),
            },
            EventBody::AvatarChanged {
                avatar: Some(FileId(2)),
            },
            EventBody::System { text: "x".into() },
        ]
    }

    #[test]
    fn what_is_written_is_read_back_the_same() {
        for body in all() {
            let e = encode(&body);
            let read = decode(e.kind, &e.detail, &e.content_type, &e.headers, e.body);
            assert_eq!(read.unwrap(), body);
        }
    }

    #[test]
    fn what_is_no_event_is_an_error() {
        assert!(decode("text", "no JSON", "", "", Bytes::new()).is_err());
        assert!(decode("else", "{}", "", "", Bytes::new()).is_err());
        assert!(decode("reaction", "{}", "", "", Bytes::new()).is_err());
        assert!(decode("member_removed", "{\"member\":\"\"}", "", "", Bytes::new()).is_err());
    }
}
