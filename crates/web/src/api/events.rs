//! What happens, as it happens: a WebSocket of JSON.
//!
//! The server says `hello`, then what was missed since the number that the client gave, then
//! what happens. The client may say things by the same way.
//!
//! *Invariant*: no event of the person's is left out and none comes twice: what a slow client
//! missed is read from the store.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State as Shared};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::SinkExt;
use serde::{Deserialize, Serialize};
use sidetone_model::{AddressOfRecord, ConversationId, EventId};
use sidetone_services::Content;
use sidetone_services::conversations::{Caller, News, Session};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, interval, timeout};
use utoipa::IntoParams;

use super::conversations::post;
use super::presence::Presence;
use super::shapes::{Format, Happened, Span};
use crate::auth;
use crate::problem::Problem;
use crate::serve::Place;
use crate::state::{State, now_ms};
use crate::websocket::origin_allowed;

/// The subprotocol; a browser, which cannot set headers, gives its token as a second one.
const PROTOCOL: &str = "sidetone";
const TOKEN_PREFIX: &str = "bearer.";
/// Small: thousands of sessions are idle.
const BUFFER_BYTES: usize = 2 * 1024;
/// When to try again where there are too many sessions.
const SESSIONS_RETRY_S: u64 = 60;
/// The largest thing that a client says.
const MESSAGE_BYTES: usize = 256 * 1024;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Since {
    /// The last event that the client has; without it, only what happens from now on.
    #[param(value_type = i64, required = false)]
    after: Option<i64>,
}

/// What the server says.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Told<'a> {
    /// The connection stands; events after this one follow.
    Hello {
        after: i64,
    },
    Event {
        event: Happened,
    },
    Receipt {
        conversation: i64,
        member: &'a str,
        delivered: u64,
        displayed: u64,
        /// Messages that will not arrive.
        #[serde(skip_serializing_if = "Option::is_none")]
        failed: Option<Span>,
    },
    Typing {
        conversation: i64,
        member: &'a str,
        active: bool,
    },
    /// Something of contacts, requests or blocks.
    Contact {
        address: &'a str,
        change: &'static str,
    },
    /// The state of somebody who is watched.
    Presence {
        presence: Presence,
    },
    /// What the client said is committed.
    Said {
        key: Option<&'a str>,
        id: i64,
        seq: Option<u64>,
    },
    /// What the client asked was not done.
    Refused {
        key: Option<&'a str>,
        problem: Problem,
    },
}

/// What a client says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Asked {
    Say {
        conversation: i64,
        text: String,
        #[serde(default)]
        format: Format,
        reply_to: Option<u64>,
        /// Comes back; a repetition says it once.
        key: Option<String>,
    },
    Receipt {
        conversation: i64,
        seq: u64,
        #[serde(default)]
        displayed: bool,
    },
    Typing {
        conversation: i64,
        active: bool,
    },
    /// Whose presence to tell, from now on; those named before are no longer watched.
    Watch {
        addresses: Vec<String>,
    },
    /// A new access token, before the old one ends.
    Token {
        access_token: String,
    },
}

/// A WebSocket, subprotocol `sidetone`, of what happens. A browser, which cannot set headers, offers
/// its token as a second subprotocol: `bearer.TOKEN`.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(Since),
    responses((status = 101, description = "A WebSocket")))]
