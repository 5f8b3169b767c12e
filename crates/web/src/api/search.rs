//! Full text over everything that the caller may see.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use serde::Deserialize;
use sidetone_model::{ConversationId, EventId};
use sidetone_store::Search;
use utoipa::IntoParams;

use super::Me;
use super::conversations::limit;
use super::shapes::Happened;
use crate::problem::Problem;
use crate::state::State;

/// Found at once, without a limit.
const FOUND: u32 = 20;
/// The longest query, in bytes.
const QUERY_BYTES: usize = 1_024;

/// What to look for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    /// Words; all of them have to be there. The last may be the beginning of one.
    q: String,
    /// In this conversation only.
    #[param(value_type = i64, required = false)]
    conversation: Option<i64>,
    /// Only events with a lower `id`: the next page.
    #[param(value_type = i64, required = false)]
    before: Option<i64>,
    /// At most so many, 1 to 500.
    #[param(value_type = u32, required = false)]
    limit: Option<u32>,
}

/// Finds what was said, the newest first. Of what was edited the last wording is found; what was
/// taken back is not.
#[utoipa::path(get, path = "/api/v1/search", tag = "conversations", params(Ask),
    responses((status = 200, body = [Happened])))]
pub(crate) async fn search(
    Shared(state): Shared<State>,
    Me(caller): Me,
    ask: Result<Query<Ask>, QueryRejection>,
) -> Result<Json<Vec<Happened>>, Problem> {
    let ask = ask.map_err(|_| {
        Problem::bad_request("q is needed; conversation, before and limit are numbers.")
    });
    let Query(ask) = ask?;
    if ask.q.len() > QUERY_BYTES {
        return Err(Problem::bad_request(
            "The query is longer than 1,024 bytes.",
        ));
    }
    let search = Search {
        person: &caller.address,
        words: &ask.q,
        conversation: ask.conversation.map(ConversationId),
        before: ask.before.map(EventId),
        limit: limit(ask.limit, FOUND)?,
    };
    let found = state.web.conversations.search(&search).await?;
    Ok(Json(found.into_iter().map(Happened::from).collect()))
}