pub(crate) async fn upgrade(
    Shared(state): Shared<State>,
    place: Option<Extension<Place>>,
    Extension(peer): Extension<crate::Peer>,
    headers: HeaderMap,
    since: Result<Query<Since>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if !origin_allowed(&headers, &state.web.settings.origins) {
        let detail = "Pages of this origin may not use this server.";
        let status = axum::http::StatusCode::FORBIDDEN;
        return Problem::new(status, "Origin refused", detail).into_response();
    }
    let claims = auth::bearer(&state, &headers).or_else(|| offered(&state, &headers));
    let Some(claims) = claims else {
        return Problem::unauthorized().into_response();
    };
    let caller = match super::caller(&state, &claims) {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    let Ok(Query(since)) = since else {
        return Problem::bad_request("after is a number.").into_response();
    };
    let Ok(upgrade) = upgrade else {
        return Problem::bad_request("This address speaks WebSocket only.").into_response();
    };
    let counted = state.count_account(&claims.sub, peer.remote.ip());
    if let Err(problem) = counted.and_then(|()| has_room(&state, &caller)) {
        return problem.into_response();
    }
    let source = peer.remote.ip();
    upgrade
        .protocols([PROTOCOL])
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(MESSAGE_BYTES)
        .max_frame_size(MESSAGE_BYTES)
        .max_write_buffer_size(4 * MESSAGE_BYTES)
        .on_upgrade(move |socket| async move {
            let after = since.after.map(EventId);
            let listener = Listener::new(state, caller, (claims, source), socket);
            // Boxed: what waits in it is small, what works in it is not.
            Box::pin(listener.serve(after)).await;
            // The connection counted until here.
            drop(place);
        })
}

/// Whether the account may open another session. Those that open at the same moment are counted once more in
/// [`Listener::serve`].
fn has_room(state: &State, caller: &Caller) -> Result<(), Problem> {
    let sessions = state.web.conversations.sessions();
    match sessions.count(&caller.address) < state.web.settings.rates.sessions {
        true => Ok(()),
        false => Err(Problem::too_many(SESSIONS_RETRY_S)),
    }
}

/// The token among the subprotocols.
fn offered(state: &State, headers: &HeaderMap) -> Option<crate::Claims> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut names = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let token = names.find_map(|name| name.trim().strip_prefix(TOKEN_PREFIX))?;
    state.web.tokens.check(token, now_ms() / 1000)
}

struct Listener {
    state: State,
    caller: Caller,
    subject: String,
    source: IpAddr,
    ends: Instant,
    session: Session,
    socket: WebSocket,
    seen: EventId,
    /// Something was said that may still wait for company.
    unsent: bool,
    watched: HashSet<AddressOfRecord>,
}

/// People watched by one session.
const WATCHED_MAX: usize = 1_000;

/// The connection is over.
struct Over;

type Go = Result<(), Over>;

impl Listener {
    fn new(
        state: State,
        caller: Caller,
        (claims, source): (crate::Claims, IpAddr),
        socket: WebSocket,
    ) -> Self {
        let conversations = Arc::clone(&state.web.conversations);
        Self {
            session: conversations.listen(caller.address.clone()),
            ends: end_of(&claims),
            subject: claims.sub,
            source,
            state,
            caller,
            socket,
            seen: EventId(0),
            unsent: false,
            watched: HashSet::new(),
        }
    }

    async fn serve(mut self, after: Option<EventId>) {
        let own = &self.caller.address;
        let open = self.state.web.conversations.sessions().count(own);
        if open > self.state.web.settings.rates.sessions {
            let _ = self.close(4429, "too many sessions").await;
            return;
        }
        self.count_sessions(0);
        // An end is an end, however it came.
        let _ = self.run(after).await;
        self.count_sessions(1);
    }

    /// Tells how many sessions this person has, but for so many that are ending.
    fn count_sessions(&self, ending: usize) {
        let own = &self.caller.address;
        let open = self.state.web.conversations.sessions().count(own);
        let open = u32::try_from(open.saturating_sub(ending)).unwrap_or(u32::MAX);
        self.state.web.presences.sessions(own, open);
    }

    async fn run(&mut self, after: Option<EventId>) -> Go {
        self.seen = match after {
            Some(after) => after,
            None => {
                let store = self.state.web.conversations.store();
                store.last_event().await.map_err(|_| Over)?
            }
        };
        self.tell(&Told::Hello { after: self.seen.0 }).await?;
        self.catch_up().await?;
        let patience = self.state.web.settings.patience;
        let mut closing = self.state.web.closing.clone();
        let mut feed = self.state.web.presences.feed();
        let mut pings = interval(patience.ping);
        let mut heard = Instant::now();
        loop {
            if self.unsent && !self.session.has_news() {
                self.flush().await?;
            }
            tokio::select! {
                news = self.session.next() => match news {
                    Some(news) => self.pass_on(news).await?,
                    None => self.catch_up().await?,
                },
                changed = feed.recv() => self.presence_changed(changed).await?,
                message = self.socket.recv() => {
                    heard = Instant::now();
                    let Some(Ok(message)) = message else { return Err(Over) };
                    self.hear(message).await?;
                }
                _ = pings.tick() => {
                    if !self.is_welcome() {
                        return self.close(4401, "the account may not sign in any more").await;
                    }
                    if heard.elapsed() > patience.silence {
                        return Err(Over);
                    }
                    self.send(Message::Ping(bytes::Bytes::new())).await?;
                }
                () = tokio::time::sleep_until(self.ends) => {
                    return self.close(4401, "the access token has ended").await;
                }
                () = closed(&mut closing) => {
                    return self.close(1001, "the server closes").await;
                }
            }
        }
    }

    async fn presence_changed(
        &mut self,
        changed: Result<AddressOfRecord, broadcast::error::RecvError>,
    ) -> Go {
        match changed {
            Ok(person) if self.watched.contains(&person) => self.tell_presence(&person).await,
            Ok(_) => Ok(()),
            // Too many at once: what is so now is told of everybody.
            Err(broadcast::error::RecvError::Lagged(_)) => self.tell_presences().await,
            Err(broadcast::error::RecvError::Closed) => Err(Over),
        }
    }

    async fn tell_presences(&mut self) -> Go {
        let people: Vec<AddressOfRecord> = self.watched.iter().cloned().collect();
        for person in people {
            self.tell_presence(&person).await?;
        }
        Ok(())
    }

    async fn tell_presence(&mut self, person: &AddressOfRecord) -> Go {
        let seen = self.state.web.presences.seen(&self.caller.address, person);
        let presence = Presence::of(person.as_str(), seen);
        self.tell(&Told::Presence { presence }).await
    }

    async fn watch(&mut self, addresses: Vec<String>) -> Go {
        let known = |text: &String| super::address(&self.state, text).ok();
        self.watched = addresses
            .iter()
            .take(WATCHED_MAX)
            .filter_map(known)
            .collect();
        self.tell_presences().await
    }

    /// Reads from the store what came after the last event that was told.
    async fn catch_up(&mut self) -> Go {
        loop {
            let conversations = &self.state.web.conversations;
            let missed = conversations.missed(&self.caller.address, self.seen).await;
            let missed = missed.map_err(|_| Over)?;
            if missed.is_empty() {
                return Ok(());
            }
            for event in missed {
                self.tell_event(event.event.id, event).await?;
            }
        }
    }

    async fn pass_on(&mut self, news: News) -> Go {
        match news {
            News::Event(event) if event.id > self.seen => {
                self.tell_event(event.id, Arc::unwrap_or_clone(event)).await
            }
            // It was read from the store before.
            News::Event(_) => Ok(()),
            News::Receipt(mark) => {
                self.tell(&Told::Receipt {
                    conversation: mark.conversation.0,
                    member: mark.address.as_str(),
                    delivered: mark.delivered,
                    displayed: mark.displayed,
                    failed: None,
                })
                .await
            }
            News::Failed(failure) => {
                self.tell(&Told::Receipt {
                    conversation: failure.conversation.0,
                    member: failure.address.as_str(),
                    delivered: 0,
                    displayed: 0,
                    failed: Some(failure.range.into()),
                })
                .await
            }
            News::Contact(news) => {
                self.tell(&Told::Contact {
                    address: news.address.as_str(),
                    change: news.change.as_str(),
                })
                .await
            }
            News::Typing(typing) => {
                self.tell(&Told::Typing {
                    conversation: typing.conversation.0,
                    member: typing.member.as_str(),
                    active: typing.active,
                })
                .await
            }
        }
    }

    async fn tell_event(&mut self, id: EventId, event: impl Into<Happened>) -> Go {
        self.seen = id;
        let event = event.into();
        self.tell(&Told::Event { event }).await
    }

    async fn hear(&mut self, message: Message) -> Go {
        let text = match message {
            Message::Text(text) => text,
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Binary(_) => return self.close(1003, "JSON only").await,
            Message::Close(_) => return Err(Over),
        };
        if let Err(problem) = self.state.count_account(&self.subject, self.source) {
            return self.tell(&Told::Refused { key: None, problem }).await;
        }
        match serde_json::from_str::<Asked>(&text) {
            Ok(asked) => self.answer(asked).await,
            Err(error) => {
                let detail = format!("This is nothing that can be asked: {error}.");
                let status = axum::http::StatusCode::BAD_REQUEST;
                let problem = Problem::said(status, "Bad request", detail);
                self.tell(&Told::Refused { key: None, problem }).await
            }
        }
    }

    async fn answer(&mut self, asked: Asked) -> Go {
        let conversations = Arc::clone(&self.state.web.conversations);
        let own = self.caller.address.clone();
        let done = match asked {
            Asked::Say {
                conversation,
                text,
                format,
                reply_to,
                key,
            } => {
                let content = Content::Text {
                    text,
                    format: format.into(),
                    reply_to,
                };
                return self.say(conversation, content, key).await;
            }
            Asked::Receipt {
                conversation,
                seq,
                displayed,
            } => {
                let id = ConversationId(conversation);
                conversations
                    .receipt(now_ms(), id, &own, seq, displayed)
                    .await
            }
            Asked::Typing {
                conversation,
                active,
            } => {
                let id = ConversationId(conversation);
                conversations.typing(now_ms(), id, &own, active).await
            }
            Asked::Watch { addresses } => return self.watch(addresses).await,
            Asked::Token { access_token } => return self.go_on(&access_token).await,
        };
        match done {
            Ok(()) => Ok(()),
            Err(error) => {
                let problem = error.into();
                self.tell(&Told::Refused { key: None, problem }).await
            }
        }
    }

    async fn say(&mut self, conversation: i64, content: Content, key: Option<String>) -> Go {
        let key = key.as_deref();
        let id = ConversationId(conversation);
        match post(&self.state, &self.caller, id, content, key).await {
            Ok(said) => {
                let (id, seq) = (said.id, said.seq);
                self.tell(&Told::Said { key, id, seq }).await
            }
            Err(problem) => self.tell(&Told::Refused { key, problem }).await,
        }
    }

    /// Whether the account is still there and may sign in.
    fn is_welcome(&self) -> bool {
        let account = self.state.web.directory.find(self.caller.address.as_str());
        account.is_some_and(|account| {
            account.account.0.to_string() == self.subject && !account.disabled
        })
    }

    /// A new token of the same account prolongs the session.
    async fn go_on(&mut self, token: &str) -> Go {
        let claims = self.state.web.tokens.check(token, now_ms() / 1000);
        let same = claims.filter(|claims| claims.sub == self.subject);
        let caller = same.and_then(|claims| {
            let caller = super::caller(&self.state, &claims).ok()?;
            Some((caller, end_of(&claims)))
        });
        match caller {
            Some((caller, ends)) => {
                (self.caller, self.ends) = (caller, ends);
                Ok(())
            }
            None => self.close(4401, "the access token is not good").await,
        }
    }

    async fn tell(&mut self, told: &Told<'_>) -> Go {
        let text = serde_json::to_string(told).map_err(|_| Over)?;
        self.unsent = true;
        let stuck = self.state.web.settings.patience.stuck;
        in_time(timeout(stuck, self.socket.feed(Message::Text(text.into()))).await)
    }

    /// What was told at once is written at once: each write wakes the kernel, and TLS makes a record of it.
    async fn flush(&mut self) -> Go {
        self.unsent = false;
        let stuck = self.state.web.settings.patience.stuck;
        in_time(timeout(stuck, self.socket.flush()).await)
    }

    async fn send(&mut self, message: Message) -> Go {
        let stuck = self.state.web.settings.patience.stuck;
        in_time(timeout(stuck, self.socket.send(message)).await)
    }

    async fn close(&mut self, code: u16, why: &'static str) -> Go {
        let frame = CloseFrame {
            code,
            reason: why.into(),
        };
        self.send(Message::Close(Some(frame))).await?;
        Err(Over)
    }
}

fn in_time<E>(done: Result<Result<(), E>, tokio::time::error::Elapsed>) -> Go {
    match done {
        Ok(Ok(())) => Ok(()),
        _ => Err(Over),
    }
}

/// Waits until the server closes.
async fn closed(closing: &mut watch::Receiver<bool>) {
    // Without a sender it has closed.
    let _ = closing.wait_for(|closing| *closing).await;
}

fn end_of(claims: &crate::Claims) -> Instant {
    let left_s = claims.exp.saturating_sub(now_ms() / 1000);
    Instant::now() + Duration::from_secs(left_s)
}
